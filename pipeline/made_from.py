"""Collect the params that make an out, for :mod:`pipeline.made_with`: nested as in params.yaml, defaults filled in."""

from __future__ import annotations

from typing import Any

from pipeline.config import Params
from pipeline.contrastive.settings import FinetuneSettings
from pipeline.encoders import ENCODERS
from pipeline.features.settings import NOT_FINETUNED, FeatureSet
from pipeline.made_with import WORKING_SETTINGS, publishable
from pipeline.media.job import WORKING_SETTINGS as MEDIA_WORKING_SETTINGS
from pipeline.methods import METHODS
from pipeline.settings import merge


def index_params(params: Params) -> dict[str, Any]:
    """The params that make the index: not where the clips lie, nor the folds, an out of their own."""
    return publishable({"dataset": params.dataset.model_dump(mode="json", exclude={"clips", "folds", "sounds"})})


def folds_params(params: Params) -> dict[str, Any]:
    """The params that make the folds; empty without folds."""
    folds = params.dataset.folds
    return {} if folds is None else publishable({"folds": folds.model_dump(mode="json")})


def finetuned_params(params: Params, name: str) -> dict[str, Any]:
    """The params that make a fine-tuned encoder, apart from the index."""
    settings = params.finetune[name]
    dump = settings.model_dump(mode="json", exclude=WORKING_SETTINGS) | _encoders(settings)
    return publishable({"finetune": {name: dump}, **_clips_params(params)})


def features_params(params: Params, name: str) -> dict[str, Any]:
    """The params that make a feature set, extracted, imported or labelled, apart from the index and a fine-tuned encoder."""
    if name in params.labels:
        labels = params.labels[name]
        of_both = merge(features_params(params, labels.features), features_params(params, labels.teachers))
        return merge(of_both, publishable({"labels": {name: labels.model_dump(mode="json")}}))
    if name in params.imports:
        return publishable({"imports": {name: params.imports[name].model_dump(mode="json")}})
    settings = params.features[name]
    return publishable({"features": {name: settings.model_dump(mode="json") | _encoders(settings)}, **_clips_params(params)})


def run_params(params: Params, name: str) -> dict[str, Any]:
    """All params that make a run's numbers; ``settings`` are those of its method, defaults filled in."""
    run = params.runs[name]
    features = params.features.get(params.features_of(run.features))
    finetuned = features.finetuned if features is not None and features.finetuned != NOT_FINETUNED else None
    return {
        **index_params(params),
        **folds_params(params),
        **(finetuned_params(params, finetuned) if finetuned else {}),
        **features_params(params, run.features),
        "settings": publishable(METHODS.get(run.method).Config(**params.method_settings(name)).model_dump(mode="json")),
        "train": params.train.model_dump(mode="json", exclude=WORKING_SETTINGS),
    }


def _clips_params(params: Params) -> dict[str, Any]:
    return {"media": params.media.sampling(MEDIA_WORKING_SETTINGS)}


def _encoders(settings: FeatureSet | FinetuneSettings) -> dict[str, Any]:
    """The encoders of an entry with the defaults of their own settings filled in."""
    choices = {"visual": settings.visual, "audio": settings.audio}
    return {
        modality: {"encoder": choice.encoder, **ENCODERS.get(choice.encoder).Config.model_validate(choice.options).model_dump(mode="json")}
        for modality, choice in choices.items()
    }
