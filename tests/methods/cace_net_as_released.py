"""CACE-Net written in plain torch straight from its formulas: the cost of a step without our optimizations.

The reference of benchmarks/training.py, in float64 as the released code trains. Steps and numbers are those of the paper (He et al.,
ACM MM 2024) and of the released network, written from its description and not from its code: every product at every position, every
projection by itself, softmax attention by its formula, dropout, norms and multi-head attention as torch modules, the contrast with exp
(which overflows float32). The released modules that are never called are left out.
tests/methods/test_cace_net_as_released.py holds its loss and gradients against those of the registered method.

Shape letters: B batch, T segments, S positions, C classes, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from pipeline.batch import Batch
from pipeline.methods import Method, Progress
from pipeline.tasks.avel import AvelTargets

ALPHA, BETA, GAMMA, PSI, LAMBDA = 0.1, 0.4, 0.3, 0.3, 0.6
TEMPERATURE, NOISE, TOP_K, HEADS = 0.01, 0.1, 4, 4
CONTRAST_START = 1 / 8


class SelfAttention(nn.Module):
    """softmax(Q K^T) V, single head, not scaled."""

    def __init__(self, query_width: int, memory_width: int, attention_width: int, value_width: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_width, attention_width)
        self.key = nn.Linear(memory_width, attention_width)
        self.value = nn.Linear(memory_width, value_width)

    def forward(self, features: Tensor, memory: Tensor) -> Tensor:
        scores = torch.matmul(self.query(features), self.key(memory).transpose(-2, -1))
        return torch.matmul(torch.softmax(scores, dim=-1), self.value(memory))


class PositionScore(nn.Module):
    """softmax_n tanh(Lin[ReLU(Lin guide) * ReLU(Lin x_n)]) -> (B, T, S, 1)."""

    def __init__(self, width: int, guide_width: int, hidden: int) -> None:
        super().__init__()
        self.position = nn.Linear(width, hidden)
        self.guide = nn.Linear(guide_width, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, positions: Tensor, guide: Tensor) -> Tensor:
        joint = torch.relu(self.guide(guide)).unsqueeze(-2) * torch.relu(self.position(positions))
        return torch.softmax(torch.tanh(self.score(joint)), dim=-2)


class ChannelSpatial(nn.Module):
    """AGVA-CS: channels of the map X gated by the audio and the map R, positions pooled by the audio."""

    def __init__(self, visual: int, audio: int, hidden: int) -> None:
        super().__init__()
        self.audio_query = nn.Linear(audio, visual)
        self.visual_query = nn.Linear(visual, visual)
        self.down = nn.Linear(visual, hidden)
        self.up = nn.Linear(hidden, visual)
        self.position_score = PositionScore(visual, audio, hidden)

    def forward(self, maps: Tensor, reference: Tensor, audio: Tensor) -> Tensor:
        query = (torch.relu(self.audio_query(audio)).unsqueeze(-2) * torch.relu(self.visual_query(reference))).mean(dim=-2)
        gate = torch.sigmoid(self.up(torch.relu(self.down(query))))
        gated = maps * (1 + gate.unsqueeze(-2))
        return (self.position_score(gated, audio) * gated).sum(dim=-2)


class CoGuidance(nn.Module):
    """AVCA, Eqs. 1-6."""

    def __init__(self, visual: int, audio: int, hidden: int, attention: int, dropout: float) -> None:
        super().__init__()
        self.for_visual = SelfAttention(visual, visual, attention, visual)
        self.for_audio = SelfAttention(visual, visual, attention, visual)
        self.visual_norm, self.visual_dropout = nn.LayerNorm(visual), nn.Dropout(dropout)
        self.channel_spatial = ChannelSpatial(visual, audio, hidden)
        self.calibration = PositionScore(visual, visual, hidden)
        self.own_audio = SelfAttention(audio, audio, audio, audio)
        self.audio_norm, self.audio_dropout = nn.LayerNorm(audio), nn.Dropout(dropout)
        self.ask_audio = SelfAttention(visual, audio, audio, audio)

    def forward(self, maps: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, S, D), (B, T, D_a) -> (B, T, D), (B, T, D_a)."""
        refined = self.visual_norm(maps + self.visual_dropout(self.for_visual(maps, maps)))
        own = (self.calibration(refined, refined.mean(dim=-2)) * refined).sum(dim=-2)
        attended = self.channel_spatial(maps, refined, audio)
        visual = attended + BETA * torch.sigmoid(own) * attended

        refined = self.visual_norm(maps + self.visual_dropout(self.for_audio(maps, maps)))
        refined_audio = self.audio_norm(audio + self.audio_dropout(self.own_audio(audio, audio)))
        found = self.ask_audio(refined.mean(dim=-2), refined_audio)
        return visual, audio + PSI * torch.sigmoid(found) * audio


