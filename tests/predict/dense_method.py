"""A small method of dense localization for tests: a linear layer on each segment, and spans of fixed lengths around it."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from pipeline.methods import Method
from pipeline.methods.base import MethodConfig, Recipe
from pipeline.metrics.detection import Spans, soft_nms
from pipeline.tasks.dave import DetectionScores, calibrated

LENGTHS = (1.3, 4.1)  # seconds


class FixedSpans(Method):
    """Scores each segment for each class; the segment stands for spans of two lengths around its middle."""

    tasks = frozenset({"dave"})

    class Config(MethodConfig):
        recipe: Recipe = Field(
            Recipe(learning_rate=0.05, batch_size=4, epochs=12, selection="last"), description="settings of the training"
        )

        @property
        def calibrated_after(self):
            return 0

    def __init__(self, config, visual_shape, audio_shape, num_classes):
        super().__init__(config, visual_shape, audio_shape, num_classes)
        self.linear = nn.Linear(visual_shape[-1] + audio_shape[-1], num_classes)
        self.register_buffer("threshold", torch.tensor(0.5))

    def logits(self, batch):
        visual = batch.visual if batch.visual.ndim == 3 else batch.visual.flatten(2, -2).mean(dim=2)
        return self.linear(torch.cat([visual, batch.audio], dim=-1))  # (B, T, C)

    def moments(self, batch):
        return batch.grid.seconds(torch.arange(batch.mask.shape[1], dtype=torch.float32))

    def losses(self, batch, targets, progress):
        inside = (targets.spans[:, None, :, 0] <= self.moments(batch)[:, None]) & (
            self.moments(batch)[:, None] < targets.spans[:, None, :, 1]
        )
        classes = nn.functional.one_hot(targets.labels.clamp(min=0), self.num_classes).bool() & (targets.labels >= 0)[..., None]
        wanted = (inside[..., None] & classes[:, None]).any(dim=2)
        loss = nn.functional.binary_cross_entropy_with_logits(self.logits(batch), wanted.float(), weight=batch.mask[..., None].float())
        return {"total": loss}

    def predict(self, batch):
        found, moments = [], self.moments(batch)
        for scores, valid in zip(self.logits(batch).float().sigmoid(), batch.mask, strict=True):
            place, label = torch.nonzero(scores * valid[:, None] > 0.02, as_tuple=True)
            parts = [
                (torch.stack([moments[place] - length / 2, moments[place] + length / 2], dim=1), label, scores[place, label] * length / 5)
                for length in LENGTHS
            ]
            spans, labels, values = (torch.cat(part).detach().cpu().numpy() for part in zip(*parts, strict=True))
            found.append(soft_nms(Spans(spans.clip(0), labels, values)))
        return DetectionScores.of(found, self.threshold)

    def calibrated(self, scores, truth, mask):
        return {"threshold": calibrated(scores, truth)}
