"""A plain BiLSTM with CMRAN's two heads: the floor that every method of localization must beat.

Ours, of no paper. The map's mean and the audio vector of a segment are joined, one BiLSTM reads them along the clip, and two linear heads
answer: event or background per segment, and one event class per clip from the maximum over time. No attention over positions, no relation
between the modalities, no loss of its own: what another method scores above it on the same features is what its parts are worth.

Under weak supervision it learns as CMRAN does: the class head has the background as one more label, and the clip's logits are
max_t(sigmoid(event_t) r), with r the class logits.

Widths and schedule are ours and were not tuned.
"""

from __future__ import annotations

from pydantic import Field
from torch import cat, nn

from pipeline.layers.pooling import max_over_time, mean_over_positions
from pipeline.layers.precision import at_least_float32
from pipeline.layers.recurrent import SegmentLSTM
from pipeline.methods.base import METHODS, Recipe
from pipeline.methods.shared.inputs import Inputs
from pipeline.methods.shared.localization import SupervisionConfig
from pipeline.methods.shared.two_heads import Heads, TwoHeadMethod


class BilstmRecipe(Recipe):
    """Adam 1e-3, halved at epochs 30 and 60 of 100, batches of 64; our choice."""

    learning_rate: float = Field(1e-3, gt=0)
    batch_size: int = Field(64, ge=1)
    epochs: int = Field(100, ge=1)
    milestones: tuple[int, ...] = (30, 60)


class BilstmConfig(SupervisionConfig):
    """All settings are our choice."""

    width: int = Field(128, ge=1, description="of one direction of the BiLSTM")
    dropout: float = Field(0.3, ge=0, lt=1, description="on the joined features and on the BiLSTM's output")
    recipe: BilstmRecipe = BilstmRecipe()


@METHODS.register("bilstm")
class Bilstm(TwoHeadMethod):
    """The whole network.

    Parameters at 7x7x512 / 128, C = 28: 795,933; weakly supervised 796,190.
    """

    Config = BilstmConfig
    config: BilstmConfig

    def __init__(self, config: BilstmConfig, visual_shape: tuple[int, ...], audio_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(config, visual_shape, audio_shape, num_classes)
        self.dropout = nn.Dropout(config.dropout)
        self.lstm = SegmentLSTM(self.visual_shape[-1] + self.audio_shape[0], 2 * config.width)
        self.event_head = nn.Linear(2 * config.width, 1)
        self.class_head = nn.Linear(2 * config.width, self.clip_labels)

    def heads(self, inputs: Inputs) -> Heads:
        joined = cat([mean_over_positions(inputs.visual), inputs.audio], dim=-1)
        hidden = self.dropout(self.lstm(self.dropout(joined), inputs.lengths))
        event = at_least_float32(self.event_head(hidden)).squeeze(-1)
        return Heads(event, at_least_float32(self.class_head(max_over_time(hidden, inputs.mask))), None)
