"""PSP's body restated in NumPy, float64, one clip at a time, for PSP, CPSP and VSCG."""

from __future__ import annotations

import numpy as np
from restatement import Restatement, relu, sigmoid


def cosines(v, a):
    return np.array([x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(v, a, strict=True)])


class Propagating(Restatement):
    """Counts the connections that are cut and kept, so that a test can demand both."""

    cut = kept = 0

    def __init__(self, method, threshold):
        super().__init__(method)
        self.threshold = threshold

    def branch(self, name, x):
        return relu(self.linear(f"{name}.0", x))

    def connections(self, resemblance, refined):
        rows = []
        for row in resemblance:
            shares = row / (row.sum() + 1e-8)
            self.cut += int(((shares > 0) & (shares <= self.threshold)).sum())
            self.kept += int((shares > self.threshold).sum())
            shares = np.array([share if share > self.threshold else 0.0 for share in shares])
            rows.append(shares / (shares.sum() + 1e-8) if refined else shares)
        return np.stack(rows)

    def propagate(self, v, a, refined, projected, normalized):
        of = {name: f"propagation.{name}" for name in ("visual_key", "audio_key", "audio_value", "visual_value")}
        resemblance = relu(self.branch(of["visual_key"], v) @ self.branch(of["audio_key"], a).T / np.sqrt(v.shape[1]))
        visual = v + self.connections(resemblance, refined) @ self.branch(of["audio_value"], a)
        audio = a + self.connections(resemblance.T, refined) @ self.branch(of["visual_value"], v)
        if projected:
            visual, audio = self.branch("propagation.visual_output", visual), self.branch("propagation.audio_output", audio)
        if not normalized:
            return visual, audio
        return self.norm("propagation.norm", visual, eps=1e-6), self.norm("propagation.norm", audio, eps=1e-6)

    def body(self, visual, audio, refined, projected=None, normalized=True):
        """(T, S, D_v), (T, D_a) -> visual (T, D), audio (T, D), attention (T, S); ``refined``: the supervised form."""
        if refined:
            audio = self.linear("audio_input.1", self.linear("audio_input.0", audio))
        pooled, weights = zip(*(self.audio_guided("attention", v, a) for v, a in zip(visual, audio, strict=True)), strict=True)
        pooled = np.stack(pooled)
        hidden = self.linear("visual_input.1", self.linear("visual_input.0", pooled)) if refined else self.linear("visual_input", pooled)
        v, a = self.lstm("visual_lstm", hidden), self.lstm("audio_lstm", audio)
        return *self.propagate(v, a, refined, refined if projected is None else projected, normalized), np.stack(weights)

    def segment_logits(self, fused):
        logits = self.linear("classifier.2", relu(self.linear("classifier.0", fused)))
        if "temporal_weight.weight" in self.state:
            logits = logits * sigmoid(relu(self.linear("temporal_weight", logits)))
        return logits
