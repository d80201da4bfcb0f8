"""Fine-tune one or both encoders and write the results to a directory.

``encoder.safetensors``: ``network.state_dict()`` of the visual encoder, loaded by the setting ``weights: finetuned/NAME``.
``audio/encoder.safetensors``: the same of the audio encoder, ``weights: finetuned/NAME/audio``. Each only if it was trained.
``heads.safetensors``: the projections used to measure the metrics. ``finetune.json``: settings, clips, validation metrics before and
after. ``curve.csv``: one line per epoch.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor

from pipeline.cache import Cache, fingerprint
from pipeline.closure import digests
from pipeline.contrastive.batches import Clips
from pipeline.contrastive.data import Selection, audio_features
from pipeline.contrastive.model import ContrastiveModel, Heads
from pipeline.contrastive.settings import FinetuneSettings
from pipeline.contrastive.trainer import LAST_GOOD, Finetuner, FinetuningState
from pipeline.devices import choose_device, use_deterministic_kernels, use_own_gpu, use_precision, use_threads
from pipeline.disk import disk_fault, name_place
from pipeline.encoders import ENCODERS, AudioEncoder, VisualEncoder, create
from pipeline.errors import PipelineError
from pipeline.features.settings import EncoderChoice
from pipeline.made_with import publishable
from pipeline.ranks import Rank
from pipeline.sealed import read_sealed, write_sealed
from pipeline.tensors import save_tensors
from pipeline.together import ALONE, Together


@dataclass
class Finetuning:
    """One entry of ``finetune``, with the clips chosen for it."""

    name: str
    settings: FinetuneSettings
    selection: Selection
    cache: Cache

    def fingerprint(self) -> str:
        """Identify everything that determines the weights: an interrupted run's checkpoint is resumed only if it is equal."""
        encoders = [Path(inspect.getfile(ENCODERS.get(choice.encoder))) for choice in (self.settings.visual, self.settings.audio)]
        code = digests([Path(__file__), *encoders])
        items = [[(item.clip, item.job.key, item.segments) for item in part] for part in (self.selection.train, self.selection.validation)]
        specs = [_create(choice).spec() for choice in (self.settings.visual, self.settings.audio)]
        return fingerprint(code, items, specs, self.settings.model_dump(mode="json"))

    def check_rank(self, rank: Rank) -> None:
        """Check that torchrun started as many processes as the settings say, and take the GPU of this one.

        Raises:
            PipelineError: it started others.
        """
        if not rank.several:
            return
        if rank.count != self.settings.devices or rank.count % rank.beside:
            raise PipelineError(
                f"torchrun started {rank.count} processes ({rank.beside} on this machine), and finetune.{self.name}.devices is"
                f" {self.settings.devices}; make them equal, with as many on each machine: the weights depend on the number"
            )
        use_own_gpu(self.settings.device, rank.local)

    def run(self, directory: Path, together: Together = ALONE) -> str:
        """Fine-tune, resuming an interrupted run's checkpoint in ``directory``; return a one-line summary.

        Args:
            together: the processes that torchrun started for this; all call this. Without, it starts ``devices`` processes itself.

        Raises:
            PipelineError: no usable clip, encoders that do not fit each other, or a loss that is not finite.
        """
        use_threads(self.settings.threads)
        device, settings = choose_device(self.settings.device), self.settings
        rank = together.rank
        if not rank.several:
            _check_devices(device, settings.devices)
        use_deterministic_kernels(device)
        use_precision(device, settings.precision)
        several, spawning = settings.devices > 1, settings.devices > 1 and not rank.several
        fabric = Fabric(
            accelerator="gpu" if device.type == "cuda" else "cpu", devices=settings.devices if spawning else rank.beside,
            num_nodes=rank.count // rank.beside, strategy="ddp_spawn" if spawning else "ddp" if several else "auto",
            precision=settings.of_fabric,
        )  # fmt: skip
        if spawning:
            self._audio(device)  # fill the cache once, for every process to read
        work: Any = partial(_work, job=self, directory=directory)
        summary, problem = fabric.launch(work) if several else work(fabric)
        if problem:
            raise PipelineError(problem)
        together.wait()
        if not rank.first:
            return summary
        for path in (_checkpoint(directory), *(directory / name for name in LAST_GOOD.values()), *directory.glob(".*.partial")):
            path.unlink(missing_ok=True)
        return f"{self.selection.summary()}; {summary}"

    def train(self, fabric: Fabric, directory: Path) -> str:
        """Train in one of the processes; the first one writes the results."""
        use_deterministic_kernels(fabric.device)  # all three again, because with several processes this one was spawned by ``run``
        use_precision(fabric.device, self.settings.precision)
        use_threads(self.settings.threads)
        torch.manual_seed(self.settings.seed)
        features, items = self._audio(fabric.device), self.selection.train
        if not items:
            raise PipelineError(f"{self.name}: no usable clip in the training split; check the index and the status of the clips")
        encoder = _create(self.settings.visual)
        assert isinstance(encoder, VisualEncoder)
        audio = torch.cat([features[item.clip][list(item.segments)] for item in items])
        deviation, mean = torch.std_mean(audio, dim=0, correction=0)
        heads = Heads(self.settings, encoder.output_shape[-1], audio.shape[1], mean, deviation)
        heard = _create(self.settings.audio) if "audio" in self.settings.sides else None
        model = ContrastiveModel(encoder, heads, self.settings, heard).to(fabric.device)
        train, validation = Clips(items, features), Clips(self.selection.validation, features)
        finetuner = Finetuner(fabric, model, self.settings, train, validation, self.cache, _checkpoint(directory), self.name)
        state = finetuner.run()
        after = next((record for record in state.history if record["epoch"] == state.best_epoch), None)
        metrics = {key.removeprefix("val/"): value for key, value in after.items() if key.startswith("val/")} if after else state.before
        if fabric.is_global_zero:
            self._write(directory, state, metrics)
        return _sentence(state, metrics)

    def _audio(self, device: torch.device) -> dict[str, Tensor]:
        encoder = _create(self.settings.audio)
        assert isinstance(encoder, AudioEncoder)
        return audio_features(
            self.cache, encoder, [*self.selection.train, *self.selection.validation], device, self.settings.precision == "tf32"
        )

    def _write(self, directory: Path, state: FinetuningState, after: dict[str, float]) -> None:
        for side in self.settings.sides:
            place = directory if side == "visual" else directory / side
            place.mkdir(exist_ok=True)
            save_tensors(place / "encoder.safetensors", state.best[side])
        save_tensors(directory / "heads.safetensors", state.best["heads"])
        columns = list(dict.fromkeys(key for record in state.history for key in record)) or ["epoch"]
        pd.DataFrame(state.history, columns=columns).to_csv(directory / "curve.csv", index=False)
        facts: dict[str, Any] = {
            "settings": publishable(self.settings.model_dump(mode="json")),
            "clips": {"train": len(self.selection.train), "val": len(self.selection.validation), "left out": self.selection.left_out},
            "best_epoch": state.best_epoch,
            "epochs": len(state.history),
            "val": {"before": state.before, "after": after},
            "machines": state.machines,
        }
        write_sealed(directory / "finetune.json", facts)


