"""AVE-CLIP-style network for audio-visual event localization, designed from the public part of the paper.

After Mahmud and Marculescu, "AVE-CLIP: AudioCLIP-based Multi-window Temporal Transformer for Audio Visual Event Localization", WACV 2023.
We had its abstract and first page, no equation of the rest and no code. CACE-Net's paper prints 79.3 % of segments for it on AVE with
VGG-19 + VGGish features. The design is ours, and no result of this method is the paper's. What is public, and how we read it:

* "a multi-stage training framework to incorporate AudioCLIP pre-trained with audio-image pairs [...] through contrastive fine-tuning,
  effective mean video feature extraction, and multi-scale training phases": fine-tuning is the project's stage ``finetune``, apart from
  this method, which takes any features; there is one phase of training. AVEL's audio-guided attention pools a map; each modality passes
  one linear map, and gets sinusoids of its place.
* "a multi-window temporal transformer to effectively operate on different temporal scales of video frames":
  :class:`pipeline.methods.ave_clip.multi_window.MultiWindowTransformer`. Lengths 2, 5 and 10 are ours (the shortest, half a clip of AVE,
  and the whole).
* "a multi-domain attention mechanism that operates on both temporal and feature domains over varying timescales": in each window both in
  the form of scaled dot-product attention, added. Each modality attends to itself, then to the other, with the same weights.
* "a temporal refining scheme with event-guided attention": e_t = sigmoid(w F_t); F' = F + e * MHA(F, K = V = e F), so segments that seem
  background neither ask nor answer. Two heads on F' follow, as CMRAN's; e has no loss of its own.
* "followed by a simple-yet-effective post processing step", which removes wrong predictions between transitions: ``smoothing``
  (default): a segment whose two neighbours agree against it takes their side. As the class is one for the whole clip, this is the median
  of three of the event's probability. It also fills a single background segment within an event. The first and last segment of a clip
  stay. ``smoothing: false`` leaves it out.

Under weak supervision, of which nothing public speaks, it learns as CMRAN does. Widths and schedule are ours and were not tuned.
"""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from pipeline.batch import Batch
from pipeline.layers.audio_guided_spatial import AudioGuidedSpatialAttention
from pipeline.layers.pooling import max_over_time
from pipeline.layers.precision import at_least_float32
from pipeline.layers.relation import check_heads
from pipeline.layers.sinusoids import sinusoids
from pipeline.methods.ave_clip.multi_window import MultiWindowTransformer
from pipeline.methods.base import METHODS, Recipe
from pipeline.methods.shared.inputs import Inputs, method_inputs, positions
from pipeline.methods.shared.localization import SupervisionConfig
from pipeline.methods.shared.two_heads import Heads, TwoHeadMethod, scores_of_heads
from pipeline.tasks.avel import Scores


class AveClipRecipe(Recipe):
    """Adam 5e-4, halved at epochs 30 and 60 of 100, batches of 64, gradient norm at most 0.5; our choice."""

    learning_rate: float = Field(5e-4, gt=0)
    batch_size: int = Field(64, ge=1)
    epochs: int = Field(100, ge=1)
    milestones: tuple[int, ...] = (30, 60)
    clip_norm: float | None = Field(0.5, gt=0)


class AveClipConfig(SupervisionConfig):
    """All settings are our choice."""

    windows: tuple[int, ...] = Field((2, 5, 10), min_length=1, description="lengths of the windows, in segments")
    smoothing: bool = Field(True, description="a segment whose neighbours agree against it takes their side")
    attention_width: int = Field(512, ge=1, description="hidden width of the audio-guided attention")
    width: int = Field(256, ge=2, description="D, of the transformer")
    heads: int = Field(4, ge=1, description="of the refining attention")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the transformer and the refining attention")
    recipe: AveClipRecipe = AveClipRecipe()

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        check_heads(self.width, heads=self.heads)
        if self.width % 2:
            raise ValueError(f"width ({self.width}) must be even: sines and cosines share the positional code")
        if min(self.windows) < 1 or len(set(self.windows)) < len(self.windows):
            raise ValueError(f"windows must be different lengths of at least one segment (here: {list(self.windows)})")
        return self

    @property
    def attends_to_positions(self) -> bool:
        return True


@METHODS.register("ave_clip")
class AveClip(TwoHeadMethod):
    """The whole network; every registered parameter is used.

    Parameters at 7x7x512 / 128, C = 28: 3,970,127; weakly supervised 3,970,384.
    """

    Config = AveClipConfig
    config: AveClipConfig

    def __init__(self, config: AveClipConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        visual, audio, width = self.visual_shape[-1], self.audio_shape[0], config.width
        self.attention = AudioGuidedSpatialAttention(visual, audio, positions(self.visual_shape), config.attention_width)
        self.visual_input, self.audio_input = nn.Linear(visual, width), nn.Linear(audio, width)
        self.transformer = MultiWindowTransformer(width, config.windows, config.dropout)
        self.event_guide = nn.Linear(width, 1)
        self.refining = nn.MultiheadAttention(width, config.heads, dropout=config.dropout, batch_first=True)
        self.event_head = nn.Linear(width, 1)
        self.class_head = nn.Linear(width, self.clip_labels)

    def heads(self, inputs: Inputs) -> Heads:
        attended, weights = self.attention(inputs.visual, inputs.audio)
        place = sinusoids(inputs.mask.shape[1], self.config.width, inputs.mask.device).to(inputs.audio.dtype)
        visual, audio = self.visual_input(attended) + place, self.audio_input(inputs.audio) + place
        fused = self.transformer(visual, audio, inputs.mask)
        guide = torch.sigmoid(self.event_guide(fused))
        likely = guide * fused
        refined = fused + guide * self.refining(fused, likely, likely, key_padding_mask=~inputs.mask, need_weights=False)[0]
        event = at_least_float32(self.event_head(refined)).squeeze(-1)
        return Heads(event, at_least_float32(self.class_head(max_over_time(refined, inputs.mask))), weights)

    def predict(self, batch: Batch) -> Scores:
        inputs = method_inputs(self, batch)
        heads = self.heads(inputs)
        event = heads.event.sigmoid()
        event = smoothed(event, inputs.mask) if self.config.smoothing else event
        return scores_of_heads(event, heads.classes, heads.attention, self.num_classes)


def smoothed(event: Tensor, mask: Tensor) -> Tensor:
    """Median of each segment and its two neighbours: (B, T), (B, T) bool -> (B, T).

    Segments without two valid neighbours stay; padding stands at the end only.
    """
    if event.shape[1] < 3:
        return event
    median = torch.stack([event[:, :-2], event[:, 1:-1], event[:, 2:]]).median(dim=0).values
    return torch.cat([event[:, :1], torch.where(mask[:, 2:], median, event[:, 1:-1]), event[:, -1:]], dim=1)
