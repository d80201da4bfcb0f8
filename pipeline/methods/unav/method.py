"""UnAV: an anchor-free detector of audio-visual events on a pyramid of both streams.

Geng, Wang, Duan, Zheng, "Dense-Localizing Audio-Visual Events in Untrimmed Videos: A Large-Scale Benchmark and Baseline", CVPR 2023. Both
streams are embedded, attend to themselves, and then to each other on a pyramid of six levels; a dependency block relates the classes; two
heads, shared by all levels, give every point a probability of each class and the distances to an event's ends. Points, losses and
candidates: :mod:`pipeline.layers.points`. Published on UnAV-100's test split, but no paper at hand prints its numbers.

``variant: released`` follows the released code, except for two bugs, which no setting brings back:

* Its mask of the dependency block is tiled in the wrong order, so each prediction depends on the other clips of the batch
  (:class:`pipeline.layers.pyramid.EventDependency`); no method here may do that.
* The same mask fails where the number of clips times that of a level's steps equals the number of classes.

Further differences, in both variants:

* The running number of points with an event, by which the losses are divided, is a buffer, so that a resumed training continues it
  (released: lost, and 250 again).
* Of two events of a class that claim a point the shorter one is learned (released: the later one in the file).
* Weights that are validated, selected and stored are the moving average (released: the weights of the step are scored on validation, and
  the average of the chosen epoch is tested).
* The last, smaller batch of an epoch is kept.
* Clips have the length of the feature store, without padding to a multiple of 32: the levels of any length fit.

``variant: ours`` (default) also masks behind every norm, so that the amount of padding changes nothing; with ``released`` it changes
nothing only while every level keeps a padded step (UnAV-100: 224 steps). Its average has a warm-up, and its dependency block is narrower.

Steps of a training are recorded on a GPU: the normaliser is updated in place, and nothing is read back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from pipeline.batch import Batch, Tensors
from pipeline.layers.points import Points, assign, candidates, focal_loss, pyramid_points, span_loss
from pipeline.layers.precision import at_least_float32
from pipeline.methods.base import METHODS, Method, Progress
from pipeline.methods.shared.inputs import method_inputs, vector_stream, vector_stream_shape
from pipeline.methods.unav.config import UnavConfig
from pipeline.methods.unav.crop import Cropped, crop
from pipeline.methods.unav.network import Detector, Found, Level
from pipeline.metrics.detection import Spans, soft_nms
from pipeline.tasks.dave import DetectionScores, EventTargets, calibrated
from pipeline.tasks.dave.scores import UNCALIBRATED

Place = Literal["after_embedding", "after_stem"]
FIRST_NORMALISER, MOMENTUM = 250.0, 0.9  # of the running number of points with an event


@METHODS.register("unav")
class Unav(Method):
    """The detector.

    Parameters at widths of 2048 and 128, C = 100: released 139,544,114, without the dependency block 60,696,882.
    """

    tasks = frozenset({"dave"})
    Config = UnavConfig
    config: UnavConfig
    normaliser: Tensor
    threshold: Tensor

    def __init__(
        self, config: UnavConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int,
        other_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, visual_shape, audio_shape, num_classes)
        self.motion_shape = vector_stream_shape(config.motion, other_shapes)
        visual_width = self.visual_shape[-1] + (self.motion_shape or (0,))[0]
        self.detector = Detector(config, visual_width, self.audio_shape[0], num_classes)
        self.register_buffer("normaliser", torch.tensor(FIRST_NORMALISER))
        self.register_buffer("threshold", torch.tensor(UNCALIBRATED if config.threshold is None else config.threshold))

    def streams(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Visual (B, T, D_v), audio (B, T, D_a), and a mask (B, T) with a True in every clip.

        The positions of a visual map are averaged; motion stands behind the visual features.

        Raises:
            PipelineError: the features' shape differs from the one that the method was built for, or the motion stream is missing.
        """
        inputs = method_inputs(self, batch)
        visual = inputs.visual.mean(dim=2)
        if self.config.motion is not None:
            stream = vector_stream(self, batch, self.config.motion, self.motion_shape)
            visual = torch.cat([visual, stream.to(visual.dtype).masked_fill(~batch.mask.unsqueeze(-1), 0.0)], dim=-1)
        return visual, inputs.audio, inputs.mask

    def levels(self, visual: Tensor, audio: Tensor, mask: Tensor) -> list[Level]:
        """The pyramid, after the dependency block."""
        pyramid = self.detector.pyramid
        streams = self.guided("after_embedding", *pyramid.embedded(visual, audio, mask), mask)
        streams = self.guided("after_stem", *pyramid.stemmed(*streams, mask), mask)
        return self.detector.related(pyramid(*streams, mask))

    def guided(self, place: Place, visual: Tensor, audio: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Both streams (B, T, D) at a place before the pyramid, for methods that change them there."""
        return visual, audio

    def losses(self, batch: Batch, targets: Tensors, progress: Progress) -> dict[str, Tensor]:
        """``classes`` (focal) + ``spans`` (DIoU), both divided by the running number of points with an event.

        Raises:
            TypeError: targets other than events.
        """
        if not isinstance(targets, EventTargets):
            raise TypeError(f"{type(self).__name__} learns from events and cannot train on {type(targets).__name__}")
        visual, audio, mask = self.streams(batch)
        part = Cropped(visual, audio, mask, batch.grid.steps(targets.spans), targets.labels)
        if self.training and self.config.crop < 1:
            part = crop(part, self.config.crop)
        levels = self.levels(part.visual, part.audio, part.mask)
        valid = torch.cat([level.mask for level in levels], dim=1) & batch.mask.any(dim=1, keepdim=True)
        terms = self.terms(levels, part, valid, progress)
        return {**terms, "total": torch.stack(list(terms.values())).sum()}

    def terms(self, levels: list[Level], part: Cropped, valid: Tensor, progress: Progress) -> dict[str, Tensor]:
        """The terms of the total, weighted; ``valid`` (B, P) marks the points that count."""
        return self.detection_terms(self.detector.heads(levels, levels), self.points(levels), part, valid)

    def detection_terms(self, found: Found, points: Points, part: Cropped, valid: Tensor) -> dict[str, Tensor]:
        """The terms of the heads' outputs; in training the normaliser moves first."""
        assigned = assign(points, part.spans, part.labels, valid, self.num_classes)
        if self.training:
            number = assigned.positive.sum().clamp(min=1).to(self.normaliser.dtype)
            self.normaliser.mul_(MOMENTUM).add_((1 - MOMENTUM) * number)
        normaliser = self.normaliser.clone()  # the buffer moves on before the backward pass of a later loss
        return {
            "classes": focal_loss(found.logits, assigned.classes, valid) / normaliser,
            "spans": span_loss(found.sides, assigned) / normaliser,
        }

    def points(self, levels: list[Level]) -> Points:
        return pyramid_points([level.mask.shape[1] for level in levels], at_least_float32(levels[0].fused[:0]))

    def predict(self, batch: Batch) -> DetectionScores:
        visual, audio, mask = self.streams(batch)
        levels = self.levels(visual, audio, mask)
        return self.detections(self.found(levels), levels, batch)

    def found(self, levels: list[Level]) -> Found:
        """What the heads say in prediction."""
        return self.detector.heads(levels, levels)

    def detections(self, found: Found, levels: list[Level], batch: Batch) -> DetectionScores:
        """Candidates of all levels after suppression within each clip and class, in seconds, cut off at the clip's ends."""
        valid = torch.cat([level.mask for level in levels], dim=1) & batch.mask.any(dim=1, keepdim=True)
        best = candidates(found.logits, found.sides, self.points(levels), valid, [level.mask.shape[1] for level in levels])
        spans, labels, scores = (part.detach().cpu().numpy() for part in (best.spans.float(), best.labels, best.scores.float()))
        kept = [
            soft_nms(Spans(of_clip[good], label[good], score[good]))
            for of_clip, label, score, good in zip(spans, labels, scores, scores > 0, strict=True)
        ]
        detections = DetectionScores.of(kept, self.threshold)
        ends = self.ends(batch)[:, None, None]
        seconds = torch.minimum(batch.grid.seconds(detections.spans).clamp(min=0), ends)
        detections.spans = torch.where(detections.labels.unsqueeze(-1) >= 0, seconds, 0.0)
        return detections

    def ends(self, batch: Batch) -> Tensor:
        """Length of each clip in seconds, (B,), on the CPU.

        Where it is not known, the end of its last step.
        """
        if batch.seconds is not None:
            return batch.seconds.float().cpu()
        last = batch.mask.sum(dim=1).cpu().float() - 1
        return (batch.grid.seconds(last) + batch.grid.first_seconds).clamp(min=0)

    def calibrated(self, scores: DetectionScores, truth: EventTargets, mask: Tensor) -> dict[str, Tensor]:
        """``threshold``: the score from which a detection is an event."""
        return {"threshold": calibrated(scores, truth)}
