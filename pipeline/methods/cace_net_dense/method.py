"""CACE-Net's modules inside the UnAV detector, for dense localization: our reading of the paper's Table S3.

He et al., "CACE-Net: Co-guidance Attention and Contrastive Enhancement for Effective Audio-Visual Event Localization", ACM MM 2024. The
supplement gives three rows on UnAV-100 (mAP at 0.5, 0.6, 0.7, 0.8, 0.9, and the mean over 0.1 to 0.9) and no code:

* baseline 49.3, 45.0, 39.5, 32.9, 21.6, 46.8: ``avca: none, bece: false``
* + AVCA 49.8, 45.1, 40.0, 32.6, 21.3, 47.1: ``bece: false``
* + AVCA + BECE 50.1, 45.4, 40.2, 32.7, 21.2, 47.5: the defaults

The gains are 0.3 and 0.4 of one seed, and at 0.8 and 0.9 both rows are below the baseline: expect them within the noise of seeds. The paper
says that it uses "the efficient encoder provided by Geng et al." and nothing else. What it leaves open is a setting here:

* Baseline: the UnAV detector, as its numbers suggest (:mod:`pipeline.methods.unav.method`), on its features of I3D and VGGish.
* Where AVCA sits (``avca``): behind the stem, before the streams are crossed, which stays as it is.
* What AVCA is without a map (``visual_context``, ``scale``): :mod:`pipeline.methods.cace_net_dense.guidance`. The paper's spatial attention
  becomes one over time. The unscaled products are meant for ten steps of 128 channels and would saturate here.
* What BECE contrasts: the steps of the finest level, both streams, after the dependency block; an event step lies strictly inside an
  event of any class, all other valid steps are background. Clip by clip; a clip without background has a constant loss (36 % of UnAV-100)
  and is left out of the mean.
* Which head sees the enhanced features F + lambda enc(F) (``bece_heads``): both, on every level, because a class head decides here between
  event and background, and the distances say how far the event reaches. AVE's event head is the analogue.
* From when on: an eighth of all epochs, the warm-up among them, as in the released code for AVE.
* The temperature (``contrast_temperature``): 0.1; 0.01 as released for AVE makes 370 vectors of a clip nearly independent.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.layers.pooling import masked_mean
from pipeline.layers.pyramid import masked
from pipeline.methods.base import METHODS, Progress
from pipeline.methods.cace_net.contrast import contrast_terms
from pipeline.methods.cace_net_dense.guidance import Context, Scale, StreamCoGuidance
from pipeline.methods.unav.config import UnavConfig
from pipeline.methods.unav.crop import Cropped
from pipeline.methods.unav.method import Place, Unav
from pipeline.methods.unav.network import Found, Level

CONTRAST_START = 1 / 8  # share of the epochs before the contrast starts


class CaceNetDenseConfig(UnavConfig):
    """Defaults: the third row of Table S3 in our reading."""

    avca: Literal["none", "after_embedding", "after_stem"] = Field("after_stem", description="where AVCA sits; none: the baseline")
    visual_context: Context = Field("time", description="AVCA's visual refinement over time | none: of each step alone")
    scale: Scale = Field("sqrt", description="AVCA's products divided by the root of their width | none: as on AVE")
    beta: float = Field(0.4, ge=0, description="calibration of the visual stream, Eq. 2")
    psi: float = Field(0.3, ge=0, description="visual guidance of the audio, Eq. 6; 0: audio guides alone")
    guidance_dropout: float = Field(0.2, ge=0, lt=1, description="in AVCA's refinements")
    bece: bool = Field(True, description="background-event contrast and the features that it enhances")
    bece_heads: Literal["both", "regression", "classification"] = Field("both", description="heads that see the enhanced features")
    lambda_contrast: float = Field(0.6, ge=0, description="lambda of Eq. 8, F_o = F + lambda enc(F)")
    contrast_weight: float = Field(1.0, ge=0, description="of the contrast in the total")
    contrast_temperature: float = Field(0.1, ge=1e-4, le=1000, description="tau of Eq. 7; not in the paper")
    contrast_noise: float = Field(0.1, ge=0, description="sigma of the noise that makes a step's twin")


@METHODS.register("cace_net_dense")
class CaceNetDense(Unav):
    """The detector with co-guidance of its streams and background-event contrast.

    The buffer ``contrast_active`` records whether the enhanced features are switched on, as in CACE-Net.
    """

    Config = CaceNetDenseConfig
    config: CaceNetDenseConfig
    contrast_active: Tensor

    def __init__(self, config: CaceNetDenseConfig, *given, **named) -> None:
        super().__init__(config, *given, **named)
        self.guidance: StreamCoGuidance | None = None
        if config.avca != "none":
            self.guidance = StreamCoGuidance(
                config.width, config.visual_context, config.scale, config.beta, config.psi, config.guidance_dropout
            )  # fmt: skip
        fused = 2 * config.width
        self.contrast_encoder = nn.Sequential(nn.Linear(fused, fused), nn.ReLU()) if config.bece else None
        self.register_buffer("contrast_active", torch.tensor(False))

    def guided(self, place: Place, visual: Tensor, audio: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if self.guidance is None or place != self.config.avca:
            return visual, audio
        return self.guidance(visual, audio, mask)

    def phase(self, progress: Progress) -> bool:
        """Whether the contrast has started."""
        return progress.epoch >= CONTRAST_START * progress.epochs

    def terms(self, levels: list[Level], part: Cropped, valid: Tensor, progress: Progress) -> dict[str, Tensor]:
        """The detector's, and ``contrast``: 0 until it starts, absent with ``bece: false``."""
        active = self.phase(progress) if self.training else bool(self.contrast_active)
        if self.training:
            self.contrast_active.fill_(active)
        terms = self.detection_terms(self._read(levels, active), self.points(levels), part, valid)
        if self.contrast_encoder is not None:
            contrast = self._contrast(levels[0], part, valid[:, : part.mask.shape[1]]) if active else torch.zeros_like(terms["classes"])
            terms["contrast"] = self.config.contrast_weight * contrast
        return terms

    def found(self, levels: list[Level]) -> Found:
        return self._read(levels, bool(self.contrast_active))

    def _read(self, levels: list[Level], active: bool) -> Found:
        """What the heads say, of features enhanced once the contrast has started."""
        if self.contrast_encoder is None or not active:
            return self.detector.heads(levels, levels)
        share, heads = self.config.lambda_contrast, self.config.bece_heads
        enhanced = [level._replace(fused=level.fused + masked(share * self.contrast_encoder(level.fused), level.mask)) for level in levels]
        return self.detector.heads(
            levels if heads == "regression" else enhanced, levels if heads == "classification" else enhanced
        )  # fmt: skip

    def _contrast(self, level: Level, part: Cropped, valid: Tensor) -> Tensor:
        """Eq. 7 over the steps of the finest level and their twins: mean over clips with background."""
        assert self.contrast_encoder is not None
        step = torch.arange(valid.shape[1], device=valid.device, dtype=part.spans.dtype).unsqueeze(-1)
        start, end = (side.unsqueeze(1) for side in part.spans.unbind(dim=-1))
        event = ((step > start) & (step < end) & (part.labels >= 0).unsqueeze(1)).any(dim=-1) & valid  # (B, T)
        fused = level.fused
        twin = fused + self.config.contrast_noise * torch.randn_like(fused) if self.training else fused
        query, key = self.contrast_encoder(fused), self.contrast_encoder(twin)
        losses = contrast_terms(query, key, event, valid, self.config.contrast_temperature)
        both = valid.repeat(1, 2)
        of_clips = torch.where(both, losses, 0.0).sum(dim=1) / both.sum(dim=1).clamp(min=1)
        return masked_mean(of_clips, (valid & ~event).any(dim=1))
