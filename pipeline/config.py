"""The schema of params.yaml: every block, every key, checked before any work, all problems told at once.

>>> params = load(Path("params.yaml"))
>>> params.media.frames_per_second
2.0
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, Field, ValidationError

from pipeline.contrastive.settings import FinetuneSettings
from pipeline.datasets import DATASETS, DatasetSettings
from pipeline.datasets.base import NO_CLIPS
from pipeline.encoders import ENCODERS
from pipeline.errors import InputProblems, PipelineError
from pipeline.features.importing.settings import ImportSet
from pipeline.features.settings import NOT_FINETUNED, EncoderChoice, FeatureSet
from pipeline.made_with import WORKING_SETTINGS, publishable
from pipeline.media.decoding import WORKING_SETTINGS as MEDIA_WORKING_SETTINGS
from pipeline.media.settings import MediaSettings
from pipeline.methods import METHODS, MethodConfig
from pipeline.registry import Registry, UnknownName, suggest
from pipeline.report.published import PATH as PUBLISHED
from pipeline.report.published import load_published
from pipeline.report.settings import ReportSettings
from pipeline.settings import Name, Settings, merge
from pipeline.synth.settings import SynthSettings
from pipeline.tasks import TASKS
from pipeline.text import printable
from pipeline.training.choices import method_settings
from pipeline.training.settings import Run, TrainSettings
from pipeline.yaml_files import read_yaml

Entry = TypeVar("Entry")
LONGEST_SHOWN = 200  # characters of a value in a message


class CacheSettings(Settings):
    """Where the per-clip cache is; no stage depends on it."""

    dir: Path | None = Field(None, description="absolute path; null: $AVEL_CACHE, else ~/.cache/avel-pipeline")


class MachineSettings(Settings):
    """What the machine can bear; it changes no number, and no stage depends on it."""

    seeds_at_once: int = Field(
        1,
        ge=1,
        le=1024,
        description="seeds of a run trained side by side, on the CPU or on one GPU; above 1 each in a process of its own, which loads the"
        " run's splits for itself: so many times the memory. For speed, at most cores / train.threads",
    )


class Params(Settings):
    """params.yaml, one block per stage. Every block that a stage of dvc.yaml tracks is needed, be it empty: {}."""

    synth: dict[Name, SynthSettings] = Field(description="worlds to write below data/raw/; {} with clips of your own")
    dataset: DatasetSettings
    media: MediaSettings
    finetune: dict[Name, FinetuneSettings] = Field(description="encoders to fine-tune, by a name of your choice")
    features: dict[Name, FeatureSet] = Field(description="feature sets, by a name of your choice")
    imports: dict[Name, ImportSet] = Field(description="published features to import, by a name of your choice")
    methods: dict[Name, dict[str, Any]] = Field(description="settings of each method, by its registered name")
    train: TrainSettings
    runs: dict[Name, Run] = Field(description="what is trained and evaluated, by a name of your choice")
    report: ReportSettings
    cache: CacheSettings = CacheSettings()
    machine: MachineSettings = MachineSettings()

    def method_settings(self, name: str) -> dict[str, Any]:
        """The settings of a run's method: its own block with the run's overrides laid over it."""
        return method_settings(self.methods, self.runs[name])

    def makes_index(self) -> dict[str, Any]:
        """What of the params makes the index; like the other ``makes_`` nested as in the file, for :mod:`pipeline.made_with`."""
        return publishable({"dataset": self.dataset.model_dump(mode="json")})

    def makes_finetuned(self, name: str) -> dict[str, Any]:
        """What makes a fine-tuned encoder, beside the index."""
        settings = self.finetune[name]
        dump = settings.model_dump(mode="json", exclude=WORKING_SETTINGS) | _encoders(settings)
        return publishable({"finetune": {name: dump}, **self._makes_clips()})

    def makes_features(self, name: str) -> dict[str, Any]:
        """What makes a feature set, extracted or imported, beside the index and a fine-tuned encoder."""
        if name in self.imports:
            return publishable({"imports": {name: self.imports[name].model_dump(mode="json")}})
        settings = self.features[name]
        return publishable({"features": {name: settings.model_dump(mode="json") | _encoders(settings)}, **self._makes_clips()})

    def makes_run(self, name: str) -> dict[str, Any]:
        """Everything that makes a run's numbers; ``settings`` are those of its method, defaults filled in."""
        run = self.runs[name]
        features = self.features.get(run.features)
        finetuned = features.finetuned if features is not None and features.finetuned != NOT_FINETUNED else None
        return {
            **self.makes_index(),
            **(self.makes_finetuned(finetuned) if finetuned else {}),
            **self.makes_features(run.features),
            "settings": publishable(METHODS.get(run.method).Config(**self.method_settings(name)).model_dump(mode="json")),
            "train": self.train.model_dump(mode="json", exclude=WORKING_SETTINGS),
        }

    def _makes_clips(self) -> dict[str, Any]:
        return {"media": self.media.model_dump(mode="json", exclude=MEDIA_WORKING_SETTINGS)}