def finetuned_on(directory: Path) -> list[dict[str, Any]]:
    """Machines that took part in the fine-tuning stored in ``directory``."""
    return read_sealed(directory / "finetune.json")["machines"]


def _work(fabric: Fabric, job: Finetuning, directory: Path) -> tuple[str, str]:
    """Train and return (summary, problem): an exception in a spawned process would reach the user as a traceback."""
    try:
        return job.train(fabric, directory), ""
    except PipelineError as error:
        return "", str(error)
    except Exception as error:
        name_place(error, directory)
        if (sentence := disk_fault(error, directory)) is None:
            raise
        return "", sentence


def _create(choice: EncoderChoice) -> Any:
    return create(choice.encoder, **choice.options)


def _checkpoint(directory: Path) -> Path:
    return directory / "finetune.checkpoint"


def _check_devices(device: torch.device, wanted: int) -> None:
    if device.type == "cuda" and wanted > torch.cuda.device_count():
        raise PipelineError(f"devices: {wanted}, but torch finds {torch.cuda.device_count()} GPUs here")


def _sentence(state: FinetuningState, after: dict[str, float]) -> str:
    if not after:
        return f"{len(state.history)} epochs, no validation clips: the last epoch is kept"
    recalls = ", ".join(
        f"{name} recall@1 {state.before[key]:.1f} -> {after[key]:.1f} %"
        for name, key in (("visual to audio", "v2a/recall@1"), ("audio to visual", "a2v/recall@1"))
    )
    best = "none, the encoders stay as they were" if state.best_epoch < 0 else state.best_epoch
    return f"best of {len(state.history)} epochs: {best}; on validation {recalls}"