class CrossModalRelation(nn.Module):
    """CMRA: one layer that attends to the other modality and its own."""

    def __init__(self, input_width: int, width: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(input_width, width)
        self.attention = nn.MultiheadAttention(width, HEADS, dropout=dropout, batch_first=True)
        self.attention_norm, self.attention_dropout = nn.LayerNorm(width), nn.Dropout(dropout)
        self.feedforward = nn.Sequential(nn.Linear(width, feedforward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feedforward, width))
        self.feedforward_norm, self.feedforward_dropout = nn.LayerNorm(width), nn.Dropout(dropout)

    def forward(self, features: Tensor, memory: Tensor) -> Tensor:
        query = self.project(features)
        keys = torch.cat([memory, query], dim=1)
        query = self.attention_norm(query + self.attention_dropout(self.attention(query, keys, keys)[0]))
        return self.feedforward_norm(query + self.feedforward_dropout(self.feedforward(query)))


class Interaction(nn.Module):
    """INTER: the product of both modalities attends to both."""

    def __init__(self, width: int, attention_dropout: float, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, HEADS, dropout=attention_dropout, batch_first=True)
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(dropout)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        joint, keys = first * second, torch.cat([second, first], dim=1)
        return self.norm(joint + self.dropout(self.attention(joint, keys, keys)[0]))


def intra_modal(input_width: int, width: int, feedforward: int, dropout: float) -> nn.Sequential:
    """ITR: a projection and two post-norm encoder layers."""
    layers = (nn.TransformerEncoderLayer(width, HEADS, feedforward, dropout, batch_first=True) for _ in range(2))
    return nn.Sequential(nn.Linear(input_width, width), *layers)


def contrast(query: Tensor, key: Tensor, event: Tensor) -> Tensor:
    """Eq. 7 as written, with exp; (B, T, D), (B, T, D), (B, T) bool -> scalar. Overflows float32 at this temperature."""
    rows = torch.cat([query / query.norm(dim=-1, keepdim=True), key / key.norm(dim=-1, keepdim=True)], dim=1)
    own = torch.eye(rows.shape[1], dtype=torch.bool, device=rows.device)
    events = event.repeat(1, 2)
    positives = ((events.unsqueeze(2) & events.unsqueeze(1)) & ~own) | (~events.unsqueeze(2) & own.roll(event.shape[1], dims=1))
    exponentials = torch.exp(torch.matmul(rows, rows.transpose(1, 2)) / TEMPERATURE)
    shares = (exponentials * positives).sum(dim=-1) / (exponentials * ~own).sum(dim=-1)
    return -torch.log(shares / positives.sum(dim=-1)).mean()


class CaceNetAsReleased(nn.Module):
    """The supervised network and its loss.

    Args:
        visual_width, audio_width: D of a position and of the audio, which enters raw.
        num_classes: C.
        dropout: False switches all of it off, for comparison with another restatement.
    """

    def __init__(
        self, visual_width: int, audio_width: int, num_classes: int, *, visual: int = 512, width: int = 256, attention_width: int = 128,
        intra_feedforward: int = 1024, cross_feedforward: int = 512, dropout: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        of_input, of_relation, of_interaction = (0.2, 0.1, 0.2) if dropout else (0.0, 0.0, 0.0)
        self.v_fc, self.v_dropout = nn.Linear(visual_width, visual), nn.Dropout(of_input)
        self.guidance = CoGuidance(visual, audio_width, width, attention_width, of_input)
        self.visual_lstm = nn.LSTM(visual, visual // 2, batch_first=True, bidirectional=True)
        self.audio_lstm = nn.LSTM(audio_width, audio_width, batch_first=True, bidirectional=True)
        self.visual_intra = intra_modal(visual, width, intra_feedforward, of_relation)
        self.audio_intra = intra_modal(2 * audio_width, width, intra_feedforward, of_relation)
        self.visual_cross = CrossModalRelation(visual, width, cross_feedforward, of_relation)
        self.audio_cross = CrossModalRelation(2 * audio_width, width, cross_feedforward, of_relation)
        self.visual_gate, self.audio_gate = nn.Linear(width, 1), nn.Linear(width, 1)
        self.visual_scores, self.audio_scores = nn.Linear(width, num_classes), nn.Linear(width, num_classes)
        self.first_interaction = Interaction(width, of_interaction, of_relation)
        self.second_interaction = Interaction(width, of_interaction, of_relation)
        self.encoder = nn.Linear(width, width)
        self.event_head, self.class_head = nn.Linear(width, 1), nn.Linear(width, num_classes)

    def losses(self, batch: Batch, targets: AvelTargets, progress: Progress) -> dict[str, Tensor]:
        """The total of a batch without padding; clips without an event count as class 0."""
        maps = self.v_dropout(torch.relu(self.v_fc(batch.visual.flatten(2, 3))))
        visual, audio = self.guidance(maps, batch.audio)
        visual, audio = self.visual_lstm(visual)[0], self.audio_lstm(audio)[0]
        visual_memory, audio_memory = self.visual_intra(visual), self.audio_intra(audio)
        audio, visual = self.audio_cross(audio, visual_memory), self.visual_cross(visual, audio_memory)

        audio_gate, visual_gate = torch.sigmoid(self.audio_gate(audio_memory)), torch.sigmoid(self.visual_gate(visual_memory))
        gate = (audio_gate * visual_gate).squeeze(-1)
        visual, audio = visual * (1 + ALPHA * audio_gate), audio * (1 + ALPHA * visual_gate)
        scores = [self.visual_scores(visual), self.audio_scores(audio)]
        modality_logits = sum(each.topk(TOP_K, dim=1).values.mean(dim=1) for each in scores) / 2

        first = self.first_interaction(visual, audio)
        fused = (first + self.second_interaction(audio, first)) / 2
        active = progress.epoch >= CONTRAST_START * progress.epochs
        enhanced = fused + LAMBDA * torch.relu(self.encoder(fused)) if active else fused
        event_logits = self.event_head(enhanced).squeeze(-1)
        class_logits = self.class_head(fused.max(dim=1).values) + GAMMA * modality_logits

        event = targets.segments < self.class_head.out_features
        video = targets.video.where(targets.video < self.class_head.out_features, 0)
        loss = binary_cross_entropy_with_logits(event_logits, event.to(fused.dtype)) + cross_entropy(class_logits, video)
        loss = loss + binary_cross_entropy_with_logits(gate, event.to(fused.dtype)) + cross_entropy(modality_logits, video)
        if active:
            query = torch.relu(self.encoder(fused))
            key = torch.relu(self.encoder(fused + NOISE * torch.randn_like(fused)))
            loss = loss + contrast(query, key, event)
        return {"total": loss}


# Here and in the registered method: prefixes of the parameters' names.
NAMES = {
    "v_fc": "visual_input.0",
    "guidance.for_visual": "guidance.attention",
    "guidance.for_audio": "guidance.attention_for_audio",
    "guidance.visual_norm": "guidance.residual.norm",
    "guidance.channel_spatial": "guidance.visual.channel_spatial",
    "guidance.calibration": "guidance.visual.calibration",
    "guidance.own_audio": "guidance.audio.own",
    "guidance.audio_norm": "guidance.audio.residual.norm",
    "guidance.ask_audio": "guidance.audio.query",
    "visual_lstm": "visual_temporal.lstm",
    "audio_lstm": "audio_temporal.lstm",
    **{
        f"{modality}_intra.{here}": f"relation.{modality}_intra.{there}"
        for modality in ("visual", "audio")
        for here, there in (("0", "project"), ("1", "encoder.layers.0"), ("2", "encoder.layers.1"))
    },
    "visual_cross": "relation.visual_cross",
    "audio_cross": "relation.audio_cross",
    **{f"{name}": f"suppression.{name}" for name in ("visual_gate", "audio_gate", "visual_scores", "audio_scores")},
    "first_interaction": "suppression.interaction.visual",
    "second_interaction": "suppression.interaction.audio",
    "encoder": "contrast_encoder.0",
    "event_head": "event_head",
    "class_head": "class_head",
}


def pairs(reference: CaceNetAsReleased, method: Method) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Pair each parameter with its counterpart in the registered method."""
    theirs = dict(method.named_parameters())
    both = []
    for name, parameter in reference.named_parameters():
        prefix = max((prefix for prefix in NAMES if name.startswith(f"{prefix}.")), key=len)
        both.append((parameter, theirs.pop(NAMES[prefix] + name.removeprefix(prefix))))
    assert not theirs, f"the registered method has more: {', '.join(theirs)}"
    return both
