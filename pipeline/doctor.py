"""Examine this machine and this copy of the project, with advice on each problem: ``python -m pipeline doctor``."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import av
import torch

from pipeline import config
from pipeline.before_work import emulated_precisions, programs_in, refusals, unusable_devices, will_write
from pipeline.cache import Cache, CacheError
from pipeline.cache.contents import held
from pipeline.contrastive.settings import FinetuneSettings
from pipeline.disk_room import Writing, sentence, shortages
from pipeline.encoders import ENCODERS, PretrainedConfig
from pipeline.encoders.folders import FolderConfig, weights_file
from pipeline.encoders.known_weights import KNOWN, KnownWeights
from pipeline.encoders.timm_models import TimmConfig
from pipeline.encoders.weights import find, list_known, resolve, weights_sha256
from pipeline.errors import PipelineError
from pipeline.features.settings import FeatureSet
from pipeline.machine import PROJECT, described, project_version, this_machine
from pipeline.named_data import foreign_outs, missing_data
from pipeline.plan import missing_files
from pipeline.project import elsewhere
from pipeline.report.provenance import read_sentence
from pipeline.sealed import read_sealed
from pipeline.today import REPORT, news_since_report
from pipeline.training.loggers import missing_loggers

MATCHED = {"torch": "2.11.", "torchvision": "0.26.", "torchaudio": "2.11."}  # built for one another; see pyproject.toml
PACKAGES = ("timm", "lightning-fabric", "av", "decord", "soundfile", "numpy", "pandas", "pyarrow", "pydantic", "dvc", "dvclive")
CLIPS = Path("data/clips")
LITTLE_SPACE = 5 * 2**30  # bytes; a few hundred decoded clips
DVC_SECONDS = 120
SLOW = "set it to float32 (train, finetune: 32-true), or to tf32, which is float32 on a CPU"
# DVC's messages about files that it writes in place. If killed while writing it leaves them cut short, and then cannot start again.
TORN = {
    ".dvc/tmp/rwlock": r"RWLock-file '\.dvc/tmp/rwlock'. JSON structure is corrupted",
    "dvc.lock": r"dvc\.lock' (is invalid|validation failed)",
}


@dataclass(frozen=True)
class Finding:
    """One line: the subject, what was found, and advice if that is a problem."""

    about: str
    found: str
    advice: str = ""


def examine(root: Path) -> Iterator[Finding]:
    """Run all examinations of the project in ``root`` (the working directory); nothing is changed."""
    yield from versions()
    yield from devices()
    yield from decoders()
    params, problem = load_params(root / "params.yaml")
    yield problem
    yield from data(params, root)
    if params:
        yield from room(params, root)
    yield from weights(params)
    try:
        yield from cache(Cache(params.cache.place if params else None))
    except CacheError as error:
        yield Finding("cache", "cannot be used", str(error))
    yield from results(root, params is not None)
    yield dvc(root)


def as_text(findings: list[Finding]) -> str:
    """Format the findings in columns, then the numbered problems with their advice."""
    lines = [f"{'!' if finding.advice else ' '} {finding.about:22} {finding.found}" for finding in findings]
    problems = [finding for finding in findings if finding.advice]
    lines += ["", f"{len(problems)} problem{'s' if len(problems) != 1 else ''}" + (":" if problems else ", all is well")]
    lines += [f"  {number}. {finding.about}: {finding.advice}" for number, finding in enumerate(problems, 1)]
    return "\n".join(lines)


def versions() -> Iterator[Finding]:
    yield Finding(PROJECT, project_version())
    right = (3, 11) <= sys.version_info[:2] <= (3, 12)
    yield Finding("python", platform.python_version(), "" if right else "use Python 3.11 or 3.12: make PYTHON=python3.11 environment")
    for package in (*MATCHED, *PACKAGES):
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(package, "not installed", "" if package == "decord" else "make environment")
            continue
        wanted = MATCHED.get(package, "")
        fits = version.startswith(wanted)
        yield Finding(package, version, "" if fits else f"{wanted}* is needed beside the other two of torch's set: make environment")


def devices() -> Iterator[Finding]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield Finding(
        "cpu", f"{len(os.sched_getaffinity(0))} cores for this process, {torch.get_num_threads()} used by torch, {memory:.0f} GiB"
    )
    yield Finding("processor", described({**this_machine(), "versions": {}}))
    if not torch.cuda.is_available():
        yield Finding("gpu", "none that torch can use; `device: auto` takes the CPU")
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        yield Finding(f"gpu {number}", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB")


def results(root: Path, comparable: bool = True) -> Iterator[Finding]:
    """Check whether the published table mixes machines or is older than today's params.

    Args:
        comparable: False if today's params cannot be read, so there is nothing to compare.
    """
    if not (root / REPORT / "table.md").is_file():
        yield Finding("table", "not made yet; `dvc repro` makes it")
        return
    sentence, mixed, stale = read_sentence(root / REPORT)
    advice = f"{REPORT / 'table.md'} names the machine of each run; train them on one to compare their digits" if mixed else ""
    yield Finding("table", sentence or "no machine is recorded", advice)
    old = [f"{run}: stale: params differ: {', '.join(changes)}" for run, changes in stale.items()]
    for line in (*old, *(news_since_report(root) if comparable else ())):
        yield Finding("table", line, "`dvc repro` makes the table again")


def decoders() -> Iterator[Finding]:
    missing = [name for name in ("h264", "hevc", "vp9", "av1", "aac", "opus", "mp3") if name not in av.codecs_available]
    library = ".".join(map(str, av.library_versions["libavcodec"]))
    advice = f"this build of PyAV lacks {', '.join(missing)}: pip install --force-reinstall av" if missing else ""
    yield Finding("decoder pyav", f"libavcodec {library}", advice)
    present = importlib.util.find_spec("decord") is not None
    yield Finding("decoder decord", "present, the second choice" if present else "not installed; only PyAV decodes (wheels: x86-64)")


def load_params(path: Path) -> tuple[config.Params | None, Finding]:
    try:
        params = config.load(path)
    except PipelineError as error:
        return None, Finding("params.yaml", "not usable", " ".join(str(error).split()))
    return params, Finding("params.yaml", f"{len(params.features)} feature sets, {len(params.runs)} runs")


def data(params: config.Params | None, root: Path) -> Iterator[Finding]:
    """Data and files that settings name and the project lacks, and what stages would refuse."""
    problems = (
        [*foreign_outs(params, root), *missing_data(params, root), *missing_files(params, root), *missing_loggers(params.train.loggers)]
        if params
        else []
    )
    for problem in problems:
        setting, _, rest = problem.partition(": ")
        found, _, advice = rest.partition("; ")
        yield Finding(setting, found, advice)
    for line in decoded_health(root):
        yield Finding("films", line)
    if params is None:
        return
    refused = [] if problems or not params.dataset.annotations.exists() else list(refusals(params))
    for about, reason in (*unusable_devices(params), *refused):
        yield Finding(about, "would stop `dvc repro`", reason)
    for about, precision in emulated_precisions(params):
        yield Finding(
            about, f"{precision}: emulated by a processor without AVX-512, where encoders took 7 to 24 times as long as in float32", SLOW
        )
    if not problems and not refused:
        yield Finding("data", "everything that params.yaml names is here or is made by a stage")


def room(params: config.Params, root: Path) -> Iterator[Finding]:
    """What the stages that are not done will write, beside what is free, and whether all of it fits."""
    found: list[tuple[str, Writing]] = []
    for name, settings in params.features.items():
        for encoder in programs_in(settings):
            yield Finding(f"extract@{name}", f"its encoder {encoder} runs code that params.yaml names; not run, so its size is not known")
    with suppress(PipelineError, OSError):  # data or weights are missing, which other findings say
        for stage, writing in will_write(params, root):
            found.append((stage, writing))
            if writing.size:
                yield Finding(stage, sentence(writing))
    problems = shortages([writing for _, writing in found], params.cache.min_free_gb)
    yield from (Finding("room", "too little for all of it together", problem) for problem in problems)


def decoded_health(root: Path) -> list[str]:
    """What `decode` found to say of the films; nothing before it has run."""
    path = root / CLIPS / "summary.json"
    return list(read_sealed(path).get("health", [])) if path.is_file() else []


def weights(params: config.Params | None) -> Iterator[Finding]:
    """Every known weights file with its hash, then the weights that feature sets and fine-tunings of ``params`` use or miss."""
    for known in list_known():
        path = find(known)
        if path is None:
            yield Finding(f"weights {known.name}", "not here")
            continue
        digest = weights_sha256(path)
        wrong = f"{path} is not the published file (sha256 {known.sha256}...): remove it, then python -m pipeline weights get {known.name}"
        yield Finding(f"weights {known.name}", f"{digest[:16]} {path}", "" if digest.startswith(known.sha256) else wrong)
    entries: dict[str, FeatureSet | FinetuneSettings] = {}
    entries |= {**params.features, **{f"finetune.{name}": entry for name, entry in params.finetune.items()}} if params else {}
    for name, entry in entries.items():
        for modality, choice in (("visual", entry.visual), ("audio", entry.audio)):
            settings = ENCODERS.get(choice.encoder).Config.model_validate(choice.options)
            if not isinstance(settings, PretrainedConfig) or choice.encoder not in KNOWN:
                continue
            try:
                place = resolve(*_stated(choice.encoder, settings))
                yield Finding(f"{name}.{modality}", f"{choice.encoder}, {place or 'random weights, as asked for'}")
            except PipelineError as error:
                if params is not None and settings.weights.removesuffix("/audio") in {f"finetuned/{made}" for made in params.finetune}:
                    yield Finding(f"{name}.{modality}", f"{choice.encoder}, {settings.weights}: made by the stage finetune, not yet run")
                else:
                    yield Finding(f"{name}.{modality}", f"{choice.encoder}, no weights", str(error))


def _stated(encoder: str, settings: PretrainedConfig) -> tuple[str, KnownWeights]:
    """The setting ``weights`` of an encoder, and the published file that it may mean."""
    if isinstance(settings, FolderConfig) and settings.weights == "pretrained":
        return str(weights_file(settings.folder)), KNOWN[encoder]
    if isinstance(settings, TimmConfig):
        return settings.weights, replace(KNOWN[encoder], name=settings.model, file=f"{settings.model}.safetensors")
    return settings.weights, KNOWN[encoder]


def cache(of: Cache) -> Iterator[Finding]:
    """Path and size of the per-clip cache, and the free space there."""
    existing = next(place for place in (of.local.root, *of.local.root.parents) if place.is_dir())
    writable = os.access(existing, os.W_OK)
    advice = "" if writable else f"{existing} cannot be written: set cache.dir in params.yaml, or $AVEL_CACHE"
    try:
        of.check()
        kinds = held(of, {})
    except CacheError as error:
        kinds, advice = {}, str(error)
    parts = [f"{kind} {each.all.entries} entries, {each.all.size / 2**30:.2f} GiB" for kind, each in kinds.items()]
    yield Finding("cache", f"{of.root}: {'; '.join(parts) or 'empty'}", advice)
    free = shutil.disk_usage(existing).free
    little = f"free some space, or remove entries of {of.root} (`python -m pipeline cache` shows them; they are made again when needed)"
    yield Finding("cache disk", f"{free / 2**30:.1f} GiB free", little if free < LITTLE_SPACE else "")


def dvc(root: Path) -> Finding:
    """Check that the project is under DVC, and which stages have to run."""
    if not (root / ".dvc").is_dir() or not (root / "dvc.yaml").is_file():
        return Finding("dvc", f"{root} has no .dvc and dvc.yaml", f"{elsewhere(root) or 'run `dvc init`'}; `dvc init` makes .dvc")
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", timeout=DVC_SECONDS, check=False)
        changed = json.loads(done.stdout.strip().splitlines()[-1])
    except (subprocess.TimeoutExpired, OSError) as error:
        return Finding("dvc", f"`dvc status` did not answer: {type(error).__name__}", "run `dvc status` to see why")
    except (ValueError, IndexError):
        for path in (path for path, sentence in TORN.items() if re.search(sentence, done.stderr)):
            return Finding("dvc", f"{path} is cut short (DVC was killed)", f"with no DVC running: rm {path}; then `dvc repro`")
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        return Finding("dvc", "`dvc status` failed", f"{reason}; run `dvc status` to see all of it")
    if not changed:
        return Finding("dvc", "everything is up to date")
    names = list(changed)
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return Finding("dvc", f"{len(names)} stages to run: {shown}; `dvc repro` runs them")
