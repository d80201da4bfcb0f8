"""The work on one clip in an extraction: decoded arrays -> encoder input, encoder output -> features in the cache.

:mod:`pipeline.features.plan` decides which clips are encoded, an engine of :mod:`pipeline.features.engines` where and in which passes.

Shape letters: N rows of an encoder (frames or segments), T segments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.cache import Cache
from pipeline.devices import choose_device
from pipeline.encoders import AudioEncoder, Encoder, VisualEncoder, create
from pipeline.errors import PipelineError, naming_clips
from pipeline.features.card import Arriving, Card, CudaRuntime
from pipeline.features.passes import PassEncoder, out_of_memory
from pipeline.features.settings import FeatureSet
from pipeline.machine import this_machine
from pipeline.media.decoding import Arrays, load_decoded, load_sound
from pipeline.media.job import Job

EXTRACT_VERSION = 3  # raised by hand whenever a code change of an extraction moves the numbers, on a CPU or on a GPU
KIND = "features"


class InHand:
    """The decoded arrays of a clip, given away once: they are freed when the encoder's input is made.

    Args:
        arrays: see :func:`pipeline.media.decoding.decode_in_hand`.
        rate: of the sound, in Hz.
        freed: called when they are given away.
    """

    def __init__(self, arrays: Arrays, rate: int, freed: Callable[[], object] = lambda: None) -> None:
        self._arrays: Arrays | None = arrays
        self._rate, self._freed = rate, freed

    def take(self) -> tuple[np.ndarray, np.ndarray, int] | None:
        """(frames, waveform, rate) the first time, None after that."""
        arrays, self._arrays = self._arrays, None
        if arrays is None:
            return None
        self._freed()
        return arrays["frames"], arrays["waveform"], self._rate


@dataclass(frozen=True)
class Clip:
    """A clip with a good verdict, and the cache keys of its features by modality.

    in_hand: its decoded arrays; None where they are read from the cache.
    """

    facts: dict[str, Any]
    job: Job
    keys: dict[str, str]
    in_hand: InHand | None = None


@dataclass(eq=False)
class ClipFeatures:
    """The features of one clip in one modality, in the making.

    Attributes:
        rows: expected of the encoder.
        outputs: rows computed so far, on the device; none any more once they are reduced.
        reduced: the segments, (T, *shape of a segment), on the CPU or on their way to it.
    """

    clip: Clip
    modality: str
    rows: int
    outputs: list[Tensor] = field(default_factory=list)
    reduced: Tensor | Arriving | None = None

    @property
    def whole(self) -> bool:
        return sum(map(len, self.outputs)) == self.rows


class ClipEncoder:
    """The two encoders of a feature set on their device, and the cache that stores their output.

    Args:
        settings: the entry of ``features``.
        cache: the per-clip cache.
        card: the streams of the device; by default a GPU's own, none on a CPU.
    """

    def __init__(self, settings: FeatureSet, cache: Cache, card: Card | None = None) -> None:
        self.settings, self.cache = settings, cache
        self.device = choose_device(settings.device)
        self.card = card or (Card(CudaRuntime(self.device)) if self.device.type == "cuda" else None)
        choices = {"visual": settings.visual, "audio": settings.audio}
        self.encoders: dict[str, Encoder] = {name: create(choice.encoder, **choice.options) for name, choice in choices.items()}
        self.passes = {
            modality: PassEncoder(encoder, self.device, settings.precision, settings.batch_size, self.card)
            for modality, encoder in self.encoders.items()
        }

    def warm_up(self) -> None:
        """Run a pass with one frame in it, so that a card is ready when the first clips are.

        cuDNN chooses its algorithms by the shape of a pass, for every thread anew, and kernels are loaded when they are first used.
        """
        visual = self.encoders["visual"]
        if self.card and isinstance(visual, VisualEncoder) and visual.prepares_on_device and visual.sees == "frame":
            self.passes["visual"].launch([self.card.pin(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))])

    def load(self, clip: Clip) -> tuple[np.ndarray | None, np.ndarray, int]:
        """Return (frames, waveform, sample rate) of a clip, in hand or from the cache; frames are None if not needed."""
        if clip.in_hand is not None and (found := clip.in_hand.take()) is not None:
            return found
        of_clip = self.cache, clip.job.clip, clip.job.key, clip.job
        return load_decoded(*of_clip) if "visual" in self.lacking(clip) else (None, *load_sound(*of_clip))

    def prepare(self, clip: Clip) -> dict[str, Tensor]:
        """Prepare the encoders' input, (N, *input), for each modality missing from the cache. Runs in a loading thread.

        For a GPU it lies in pinned memory, and frames stay as they are: the GPU transforms them, if the encoder can.
        """
        job = clip.job
        frames, waveform, rate = self.load(clip)
        prepared: dict[str, Tensor] = {}
        for modality in self.lacking(clip):
            encoder = self.encoders[modality]
            with naming_clips([job.clip], f"encoder {encoder.name}"):
                if isinstance(encoder, VisualEncoder) and frames is not None:
                    prepared[modality] = self._prepare_frames(encoder, torch.from_numpy(frames), len(frames) // job.segments)
                elif isinstance(encoder, AudioEncoder):
                    prepared[modality] = encoder.prepare(torch.from_numpy(waveform), rate, job.segments, job.segment_seconds)
        return {modality: self.card.pin(rows) for modality, rows in prepared.items()} if self.card else prepared

    def lacking(self, clip: Clip) -> list[str]:
        """The modalities of a clip whose features the cache lacks."""
        return [modality for modality in self.encoders if not self.cache.has(KIND, clip.keys[modality])]

    def _prepare_frames(self, encoder: VisualEncoder, frames: Tensor, per_segment: int) -> Tensor:
        on_device = self.card is not None and encoder.prepares_on_device
        return encoder.arrange(frames, per_segment) if on_device else encoder.prepare(frames, per_segment)

    def reduce(self, made: ClipFeatures) -> None:
        """Reduce the outputs of a whole clip to its segments, on the device, and send these to the CPU.

        Only queues the work if there is a card; segments are a few megabytes, the frames' maps sixteen times that.
        """
        try:
            self._reduce(made)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        if made.reduced is None:  # outside the handler, as in PassEncoder.launch
            self.passes[made.modality].make_room()
            self._reduce(made)
        made.outputs.clear()

    def _reduce(self, made: ClipFeatures) -> None:
        with torch.inference_mode():
            segments = reduce_to_segments(self.encoders[made.modality], torch.cat(made.outputs), made.clip.job.segments)
            made.reduced = self.card.fetch(segments) if self.card else segments

    def store(self, made: ClipFeatures) -> None:
        """Stage the segments of a reduced clip, (T, *shape of a segment), for the cache; the engine delivers them.

        Raises:
            PipelineError: a feature that is not finite in the stored dtype.
        """
        job, segments = made.clip.job, made.reduced
        assert segments is not None, "features are reduced before they are stored"
        numbers = (segments.result() if isinstance(segments, Arriving) else segments).numpy()
        stored = numbers.astype(self.settings.dtype)
        if not np.isfinite(stored).all():
            fits = np.isfinite(numbers).all() and self.settings.dtype == "float16"
            advice = "set features.*.dtype: float32" if fits else "no dtype can hold them: check the encoder's weights"
            raise PipelineError(
                f"clip {job.clip!r}: its {made.modality} features are not finite in {self.settings.dtype}"
                f" (largest magnitude {np.abs(numbers).max():.4g}); {advice}"
            )
        self.cache.stage(KIND, made.clip.keys[made.modality], {"features": stored}, {"machine": this_machine(self.device)})


def reduce_to_segments(encoder: Encoder, output: Tensor, segments: int) -> Tensor:
    """Turn an encoder's rows of one clip, (N, *output_shape), into (T, *shape of a segment).

    Audio has one row a segment. Frames are averaged, as in the published features, unless the encoder keeps them apart.
    """
    rows = output.unflatten(0, (segments, -1))
    kept = isinstance(encoder, VisualEncoder) and encoder.frames == "keep"
    return rows if kept else rows.mean(1)