def _encoders(settings: FeatureSet | FinetuneSettings) -> dict[str, Any]:
    """The encoders of an entry with the defaults of their own settings filled in."""
    choices = {"visual": settings.visual, "audio": settings.audio}
    return {
        modality: {"encoder": choice.encoder, **ENCODERS.get(choice.encoder).Config.model_validate(choice.options).model_dump(mode="json")}
        for modality, choice in choices.items()
    }


def pick(block: Mapping[str, Entry], name: str, kind: str) -> Entry:
    """The entry of a block by its name.

    Raises:
        UnknownName: with the nearest name in the block.
    """
    if name not in block:
        raise UnknownName(f"unknown {kind} {name!r}{suggest(name, block)}")
    return block[name]


def load(path: Path) -> Params:
    """Read and check a params file.

    Raises:
        InputProblems: every problem of the file, each with the path of its key and, for an unknown name, the nearest valid one.
    """
    if not path.is_file():
        raise InputProblems(str(path), ["no such file; copy one of suites/*.yaml to params.yaml"])
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise InputProblems(str(path), [str(error)]) from None
    if not isinstance(content, Mapping):
        raise InputProblems(str(path), ["the file holds no mapping of blocks (synth, dataset, media, ...)"])
    problems: list[str] = []
    content = with_named_keys(content, "", problems)
    problems += schema_problems(Params, content, "")
    problems += reference_problems(content)
    if problems:
        raise InputProblems(str(path), [printable(problem) for problem in problems])  # a key may hold what drives a terminal
    return Params.model_validate(content)


def schema_problems(model: type[BaseModel], content: Any, prefix: str) -> Iterator[str]:
    """pydantic's findings as sentences, ``prefix`` being the path of ``content`` in the file."""
    try:
        model.model_validate(content)
    except ValidationError as error:
        for finding in error.errors():
            keys = [str(part) for part in finding["loc"] if part != "[key]"]  # pydantic's word for: the key itself, not what it stands for
            path = ".".join(([prefix] if prefix else []) + keys) or "the file"
            if finding["type"] == "extra_forbidden":
                yield f"{path}: unknown key{suggest(keys[-1], known_keys(model, keys[:-1]))}"
            elif finding["type"] == "missing":
                yield f"{path}: this key is needed"
            else:
                message = finding["msg"].removeprefix("Value error, ")
                whole = finding["type"] == "value_error" and isinstance(finding["input"], Mapping)  # the message names what of the block
                named = finding["loc"][-1:] == ("[key]",)  # the message quotes it
                yield f"{path}: {message[:1].lower()}{message[1:]}" + ("" if whole or named else f" (here: {shown(finding['input'])})")


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        text = f"a number of {value.bit_length()} bits"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} ..."


def with_named_keys(content: Any, prefix: str, problems: list[str]) -> Any:
    """``content`` with every key a text; a key that YAML takes for something else (1, true, null) goes to ``problems``."""
    if isinstance(content, list):
        return [with_named_keys(part, f"{prefix}.{place}" if prefix else str(place), problems) for place, part in enumerate(content)]
    if not isinstance(content, Mapping):
        return content
    named: dict[str, Any] = {}
    for key, value in content.items():
        spelled = key if isinstance(key, str) else "null" if key is None else str(key).lower() if isinstance(key, bool) else str(key)
        path = f"{prefix}.{spelled}" if prefix else spelled
        if not isinstance(key, str):
            problems.append(f'{path}: YAML reads this key as {type(key).__name__}, and a name is needed; put it in quotes: "{spelled}"')
        named[spelled] = with_named_keys(value, path, problems)
    return named


