"""A network that sees one modality alone and guides the main network's clip probabilities of it in training (DHHN)."""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.layers.hybrid_attention import ParsingFrontEnd
from pipeline.layers.precision import at_least_float32


class Guide(nn.Module):
    """Rounds of x <- x + encoder(x) with one encoder for all rounds, then attentive pooling over time.

    The encoder is a post-norm transformer; it has no positional code. The pooling is MMIL's in one modality.

    Args:
        width, heads, feedforward, dropout: of the encoder's layers.
        layers: of the encoder.
        rounds: how often the stream passes it.
    """

    def __init__(
        self, width: int, heads: int, feedforward: int, dropout: float, layers: int, rounds: int, num_classes: int
    ) -> None:  # fmt: skip
        super().__init__()
        self.rounds = rounds
        layer = nn.TransformerEncoderLayer(width, heads, feedforward, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.classifier, self.over_time = (nn.Linear(width, num_classes) for _ in range(2))

    def forward(self, stream: Tensor, mask: Tensor) -> Tensor:
        """Probabilities of the clips, in float32 at least.

        (B, T, D), (B, T) bool with a True in every clip -> (B, C).
        """
        for _ in range(self.rounds):
            stream = stream + self.encoder(stream, src_key_padding_mask=~mask)
        scores = at_least_float32(self.over_time(stream)).masked_fill(~mask.unsqueeze(-1), float("-inf"))
        return (scores.softmax(dim=1) * at_least_float32(self.classifier(stream)).sigmoid()).sum(dim=1)


class AudioGuide(nn.Module):
    """The guide of the audio stream, with a front end of its own."""

    def __init__(self, audio_width: int, width: int, guide: Guide) -> None:
        super().__init__()
        self.front_end, self.guide = nn.Linear(audio_width, width), guide

    def forward(self, audio: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D_a), (B, T) bool -> (B, C)."""
        return self.guide(self.front_end(audio), mask)


class VisualGuide(nn.Module):
    """The guide of the visual stream, with a front end of its own."""

    def __init__(self, visual_width: int, motion_width: int | None, width: int, guide: Guide) -> None:
        super().__init__()
        self.front_end, self.guide = ParsingFrontEnd(visual_width, None, motion_width, width), guide

    def forward(self, visual: Tensor, motion: Tensor | None, mask: Tensor) -> Tensor:
        """(B, T, D_v), (B, T, D_m) or None, (B, T) bool -> (B, C)."""
        return self.guide(self.front_end.embed_visual(visual, motion), mask)
