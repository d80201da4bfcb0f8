"""MM-Pyramid's encoder restated in NumPy, float64, one clip and one segment at a time."""

from __future__ import annotations

import numpy as np
from restatement import Restatement, relu, sigmoid


class Pyramid(Restatement):
    """One clip's streams through the encoder, from the spec's formulas."""

    levels = 3

    def encode(self, audio, visual, cross=True, name=""):
        levels = []
        for level in range(self.levels):
            audio, visual = self.level(f"{name}levels.{level}", audio, visual, 2**level, cross)
            levels.append((audio, visual))
        return [self.fusion(f"{name}{modality}_fusion", [pair[m] for pair in levels]) for m, modality in enumerate(("audio", "visual"))]

    def level(self, name, audio, visual, distance, cross):
        mixed = []
        for modality, own, other in (("audio", audio, visual), ("visual", visual, audio)):
            s = self.block(f"{name}.own_{modality}", own, own, distance)
            c = self.block(f"{name}.cross", own, other, distance) if cross else np.zeros_like(own)
            both = np.concatenate([s, c], axis=1)
            m = sigmoid(self.linear(f"{name}.own_gates.{modality}", both)) * s
            m = m + sigmoid(self.linear(f"{name}.cross_gates.{modality}", both)) * c
            mixed.append(relu(m + self.convolved(name, modality, m, distance)))
        return mixed

    def block(self, name, query, other, distance):
        h = query + self.windowed(f"{name}.attention", self.norm(f"{name}.attention_norm", query), other, distance)
        hidden = relu(self.linear(f"{name}.feedforward.0", self.norm(f"{name}.feedforward_norm", h)))
        return h + self.linear(f"{name}.feedforward.3", hidden)

    def windowed(self, name, query, other, distance):
        """Each segment attends to those from ``t - distance`` to ``t + distance``; the keys are not normalised."""
        near = [other[max(0, t - distance) : t + distance + 1] for t in range(len(query))]
        return np.concatenate([self.multi_head(name, query[t : t + 1], keys) for t, keys in enumerate(near)])

    def convolved(self, name, modality, m, dilation):
        weight, bias = self.state[f"{name}.wide.{modality}.weight"], self.state[f"{name}.wide.{modality}.bias"]
        rows = []
        for t in range(len(m)):
            taps = [(k, t + (k - 1) * dilation) for k in range(3)]
            rows.append(bias + sum(weight[:, :, k] @ m[at] for k, at in taps if 0 <= at < len(m)))
        narrow = self.state[f"{name}.narrow.{modality}.weight"][:, :, 0]
        return relu(np.stack(rows)) @ narrow.T + self.state[f"{name}.narrow.{modality}.bias"]

    def fusion(self, name, levels):
        rows = []
        for tokens in np.stack(levels, axis=1):  # (levels, D) of a segment
            z = self.block(f"{name}.block", tokens, tokens, len(levels))
            rows.append((sigmoid(self.linear(f"{name}.gate", z)) * z).sum(axis=0))
        return np.stack(rows)