def known_keys(model: Any, keys: Iterable[str]) -> list[str]:
    """Names of the fields of the model found by following ``keys`` down from ``model``, through dicts and optionals."""
    for key in keys:
        if isinstance(model, type) and issubclass(model, BaseModel) and key in model.model_fields:
            model = model.model_fields[key].annotation
        elif get_args(model):  # dict[str, Model]: the key is a name of the user's
            model = get_args(model)[-1]
        models = [part for part in get_args(model) if isinstance(part, type) and issubclass(part, BaseModel)]
        if models and not _is_dict(model):
            model = models[0]
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _is_dict(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) is dict


def reference_problems(content: Mapping[str, Any]) -> list[str]:
    """What no single block can know: names of encoders, methods, tasks and feature sets, and the settings these own."""
    dataset, finetune, features = (_mapping(content.get(block)) for block in ("dataset", "finetune", "features"))
    imports, methods, runs = (_mapping(content.get(block)) for block in ("imports", "methods", "runs"))
    problems = _unknown("dataset.kind", dataset.get("kind"), DATASETS)
    problems += segment_problems(dataset, _mapping(content.get("media")))
    for name, feature_set in features.items():
        for modality in ("visual", "audio"):
            choice = _mapping(_mapping(feature_set).get(modality))
            problems += encoder_problems(f"features.{name}.{modality}", choice, modality)
        problems += finetuned_problems(f"features.{name}", _mapping(feature_set), finetune)
    problems += import_problems(dataset, finetune, features, imports)
    for name, settings in finetune.items():
        problems += finetune_problems(f"finetune.{name}", name, _mapping(settings))
    for name, settings in methods.items():
        path = f"methods.{name}"
        problems += _unknown(path, name, METHODS) or list(schema_problems(METHODS.get(name).Config, settings or {}, path))
    streams = {name: _mapping(_mapping(entry).get("others")) for name, entry in {**features, **imports}.items()}
    for name, run in runs.items():
        problems += run_problems(f"runs.{name}", _mapping(run), streams, methods)
    problems += report_problems(_mapping(content.get("report")), runs)
    return problems


def report_problems(report: Mapping[str, Any], runs: Mapping[str, Any]) -> list[str]:
    """Runs that the report names, runs of one task where they are compared, and the published numbers it compares them with."""
    baseline, papers = report.get("baseline"), _mapping(report.get("papers"))
    shown = report.get("shown") if isinstance(report.get("shown"), list) else []
    named = [("report.baseline", baseline)] if baseline is not None else []
    named += [(f"report.{block}", run) for block in ("papers", "notes") for run in _mapping(report.get(block))]
    named += [("report.shown", run) for run in shown or []]
    comparisons = {run: others for run, others in _mapping(report.get("comparisons")).items() if isinstance(others, list)}
    named += [(f"report.comparisons.{run}", name) for run, others in comparisons.items() for name in [run, *others]]
    named += [(f"report.baselines.{key}", run) for key, run in _mapping(report.get("baselines")).items()]
    # What is no text at all, the schema has named.
    problems = [f"{path}: unknown run {run!r}{suggest(run, runs)}" for path, run in named if isinstance(run, str) and run not in runs]
    pairs = ((run, other) for run, others in comparisons.items() for other in others if isinstance(other, str))
    for run, other in ((run, other) for run, other in pairs if {run, other} <= set(runs)):
        if (task := _mapping(runs[run]).get("task")) != (its := _mapping(runs[other]).get("task")):
            problems.append(f"report.comparisons.{run}: {other} is of the task {its}, {run} of {task}; only runs of one task compare")
    problems += baseline_problems(_mapping(report.get("baselines")), runs)
    for run, key in papers.items():
        if isinstance(key, str) and key not in (published := load_published()):
            near = ", ".join(map(repr, get_close_matches(key, published, n=3, cutoff=0.4))) or "none"
            problems.append(f"report.papers.{run}: no published number has the key {key!r}; near it: {near} (all: {PUBLISHED})")
    return problems


