"""What a prediction needs of a trained run: one seed's network, and how its features are made.

It comes from a project (params.yaml and models/runs) or from one exported file (:mod:`pipeline.predict.exported`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import config
from pipeline.errors import PipelineError
from pipeline.features.settings import FeatureSet
from pipeline.media.settings import MediaSettings
from pipeline.media.windowing import Windowing
from pipeline.methods import Method
from pipeline.scratch import Scratch
from pipeline.tasks import TASKS
from pipeline.training.members import Member, trained_members
from pipeline.training.settings import TrainSettings
from pipeline.training.trained import load_seed, weights_path

PARAMS = Path("params.yaml")
RUNS = Path("models/runs")


@dataclass(frozen=True)
class Source:
    """One seed of a run, and one of its folds if it has them.

    method: in eval mode, with its weights; facts: stored with them.
    weights: name of their file, for messages.
    media, windowing, features: how files are decoded, cut and encoded.
    device, precision: of the network, as in the block ``train``.
    advice: what to do where features would be made otherwise than in training.
    unpacked: where an exported file's weights lie as long as the prediction lasts; None: a project's.
    """

    run: str
    seed: int
    method: Method
    facts: dict[str, Any]
    weights: str
    media: MediaSettings
    windowing: Windowing
    features: FeatureSet
    train: TrainSettings
    advice: str = "restore these, or run `dvc repro`"
    unpacked: Scratch | None = None
    fold: int | None = None

    @property
    def member(self) -> Member:
        return Member(self.seed, self.fold)


def of_project(run: str, seed: int | None = None, fold: int | None = None) -> Source:
    """Load a seed (and fold) of a run of the project in the working directory; None: the run's first.

    Raises:
        UnknownName: no such run.
        PipelineError: the seed or the fold was never trained, or cannot predict files.
    """
    params = config.load(PARAMS)
    seeds = config.pick(params.runs, run, "run").seeds
    trained = trained_members(RUNS / run)
    chosen = Member(seeds[0] if seed is None else seed, first_fold(folds_in(trained), fold))
    check_trained(run, chosen)
    method, facts = load_seed(RUNS / run, *chosen)
    check_predicts(run, facts)
    features = config.pick(params.features, params.features_of(facts["features"]), "feature set")
    windowing = Windowing(params.dataset.segments, params.dataset.segment_seconds)
    weights = str(weights_path(RUNS / run, *chosen))
    return Source(run, chosen.seed, method, facts, weights, params.media, windowing, features, params.train, fold=chosen.fold)


def folds_in(members: Sequence[Member]) -> list[int]:
    """The folds of a run's finished trainings; empty for a run without folds."""
    return sorted({member.fold for member in members if member.fold is not None})


def first_fold(folds: Sequence[int], fold: int | None) -> int | None:
    """The fold to take: the one asked for, else the first; None of a run without folds."""
    return folds[0] if folds and fold is None else fold


def check_predicts(run: str, facts: dict[str, Any]) -> None:
    """Check that a run finds events in files.

    Raises:
        PipelineError: its task has no events, or its features cannot be made of a file.
    """
    if not TASKS.get(facts["task"]).has_tracks:
        raise PipelineError(f"run {run!r} is of the task {facts['task']!r}, which finds no events in a file; choose another run")
    if not facts.get("feature_spec", {}).get("encoders"):
        raise PipelineError(
            f"run {run!r}: {RUNS / run} does not record the encoders of its features (they were imported, or an earlier version"
            " trained the run), so a new file cannot be encoded; train it on extracted features"
        )


def check_trained(run: str, member: Member) -> None:
    """Check that a seed of a run is trained, in a fold if it has them.

    Raises:
        PipelineError: the run, or this seed of it, has no weights in models/runs.
    """
    trained = trained_members(RUNS / run)
    if not trained:
        raise PipelineError(f"run {run!r} was never trained: there is no {RUNS / run}; run `dvc repro evaluate@{run}` (or `dvc pull`)")
    if member not in trained:
        seeds, folds = sorted({each.seed for each in trained}), folds_in(trained)
        known = f"; folds: {', '.join(map(str, folds))}" if folds else ""
        raise PipelineError(f"run {run!r} has no {member}; trained seeds: {', '.join(map(str, seeds))}{known}")
