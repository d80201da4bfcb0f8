"""The two encoders, of which one or both are trained, and the two projections, in two variants.

``paper`` (Sec. 3.4, Eq. 9): "average pooling of all the extracted features obtained from one video", and direct dot products without a
projection, so both encoders must have the same width (ResNet-50 and Cnn14: 2048); visual-to-audio only. The paper gives no
normalisation: here pooled features are scaled to length 1, because dot products of 2048 positive numbers would saturate any softmax. The
paper gives no temperature either.

``released`` (AVELCLIP/clip/model.py): a projection to 128 without bias on either side, length 1, tau 0.2, both directions. The default,
because it takes encoders of any widths. In both variants the released code and the paper train the visual side; the audio side is frozen
then, its features are computed beforehand. ``train: audio`` or ``both`` trains it too (ours), on the rows that its ``prepare`` makes.

Shape letters: B clips, T segments, F frames and R rows of sound of all B clips, D width.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from pipeline.contrastive.maps import CutNetwork, cut_network
from pipeline.contrastive.settings import FinetuneSettings
from pipeline.encoders import AudioEncoder, Encoder, VisualEncoder
from pipeline.errors import PipelineError
from pipeline.layers.precision import at_least_float32

LEAST_TEMPERATURE = 0.01  # CLIP's bound (Radford et al., ICML 2021, Sec. 2.5): logits scaled by at most 100


class Heads(nn.Module):
    """Pooled features -> embeddings of length 1, and the temperature.

    Args:
        visual_width, audio_width: widths of the pooled features.
        audio_mean, audio_deviation: (audio_width,) each, used to standardize audio features with ``standardize_audio``.

    Raises:
        PipelineError: ``variant: paper`` with encoders of different widths.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, settings: FinetuneSettings, visual_width: int, audio_width: int, audio_mean: Tensor, audio_deviation: Tensor
    ) -> None:  # fmt: skip
        super().__init__()
        if settings.variant == "paper" and visual_width != audio_width:
            raise PipelineError(
                f"variant: paper compares features directly, but {settings.visual.encoder} gives {visual_width} and"
                f" {settings.audio.encoder} {audio_width} numbers; choose encoders of one width, or variant: released, which projects them"
            )
        projected = settings.variant == "released"
        self.visual = nn.Linear(visual_width, settings.width, bias=False) if projected else nn.Identity()
        self.audio = nn.Linear(audio_width, settings.width, bias=False) if projected else nn.Identity()
        self.log_temperature = nn.Parameter(torch.tensor(math.log(settings.temperature)), requires_grad=settings.learnable_temperature)
        self.standardize = settings.standardize_audio
        self.register_buffer("mean", audio_mean.clone())
        self.register_buffer("deviation", audio_deviation.clamp(min=1e-6))

    def forward(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embed (B, D_v) and (B, D_a) as (B, width) of length 1 each; also return tau, a scalar.

        All are float32 at least, whatever the input.
        """
        with torch.autocast(visual.device.type, enabled=False):
            visual, audio = at_least_float32(visual), at_least_float32(audio)
            if self.standardize:
                audio = (audio - self.mean) / self.deviation
            lowest = math.log(LEAST_TEMPERATURE)
            temperature = (self.log_temperature.clamp(min=lowest) if self.log_temperature.requires_grad else self.log_temperature).exp()
            return normalize(self.visual(visual), dim=-1), normalize(self.audio(audio), dim=-1), temperature


class ContrastiveModel(nn.Module):
    """Frames and audio features of clips -> embeddings for the loss. ``train()`` keeps frozen parts in eval mode.

    With ``cut`` set, ``frames`` below are the maps of ``cut.begin``, (F, c, y, x).

    Args:
        encoder, audio: of their ``network`` the blocks chosen by ``train`` and ``train_last`` of the settings are fine-tuned; without
            ``audio`` that side's features are given.
    """

    cut: CutNetwork | None = None

    def __init__(self, encoder: VisualEncoder, heads: Heads, settings: FinetuneSettings, audio: AudioEncoder | None = None) -> None:
        super().__init__()
        self.encoder, self.audio, self.heads, self.settings = encoder, audio, heads, settings
        encoder.to(memory_format=encoder.memory_format)  # type: ignore[call-overload]
        self.blocks = [block for side in settings.sides for block in trained_blocks(self._side(side), settings.train_last)]
        self.thaw(False)

    def _side(self, modality: str) -> Encoder:
        side = self.encoder if modality == "visual" else self.audio
        assert side is not None
        return side

    @property
    def trained(self) -> dict[str, nn.Module]:
        """The networks that are fine-tuned, by modality."""
        return {modality: cast(nn.Module, self._side(modality).network) for modality in self.settings.sides}

    @property
    def network(self) -> nn.Module:
        network: Any = self.encoder.network
        return network

    def find_cut(self) -> CutNetwork | None:
        """Cut the network into a frozen and a trainable part; None if that is impossible."""
        learning = {id(parameter) for block in self.blocks for parameter in block}
        return cut_network(self.encoder, _units(self.network), _used_parameters(self.encoder), learning)

    def thaw(self, trained: bool = True) -> None:
        """Make the chosen blocks trainable, or freeze the whole encoder while the heads are trained."""
        self.encoder.requires_grad_(False)
        if self.audio is not None:
            self.audio.requires_grad_(False)
        for block in self.blocks if trained else ():
            for parameter in block:
                parameter.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> ContrastiveModel:
        """Set the mode; frozen blocks stay in eval mode, as do batch norms with ``batch_norm: frozen`` though their weights learn."""
        super().train(mode)
        if mode:
            for network in (self.network, *self.trained.values()):
                _set_mode(network, self.settings.batch_norm == "frozen", inherited=False)
        return self

    def pool(self, frames: Tensor, owner: Tensor, clips: int) -> Tensor:
        """Average over the positions and frames of each clip.

        Args:
            frames: (F, 3, h, w), prepared by the encoder, or with ``cut`` their maps.
            owner: (F,) int64 in [0, clips), the clip of each frame; every clip has at least one.

        Returns:
            (clips, D), float32.
        """
        frames = frames.contiguous(memory_format=self.encoder.memory_format)
        features = self.cut.finish(frames).permute(0, 2, 3, 1) if self.cut is not None else self.encoder.encode(frames)
        features = at_least_float32(features.flatten(1, -2).mean(dim=1) if features.dim() > 2 else features)
        return mean_by_owner(features, owner, clips)

    def pool_audio(self, audio: Tensor, owner: Tensor | None, clips: int) -> Tensor:
        """Average over the rows of each clip: (clips, D_a), float32.

        Args:
            audio: (R, *input), prepared by the audio encoder; without ``owner`` the features themselves.
            owner: (R,) int64 in [0, clips), the clip of each row.
        """
        if owner is None:
            return audio
        return mean_by_owner(at_least_float32(self._side("audio").encode(audio)), owner, clips)

    def forward(self, frames: Tensor, owner: Tensor, audio: Tensor, audio_owner: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Embed the frames and the sound of B clips, see :class:`pipeline.contrastive.batches.ClipBatch`: two of (B, width), and tau."""
        clips = len(audio) if audio_owner is None else int(audio_owner[-1]) + 1
        return self.heads(self.pool(frames, owner, clips), self.pool_audio(audio, audio_owner, clips))


def mean_by_owner(features: Tensor, owner: Tensor, clips: int) -> Tensor:
    """Mean of the rows (R, D) of each clip: (clips, D)."""
    sums = features.new_zeros(clips, features.shape[1]).index_add(0, owner, features)
    return sums / torch.bincount(owner, minlength=clips)[:, None]


def _set_mode(module: nn.Module, frozen_norms: bool, inherited: bool) -> None:
    """Set train mode on modules that learn; modules without parameters (dropout) follow their parent."""
    parameters = list(module.parameters())
    learns = any(parameter.requires_grad for parameter in parameters) if parameters else inherited
    module.training = learns and not (frozen_norms and isinstance(module, nn.modules.batchnorm._BatchNorm))
    for child in module.children():
        _set_mode(child, frozen_norms, learns)


def trained_blocks(encoder: Encoder, last: int | None) -> list[list[nn.Parameter]]:
    """Parameters of the last ``last`` blocks of the encoder's network; None: of all blocks.

    Blocks are the children of the network, nn.Sequentials opened once, in the order of their definition. In every registered network that
    is also the order of use: stages of an EfficientNet, residual blocks of a ResNet, layers of VGG or a transformer. A bare norm belongs
    to the block before it. Parameters that the feature map does not use (a classifier) belong to no block and are never trained.

    Raises:
        PipelineError: the network has fewer blocks.
    """
    network: Any = encoder.network
    used = _used_parameters(encoder)
    blocks: list[list[nn.Parameter]] = []
    for module in _units(network):
        parameters = [parameter for parameter in module.parameters() if id(parameter) in used]
        if blocks and isinstance(module, nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm):
            blocks[-1] += parameters
        elif parameters:
            blocks.append(parameters)
    if last is not None and last > len(blocks):
        raise PipelineError(f"train_last: {encoder.name} has {len(blocks)} blocks that its features depend on, not {last}; null trains all")
    if last is None or last == len(blocks):
        return [[parameter for parameter in network.parameters() if id(parameter) in used]]  # also parameters outside any child
    return blocks[len(blocks) - last :]


def _units(network: nn.Module) -> list[nn.Module]:
    units: list[nn.Module] = []
    for child in network.children():
        units += list(child.children()) if isinstance(child, nn.Sequential | nn.ModuleList) else [child]
    return units


def _used_parameters(encoder: Encoder) -> set[int]:
    """Find the ids of parameters that the encoder's output depends on, by a backward pass over one input."""
    network: Any = encoder.network
    parameters, learning = list(network.parameters()), [parameter.requires_grad for parameter in network.parameters()]
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        network.eval().requires_grad_(True)
        if isinstance(encoder, AudioEncoder):
            noise = torch.rand(16_000, generator=torch.Generator().manual_seed(0)) - 0.5
            row = encoder.prepare(noise, 16_000, 1, 1.0)
        else:
            assert isinstance(encoder, VisualEncoder)
            row = encoder.prepare(torch.full((1, 32, 32, 3), 128, dtype=torch.uint8))
        gradients = torch.autograd.grad(encoder.encode(row.to(parameters[0].device)).sum(), parameters, allow_unused=True)
    for parameter, wanted in zip(parameters, learning, strict=True):
        parameter.requires_grad_(wanted)
    return {id(parameter) for parameter, gradient in zip(parameters, gradients, strict=True) if gradient is not None}