def baseline_problems(baselines: Mapping[str, Any], runs: Mapping[str, Any]) -> list[str]:
    """A key is a run or a task, and the run it is compared with is of the same task."""
    problems = []
    for key, run in baselines.items():
        if not isinstance(run, str):
            continue
        task = _mapping(runs[key]).get("task") if key in runs else key
        other = _mapping(runs.get(run)).get("task")
        if key not in runs and key not in TASKS.names():
            problems.append(f"report.baselines.{key}: neither a run nor a task{suggest(str(key), [*runs, *TASKS.names()])}")
        elif run in runs and task != other:
            problems.append(f"report.baselines.{key}: {run} is a run of {other}, not of {task}; their scores cannot be compared")
    return problems


def segment_problems(dataset: Mapping[str, Any], media: Mapping[str, Any]) -> list[str]:
    """A segment must hold a whole number of frames, at least one."""
    try:
        MediaSettings.model_validate(media).frames_per_segment(float(dataset["segment_seconds"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return []  # the schema has named it
    except PipelineError as error:
        return [str(error)]
    return []


def import_problems(
    dataset: Mapping[str, Any], finetune: Mapping[str, Any], features: Mapping[str, Any], imports: Mapping[str, Any]
) -> list[str]:
    """Extracted and imported sets share data/features/, and only imported ones need no clips."""
    problems = [f"imports.{name}: features.{name} exists as well; rename one of them" for name in imports if name in features]
    if str(dataset.get("clips")).strip("/") == NO_CLIPS.as_posix():
        problems += [
            f"{block}.{name}: needs raw clips, but dataset.clips is {NO_CLIPS}; point that at them, or empty the block: {block}: {{}}"
            for block, entries in (("finetune", finetune), ("features", features))
            for name in entries
        ]
    for name, settings in imports.items():
        sources = [_mapping(_mapping(settings).get("visual")), _mapping(_mapping(settings).get("audio"))]
        if any(source.get("negatives") for source in sources) and not dataset.get("negatives"):
            problems.append(f"imports.{name}: names files of negatives; say how many clips they hold: dataset.negatives")
    return problems


def encoder_problems(path: str, choice: Mapping[str, Any], modality: str) -> list[str]:
    name = choice.get("encoder")
    if not isinstance(name, str):
        return []
    if problems := _unknown(f"{path}.encoder", name, ENCODERS):
        return problems
    encoder = ENCODERS.get(name)
    if encoder.modality != modality:
        fitting = [other for other in ENCODERS.names() if ENCODERS.get(other).modality == modality]
        return [f"{path}.encoder: {name!r} encodes {encoder.modality}, not {modality}{suggest(name, fitting)}"]
    options = {key: value for key, value in choice.items() if key not in EncoderChoice.model_fields}
    return list(schema_problems(encoder.Config, options, path))


def finetune_problems(path: str, name: str, settings: Mapping[str, Any]) -> list[str]:
    """A fine-tuning's name, its two encoders, and the weights they start from."""
    problems = []
    if name == NOT_FINETUNED:
        problems.append(f"{path}: the name {name!r} cannot be used for a fine-tuned encoder; choose another")
    for modality in ("visual", "audio"):
        choice = _mapping(settings.get(modality))
        problems += encoder_problems(f"{path}.{modality}", choice, modality)
        encoder = ENCODERS.get(choice["encoder"]) if choice.get("encoder") in ENCODERS.names() else None
        if encoder is not None and getattr(encoder, "sees", "frame") == "segment":
            problems.append(f"{path}.{modality}.encoder: {choice['encoder']!r} sees the frames of a segment together; choose one of frames")
        if _finetuned_name(choice) is not None:
            problems.append(f"{path}.{modality}.weights: start from published weights or a file, not from another fine-tuning")
    return problems


def finetuned_problems(path: str, feature_set: Mapping[str, Any], finetune: Mapping[str, Any]) -> list[str]:
    """``finetuned`` of a feature set, which DVC depends on, and ``weights``, which the encoder loads, must name the same encoder."""
    if "finetuned" not in feature_set:
        return [f"{path}.finetuned: this key is needed: the entry of `finetune` whose encoder it uses, or {NOT_FINETUNED}"]
    name, visual, audio = feature_set["finetuned"], _mapping(feature_set.get("visual")), _mapping(feature_set.get("audio"))
    if not isinstance(name, str):
        return []  # the schema has named it
    problems = []
    if (named := _finetuned_name(audio)) is not None:
        problems.append(f"{path}.audio.weights: finetuned/{named}: audio encoders are not fine-tuned, only visual ones")
    if name == NOT_FINETUNED:
        if (named := _finetuned_name(visual)) is not None:
            problems.append(f"{path}.finetuned: the weights are finetuned/{named}; set finetuned: {named}, or other weights")
    elif name not in finetune:
        problems.append(f"{path}.finetuned: unknown fine-tuning {name!r}{suggest(str(name), [*finetune, NOT_FINETUNED])}")
    elif _finetuned_name(visual) != name:
        problems.append(f"{path}.visual.weights: with finetuned: {name} they are finetuned/{name} (here: {visual.get('weights')!r})")
    else:
        tuned = _mapping(_mapping(finetune[name]).get("visual"))
        for key in ("encoder", "model"):
            if visual.get(key) != tuned.get(key):
                problems.append(f"{path}.visual.{key}: {name} fine-tunes {tuned.get(key)!r} (here: {visual.get(key)!r})")
    return problems


def _finetuned_name(choice: Mapping[str, Any]) -> str | None:
    """NAME of ``weights: finetuned/NAME``; None for other weights."""
    weights = choice.get("weights")
    return weights.removeprefix("finetuned/") if isinstance(weights, str) and weights.startswith("finetuned/") else None


def run_problems(path: str, run: Mapping[str, Any], features: Mapping[str, Mapping[str, Any]], methods: Mapping[str, Any]) -> list[str]:
    """``features``: by feature set its streams beside the visual and the audio one, with their settings."""
    problems = _unknown(f"{path}.task", run.get("task"), TASKS) + _unknown(f"{path}.method", run.get("method"), METHODS)
    feature_set, method = run.get("features"), run.get("method")
    if isinstance(feature_set, str) and feature_set not in features:
        problems.append(f"{path}.features: unknown feature set {feature_set!r}{suggest(feature_set, features)}")
    if method not in METHODS.names():
        return problems
    if method not in methods:
        problems.append(f"{path}.method: the block methods.{method} is missing; add it (it may be empty: {{}})")
    if run.get("task") in TASKS.names() and run["task"] not in METHODS.get(method).tasks:
        problems.append(f"{path}.task: {method} does not do {run['task']!r} (it does: {', '.join(sorted(METHODS.get(method).tasks))})")
    own = _mapping(methods.get(method))
    if not list(schema_problems(METHODS.get(method).Config, own, "")):  # else named once, at the method
        settings = merge(own, _mapping(run.get("overrides")))
        found = list(schema_problems(METHODS.get(method).Config, settings, f"{path}.overrides"))
        if not found and isinstance(feature_set, str) and feature_set in features:
            found = stream_problems(path, METHODS.get(method).Config.model_validate(settings), feature_set, features[feature_set])
        problems += found
    return problems


def stream_problems(path: str, config: MethodConfig, feature_set: str, others: Mapping[str, Any]) -> list[str]:
    """Streams that a run's method wants and its feature set has not, or has for training clips alone."""
    problems = [
        f"{path}.features: {feature_set} has no stream {stream!r}, which its method wants; choose another feature set, or settings that do"
        f" without{suggest(stream, others)}"
        for stream in (*config.streams, *config.label_streams)
        if stream not in others
    ]
    for stream in config.streams:
        if _mapping(others.get(stream)).get("training_only"):
            problems.append(f"{path}.features: the stream {stream!r} of {feature_set} is there for training clips only, and no features")
    return problems


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _unknown(path: str, name: Any, registry: Registry) -> list[str]:
    if not isinstance(name, str) or name in registry.names():
        return []
    return [f"{path}: unknown {registry.kind} {name!r}{suggest(name, registry.names())}"]
