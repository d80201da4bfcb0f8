"""Train the seeds of a run, in turn or side by side, and store them with everything that prediction needs."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from pipeline.cache import file_sha256
from pipeline.devices import choose_device, use_deterministic_kernels, use_own_gpu, use_precision, use_threads
from pipeline.errors import InputProblems, PipelineError
from pipeline.labels.streams import without_labels
from pipeline.machine import joined
from pipeline.made_with import WORKING_SETTINGS, publishable
from pipeline.methods import Method
from pipeline.ranks import Rank
from pipeline.sealed import read_sealed
from pipeline.tensors import load_or_discard, load_tensors, save_tensors
from pipeline.together import ALONE, Together
from pipeline.training.data import SplitData
from pipeline.training.loggers import missing_loggers
from pipeline.training.loop import Trainer, TrainingState
from pipeline.training.members import Member
from pipeline.training.memory import keep_freed_memory
from pipeline.training.placement import SharedFeatures, Splits, may_be_resident, memory_settings, placed, training_splits
from pipeline.training.progress import Bar
from pipeline.training.room import explaining_memory
from pipeline.training.run import RunInputs
from pipeline.training.seeds import train_side_by_side
from pipeline.training.settings import TrainSettings
from pipeline.training.trained import facts_path, is_trained, save_seed, weights_path, write_curves


def check_rank(rank: Rank, inputs: RunInputs, settings: TrainSettings, cluster: str | None) -> None:
    """Check that every process of torchrun has seeds to train, and take the GPU of this one.

    Raises:
        PipelineError: more processes than seeds, or than GPUs of this machine, or a cluster that trains them.
    """
    if not rank.several:
        return
    if rank.count > len(inputs.members):
        kind = "seeds" if inputs.folds is None else "seeds and folds"
        raise PipelineError(
            f"torchrun started {rank.count} processes, and {inputs.name} has {len(inputs.members)} {kind}, of which each is trained by one"
        )
    if cluster is not None:
        raise PipelineError(f"torchrun started {rank.count} processes, and machine.engine is ray, which starts its own; use one of the two")
    use_own_gpu(settings.device, rank.local)


def train_run(
    inputs: RunInputs, settings: TrainSettings, directory: Path, live: Path, seeds_at_once: int = 1, cluster: str | None = None,
    together: Together = ALONE,
) -> None:  # fmt: skip
    """Train every seed into ``directory``, keeping finished seeds and resuming checkpoints of an interrupted run.

    Args:
        seeds_at_once: number of processes if above 1, at most one per seed left to train; the weights are the same.
        cluster: address of the Ray cluster that trains them, that many on a GPU; None: this machine does.
        together: processes that share the seeds, each training its own ones one after the other, to the same weights; the first one
            finishes the directory.

    Raises:
        PipelineError: a seed failed (see :meth:`pipeline.training.loop.Trainer.run`), memory ran out, another program changed the
            features, or a logger's package is missing.
        SystemExit: 143 after SIGTERM, with checkpoints written.
    """
    if problems := missing_loggers(settings.loggers):
        raise InputProblems("params.yaml", problems)
    if problems := inputs.config.class_problems(inputs.classes):
        raise InputProblems(f"runs.{inputs.name}", problems)
    rank = together.rank
    left = [member for member in inputs.members[rank.number :: rank.count] if not is_trained(directory, member)]
    if left and rank.first and (remark := inputs.remark()):
        print(remark, flush=True)
    if left and cluster is not None:
        from pipeline.training.ray_seeds import train_on_cluster

        share = None if settings.device == "cpu" else seeds_at_once
        train = partial(train_alone, inputs, settings, directory, live, None, min(seeds_at_once, len(left)))
        train_on_cluster(cluster, train, inputs.name, left, directory, share, settings.threads or torch.get_num_threads())
    elif (at_once := min(1 if rank.several else seeds_at_once, len(left))) > 1:
        features = features_for_seeds(inputs, settings, at_once)
        train_side_by_side(partial(train_alone, inputs, settings, directory, live, features, at_once), inputs.name, left, at_once)
    elif left:
        for fold in dict.fromkeys(member.fold for member in left):
            run = RunTraining.load(inputs.of_fold(fold), settings, directory, live)
            for member in left:
                if member.fold == fold:
                    train_seed(run, member)
    together.wait()
    if not rank.first:
        return
    for pattern in ("*.checkpoint", "*.first", "*.first-checkpoint", ".*.partial"):  # the last: left by a process killed while writing
        for path in directory.glob(pattern):
            path.unlink()
    histories = {member: read_sealed(facts_path(directory, *member))["history"] for member in inputs.members}
    write_curves(directory, histories)


def features_for_seeds(inputs: RunInputs, settings: TrainSettings, at_once: int) -> SharedFeatures | bool:
    """Decide where the processes of several seeds have their features.

    Returns:
        On a GPU one copy for all, loaded here, where it fits. Otherwise, whether each process loads its own: only if all copies fit. Where
        they do not, all read from disk batch by batch, and share the system's cache of files.
    """
    device, shared = choose_device(settings.device), inputs.folds is None  # each fold has features of its own
    splits = training_splits(inputs if shared else inputs.of_fold(0), settings)
    resident = may_be_resident(inputs.name, splits, device, settings, copies=1 if device.type == "cuda" and shared else at_once)
    if device.type == "cpu" or not resident or not shared:
        for data in splits.values():
            data.stored.verify()  # once here, and not by every process
        return resident
    with explaining_memory(inputs.name, device, memory_settings(inputs, splits, True, at_once)):
        return SharedFeatures(placed(splits, device, resident=True))


def train_alone(
    inputs: RunInputs, settings: TrainSettings, directory: Path, live: Path, features: SharedFeatures | bool | None, at_once: int,
    member: Member, bar: Callable[..., Any],
) -> None:  # fmt: skip
    """Train one seed (of one fold) in a process that does nothing else, beside others.

    Args:
        features: as :func:`features_for_seeds` returns.
    """
    keep_freed_memory()
    train_seed(RunTraining.load(inputs.of_fold(member.fold), settings, directory, live, bar, features, at_once), member)
    gc.collect()  # what is left of the training; the process that shares its features must know that they are no longer used here


@dataclass
class RunTraining:
    """The parts that the trainings of a run's seeds share: settings, paths, and the splits on the device.

    ``bar`` makes their progress bars; ``to_lower`` names the settings to lower where memory runs out.
    """

    inputs: RunInputs
    settings: TrainSettings
    directory: Path
    live: Path
    bar: Callable[..., Any]
    fabric: Fabric
    splits: Splits
    to_lower: list[str]

    @classmethod
    def load(
        cls, inputs: RunInputs, settings: TrainSettings, directory: Path, live: Path, bar: Callable[..., Any] = Bar,
        features: SharedFeatures | bool | None = None, at_once: int = 1,
    ) -> RunTraining:  # fmt: skip
        """Set up torch for the rest of this process and load the splits.

        Args:
            features: shared ones, or whether to load them into memory; None decides by what is free.
            at_once: number of seeds that train side by side.
        """
        use_threads(settings.threads)
        device = choose_device(settings.device)
        use_deterministic_kernels(device)
        use_precision(device, settings.precision)
        on_gpu = device.type == "cuda"
        devices = [torch.cuda.current_device()] if on_gpu else 1
        fabric = Fabric(accelerator="gpu" if on_gpu else "cpu", devices=devices, precision=settings.of_fabric)
        splits = training_splits(inputs, settings)
        resident = may_be_resident(inputs.name, splits, device, settings, at_once) if features is None else bool(features)
        to_lower = memory_settings(inputs, splits, resident, at_once)
        with explaining_memory(inputs.name, device, to_lower):
            there = features.placed(splits, device) if isinstance(features, SharedFeatures) else placed(splits, device, resident)
        return cls(inputs, settings, directory, live, bar, fabric, there, to_lower)

    @property
    def device(self) -> torch.device:
        return self.splits["train"].device

    def trainer(self, method: Method, name: str, checkpoint: str, live: str, watched: SplitData | None = None) -> Trainer:
        """Make a trainer.

        Args:
            checkpoint: name of its checkpoint file.
            live: name of the directory of its live metrics.
        """
        places = self.directory / checkpoint, self.live / live
        splits = self.splits["train"], self.splits["val"]
        return Trainer(self.fabric, method, self.inputs.task, *splits, self.settings, *places, name, watched, self.bar)


def train_seed(run: RunTraining, member: Member) -> None:
    """Train one seed, from its checkpoint if there is one, and write ``seed-K.safetensors`` and ``seed-K.json``.

    With folds ``run`` has the splits of the member's fold.
    """
    name = f"{run.inputs.name}, {member}"
    with explaining_memory(name, run.device, run.to_lower):
        first, before, machines = train_first(run, member)
        torch.manual_seed(member.seed)
        method = run.inputs.build()
        trainer = run.trainer(method, name, f"{member.stem}.checkpoint", member.stem, run.splits.get("test"))
        with torch.no_grad():
            method.prepare(first, trainer.in_order)
        state = trainer.run()
    run.inputs.store.check_unchanged()  # DVC takes the features that are there at the end for those of these weights
    for fault in state.faults:
        print(f"{trainer.name}: {fault}", flush=True)
    state.machines = joined(machines, *state.machines)
    assert state.best_weights is not None
    facts = seed_facts(run, state) | ({} if member.fold is None else {"fold": member.fold})
    save_seed(run.directory, member, state.best_weights, facts)
    save_time(run.live / member.stem, weights_path(run.directory, *member), before + state.seconds, run.device.type)


def train_first(run: RunTraining, member: Member) -> tuple[Method | None, float, list[dict[str, Any]]]:
    """Train the network that ``config.first`` describes under the same seed, or load it from an interrupted run.

    Returns:
        (network in eval mode, seconds of its training, machines that took part); (None, 0, []) if the method needs none.
    """
    torch.manual_seed(member.seed)
    method = run.inputs.build_first()
    if method is None:
        return None, 0.0, []
    weights = run.directory / f"{member.stem}.first"
    trainer = run.trainer(method, f"{run.inputs.name}, {member}, first network", f"{member.stem}.first-checkpoint", f"{member.stem}-first")
    kept = load_or_discard(weights, f"the first network of {member} is trained again")
    if kept is None:
        state = trainer.run()
        assert state.best_weights is not None
        save_tensors(weights, state.best_weights, {"seconds": str(state.seconds), "machines": json.dumps(state.machines)})
        kept = load_tensors(weights)
    tensors, facts = kept
    method.load_kept(tensors)
    return method.eval(), float(facts["seconds"]), json.loads(facts["machines"])


def seed_facts(run: RunTraining, state: TrainingState) -> dict[str, Any]:
    """Collect the facts that rebuild the method around its weights, and those that describe how they were made."""
    inputs = run.inputs
    return {
        "task": inputs.run.task,
        "method": inputs.run.method,
        "settings": publishable(inputs.settings),
        "train": run.settings.model_dump(mode="json", exclude=WORKING_SETTINGS),
        "made_with": inputs.made_with,
        "machines": state.machines,
        "features": inputs.run.features,
        "feature_spec": without_labels(inputs.store.spec),  # prediction compares it with the features that it makes
        "shapes": {name: list(shape) for name, shape in inputs.store.shapes.items()},
        "classes": inputs.classes,
        "best_epoch": state.best_epoch,
        "skipped_steps": state.skipped,
        **({"faults": state.faults} if state.faults else {}),
        "history": state.history,
    }


def save_time(live: Path, weights: Path, seconds: float, device: str) -> None:
    """Write ``time.json`` beside the live metrics: the training time of these weights.

    It is not among the outs, because their bytes must not depend on time.
    """
    live.mkdir(parents=True, exist_ok=True)
    facts = {"weights": file_sha256(weights), "seconds": round(seconds, 1), "device": device}
    (live / "time.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
