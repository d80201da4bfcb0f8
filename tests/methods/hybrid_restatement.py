"""HAN's layer and MMIL pooling restated in NumPy, float64, one clip at a time."""

from __future__ import annotations

import numpy as np
from restatement import Restatement, relu, sigmoid, softmax


class HybridRestatement(Restatement):
    """Blocks over one clip's segments (T, D), by the prefix of their weights."""

    def front_end(self, visual, audio, motion):
        """(T, S, D_v), (T, D_a), (T, D_m) or None -> audio, visual; the frames averaged after their layer."""
        audio = self.linear("front_end.audio", audio)
        visual = self.linear("front_end.visual", visual).mean(axis=1)
        if motion is not None:
            visual = self.linear("front_end.fusion", np.concatenate([visual, self.linear("front_end.motion", motion)], axis=1))
        return audio, visual

    def layer(self, name, q, o, heads=1):
        own, cross = (self.multi_head(f"{name}.{part}", q, keys, heads) for part, keys in (("own", q), ("cross", o)))
        h = self.norm(f"{name}.attention_norm", q + cross + own)
        hidden = self.linear(f"{name}.feedforward.3", relu(self.linear(f"{name}.feedforward.0", h)))
        return self.norm(f"{name}.feedforward_norm", h + hidden)

    def layers(self, name, number, audio, visual, heads, sequential):
        """Both streams through layers one after another."""
        for layer in (f"{name}layers.{n}" for n in range(number)):
            updated = self.layer(layer, audio, visual, heads)
            visual = self.layer(layer, visual, updated if sequential else audio, heads)
            audio = updated
        return audio, visual

    def mmil(self, audio, visual):
        """p^a, p^v (T, C), P^a, P^v, P (C,)."""
        streams = (audio, visual)
        p = [sigmoid(self.linear("pooling.classifier", x)) for x in streams]
        over_time = [softmax(self.linear("pooling.over_time", x).T).T for x in streams]
        over_modalities = softmax(np.stack([self.linear("pooling.over_modalities", x) for x in streams], axis=-1))
        clips = [(w * q).sum(axis=0) for w, q in zip(over_time, p, strict=True)]
        return *p, *clips, sum((over_time[m] * over_modalities[..., m] * p[m]).sum(axis=0) for m in range(2))
