"""Every registered method in each of its main variants, with features, truth and answers of its task, for the contract."""

from __future__ import annotations

import copy
import functools
import io
import pickle
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pipeline.batch import Batch, Tensors
from pipeline.methods import METHODS, Method, Progress, create
from pipeline.tasks import avel, avvp, cml, dave
from pipeline.tasks.avel import AvelTargets, Scores
from pipeline.tasks.avvp import ParsingScores, ParsingTargets
from pipeline.tasks.avvp_av import JointTargets
from pipeline.tasks.cml import MatchingScores, MatchingTargets
from pipeline.tasks.dave import DetectionScores, EventTargets
from pipeline.tasks.labels import VideoTargets


class Small(NamedTuple):
    """A method built small: its settings, variants of them, and the names of its dropouts."""

    settings: dict
    variants: list[dict]
    dropouts: tuple[str, ...] = ()


SUPPRESSION = {
    "visual_hidden": 16, "audio_hidden": 8, "attention_width": 8, "width": 16, "intra_feedforward": 24, "cross_feedforward": 24,
}  # fmt: skip
PROPAGATION = {"attention_width": 12, "input_width": 12, "input_hidden": 16, "recurrent_width": 8, "classifier_width": 16}
PARSING = {"width": 16, "feedforward": 24}
VALOR = {**PARSING, "heads": 2, "pseudo_labels": None}  # the batches hold none; test_parsing_supervision.py has those that do
RECURRENT = {"attention_width": 8, "recurrent_width": 6, "classifier_width": 12}
DENSE = {"width": 16, "heads": 2, "levels": 2, "stem": 1, "dependency_width": 4}
WEAK = {"supervision": "weak"}
SMALL = {
    "bilstm": Small({"width": 8}, [{}, WEAK], ("dropout",)),
    "avel": Small(
        {"attention_width": 12, "recurrent_width": 8, "classifier_width": 16},
        [
            {}, {"modality": "audio"}, {"modality": "visual"}, {"variant": "released"}, {"fusion": "dmrn"}, WEAK,
            {**WEAK, "variant": "released"}, {**WEAK, "fusion": "dmrn"}, {**WEAK, "modality": "audio"},
        ],
    ),
    "cace_net": Small(
        SUPPRESSION,
        [
            {}, {"variant": "paper"}, {"guidance": "none"}, {"guidance": "audio"}, {"guidance": "visual"},
            {"guidance": "visual", "variant": "paper"}, {"temporal": "lstm"}, {"temporal": "snn"}, {"temporal": "none"},
            {"contrast": False}, {"enhanced_heads": "both"}, {"augmentation": "channel_mask"}, {"augmentation": "mixup"},
            {"gate_loss": "faithful"}, WEAK, {**WEAK, "contrast": False},
        ],
        ("input_dropout", "dropout", "interaction_dropout"),
    ),
    "ccln": Small(
        {**SUPPRESSION, "contrast_width": 8},
        [{}, {"interaction": "plain"}, {"interaction": "none", "foreground_enhancement": False}, {"contrast": False}, WEAK],
        ("input_dropout", "dropout", "interaction_dropout"),
    ),
    "cmbs": Small(
        SUPPRESSION,
        [{}, {"gate_loss": "faithful"}, WEAK, {**WEAK, "video_loss": "soft_margin"}, {**WEAK, "weak_evaluation": "published"}],
        ("input_dropout", "attention_dropout", "dropout", "interaction_dropout"),
    ),
    "cmran": Small(
        {"visual_hidden": 16, "width": 16, "feedforward": 24},
        [{}, WEAK, {**WEAK, "video_loss": "soft_margin"}],
        ("input_dropout", "dropout"),
    ),
    "dmin": Small(
        {"visual_hidden": 16, "width": 16, "feedforward": 24, "factors": 2},
        [{}, WEAK, {**WEAK, "video_loss": "soft_margin"}],
        ("input_dropout", "dropout", "match_dropout", "cross_dropout"),
    ),
    "ave_clip": Small(
        {"attention_width": 12, "width": 8, "heads": 2, "windows": (2, 4)}, [{}, {"smoothing": False}, WEAK], ("dropout",)
    ),
    "css_net": Small(
        {"visual_hidden": 16, "width": 16, "heads": 2}, [{}, {"select": "topk", "top": 2}, WEAK], ("input_dropout", "dropout")
    ),
    "mm_pyramid_avel": Small(
        {**PARSING, "heads": 2, "levels": 2, "attention_width": 8}, [{}, {"supervision": "weak"}], ("dropout", "attention_dropout")
    ),
    "psp": Small(
        PROPAGATION,
        [{}, WEAK, {**WEAK, "video_labels": "proportions"}],
        ("dropout",),
    ),
    "cpsp": Small(PROPAGATION, [{}, {"segment_activation": "none"}, WEAK, {**WEAK, "video_loss": "soft_margin"}], ("dropout",)),
    "vscg": Small(PROPAGATION, [{}, {"event_threshold": 0.7}, WEAK], ("dropout", "recurrent_dropout")),
    "event_memory": Small(
        {"slots": 3, "width": 8, "heads": 2, "feedforward": 12}, [{}, WEAK], ("dropout", "head_dropout")
    ),
    "magan": Small(
        {"recurrent_width": 8, "width": 16, "heads": 2, "feedforward": 24},
        [{}, {"losses": "faithful"}, WEAK],
        ("input_dropout", "dropout", "interaction_dropout"),
    ),
    "han": Small(PARSING, [{}, {"motion": None}], ("dropout",)),
    "ma": Small(PARSING, [{}, {"motion": None}], ("dropout",)),
    "mm_pyramid": Small(
        {**PARSING, "heads": 2, "levels": 2}, [{}, {"variant": "released", "motion": None}], ("dropout", "attention_dropout")
    ),
    "jomold": Small(PARSING, [{}, {"motion": None}, {"denoise": False}], ("dropout", "visual_dropout")),
    "cmpae": Small(PARSING, [{}, {"motion": None}, {"denoise": False}], ("dropout", "visual_dropout", "absence_dropout")),
    "avel_parsing": Small(RECURRENT, [{}, {"motion": None}]),
    "avsdn_parsing": Small(RECURRENT, [{}]),
    "leap": Small(
        {
            "width": 16, "encoder_heads": 2, "encoder_layers": 2, "encoder_feedforward": 24, "decoder_heads": 2, "decoder_layers": 1,
            "decoder_feedforward": 24, "text_width": 5, "pseudo_labels": None,
        },
        [{}, {"encoder": "han", "encoder_layers": 1, "motion": None}, {"encoder": "valor", "encoder_layers": 1}],
        ("encoder_dropout", "dropout", "attention_dropout"),
    ),
    "valor": Small(VALOR, [{}, {"motion": None, "order": "parallel"}], ("dropout",)),
    "valor_plus": Small({**VALOR, "layers": 2}, [{}], ("dropout",)),
    "valor_plus_plus": Small({**VALOR, "layers": 2}, [{}], ("dropout",)),
    "uwav": Small({**VALOR, "audio_hidden": 8, "balanced": False, "mixup": None}, [{}], ("dropout",)),
    "cvcms": Small({**PARSING, "token_width": 8, "token_feedforward": 8}, [{}], ("dropout", "token_dropout")),
    "mgn": Small(
        {"width": 16, "heads": 2, "blocks": 1, "cross_blocks": 1, "mixer_width": 8, "segments": 6}, [{}],
        ("drop_path",),
    ),
    "dhhn": Small({**PARSING, "guide_heads": 2}, [{}], ("dropout",)),
    "coleaf": Small(
        {"feedforward": 24, "anchor": "han", "anchor_settings": {**PARSING, "dropout": 0.0}},
        [
            {}, {"variant": "paper"}, {"motion": None, "token_head": "none", "contrast": "plain"}, {"contrast": "pseudo_labels"},
            {"contrast": "none", "self_modality": False, "co_occurrence": False}, {"anchor": "jomold", "variant": "paper"},
            {"anchor": "cmpae"}, {"anchor": "valor", "anchor_settings": {**PARSING, "heads": 2, "dropout": 0.0}},
        ],
        ("dropout", "head_dropout"),
    ),
    "uwav_teacher": Small(
        {
            "width": 8, "hidden": 12, "layers": 1, "heads": 2, "feedforward": 12, "audio_text_width": 5, "visual_text_width": 6,
            "audio_scale": 10.0, "visual_scale": 10.0,
        },
        [{}],
        ("dropout",),
    ),
    "unav": Small(DENSE, [{}, {"variant": "released", "dependency_width": 0}, {"dependency_width": 0, "motion": "motion"}], ("drop_path",)),
    "cace_net_dense": Small(
        DENSE,
        [
            {}, {"avca": "after_embedding", "visual_context": "none", "scale": "none", "bece_heads": "regression", "dependency_width": 0},
            {"psi": 0, "bece": False, "dependency_width": 0},
        ],
        ("drop_path", "guidance_dropout"),
    ),
    "avdln": Small({"hidden": 12, "width": 8}, [{}]),
    "dam": Small({"width": 8, "heads": 2}, [{}], ("dropout",)),
    "dmin_matching": Small(
        {"width": 8, "heads": 2, "feedforward": 12},
        [{}, {"given": "whole", "overlap": "repeated"}],
        ("dropout", "cross_dropout"),
    ),
    "dam_localization": Small(
        {"attention_width": 12, "width": 8, "heads": 2}, [{}, {"gather": "all"}, {"gather": "truth"}], ("dropout",)
    ),
    "ccln_matching": Small(
        {"width": 8, "heads": 2, "feedforward": 12},
        [{}, {"gated": False, "foreground_enhancement": False, "contrast": False}],
        ("dropout",),
    ),
}  # fmt: skip
CLASSES, VISUAL, AUDIO, MOTION = 3, (2, 3, 6), (7,), (5,)
EARLY, LATE = Progress(0, 80), Progress(79, 80)
LENGTHS = (6, 4, 1, 0)  # valid segments of the clips of a padded batch


def cases(task: str | None = None) -> list:
    """Parameters (name, config) for pytest: every variant of every method, or of those of one task."""
    return [
        pytest.param(name, {**small.settings, **variant}, id=case, marks=together(case))
        for name, small in SMALL.items()
        if task in (None, task_of(name))
        for variant in small.variants
        for case in ["-".join([name, *(f"{key}={value}" for key, value in variant.items())])]
    ]


def names(task: str | None = None) -> list:
    """Parameters (name,) for pytest: every method, or those of one task."""
    return [pytest.param(name, id=name, marks=together(name)) for name in SMALL if task in (None, task_of(name))]


def together(case: str) -> pytest.MarkDecorator:
    """One worker runs the tests of a case, and :func:`build_again` builds it once for them."""
    return pytest.mark.xdist_group(f"method {case}")


def task_of(name: str) -> str:
    return task_of_method(METHODS.get(name))


def task_of_method(method: Method | type[Method]) -> str:
    return min(method.tasks)  # parsing methods answer avvp_av as they answer avvp


def build(
    name: str, config: dict, seed: int = 0, visual: tuple[int, ...] = VISUAL, audio: tuple[int, ...] = AUDIO, **settings: Any
) -> Method:
    torch.default_generator.manual_seed(seed)  # torch.manual_seed takes half a millisecond: it notes who called, for a GPU to come
    method = create(
        name, visual_shape=visual, audio_shape=audio, num_classes=CLASSES, other_shapes={"motion": MOTION}, **{**config, **settings}
    )  # fmt: skip
    if task_of(name) == "avvp":
        for name_of, buffer in method.named_buffers():  # a part of the labels goes
            if "noise_" in name_of:
                buffer.fill_(0.6)
    if name == "mgn":  # tokens, and the layer that tells them apart, start at a standstill
        for tokens in (method.audio_tokens, method.visual_tokens):
            torch.nn.init.normal_(tokens)
    if task_of(name) == "dave":
        wake(method, biases=config.get("variant") != "released")
    if name == "dmin_matching":  # its scalars, channel means of a norm, are 0 as long as the norm is as it starts
        for path, weight in method.named_parameters():
            if path.endswith("feedforward_norm.weight"):
                torch.nn.init.uniform_(weight, 0.5, 1.5)
    return method


HELD: list[Tensor] = []


def held(tensor: Tensor) -> tuple:
    HELD.append(tensor)
    return another, (len(HELD) - 1,)


def another(place: int) -> Tensor:
    tensor = HELD[place]
    copied = tensor.detach().clone()
    return torch.nn.Parameter(copied, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else copied


class Writer(pickle.Pickler):
    """Tensors stay in memory and are copied as the method is read: that takes a third of the time of building it."""

    dispatch_table: ClassVar = {Tensor: held, torch.nn.Parameter: held}


BUILT: dict[str, tuple[bytes, Tensor]] = {}


def build_again(name: str, config: dict, **settings: Any) -> Method:
    """What :func:`build` gives, for tests that ask nothing of the building: built once for all of them, and copied for each."""
    key = repr((name, config, settings))
    if key not in BUILT:
        Writer(file := io.BytesIO()).dump(build(name, config, **settings))
        BUILT[key] = file.getvalue(), torch.default_generator.get_state()
    written, random = BUILT[key]
    torch.default_generator.set_state(random)  # as the building left it
    return pickle.loads(written)


@torch.no_grad()
def wake(detector: torch.nn.Module, biases: bool) -> None:
    """Let branches count that start at a ten thousandth, and norms leave something in padding, which ``released`` passes on."""
    for name, weight in detector.named_parameters():
        if name.endswith(("attention_scale", "mlp_scale")):
            weight.fill_(0.5)
        elif biases and "norm" in name and name.endswith("bias"):
            weight.uniform_(-0.5, 0.5)


def segments_of(name: str, config: dict, segments: int) -> int:
    """``segments``, or those that the method is tied to."""
    return METHODS.get(name).Config(**config).tied_segments or segments


class Truth(NamedTuple):
    """What each supervision says of B clips with one unbroken event each, or without any; ``several``: any classes of the clip."""

    segments: AvelTargets
    parsing: ParsingTargets
    matching: MatchingTargets
    weak: VideoTargets
    proportions: VideoTargets
    several: VideoTargets
    dense: EventTargets
    joint: JointTargets

    def told(self, method: Method) -> Tensors:
        """What the method may learn from."""
        by_labels = {"segments": self.segments, "video": self.weak, "proportions": self.proportions}
        told = {
            "avel": by_labels[method.config.training_labels],
            "avvp": self.several,
            "cml": self.matching,
            "dave": self.dense,
            "avvp_av": self.joint,
        }
        return told[task_of_method(method)]

    def double(self) -> Truth:
        return Truth(*(part._map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor) for part in self))


def truth_of(event: Tensor, classes: Tensor, several: Tensor) -> Truth:
    """``event`` (B, T) bool, of the class ``classes`` (B,); ``several`` (B, C), multi-hot."""
    some = event.any(dim=1)
    video = torch.where(some, classes, CLASSES)
    weak = one_hot(video, CLASSES + 1).float()
    proportions = (weak + torch.eye(CLASSES + 1)[CLASSES]) / 2
    dense = dense_truth(event, classes)
    of_class = event[:, :, None] & (one_hot(classes, CLASSES) == 1)[:, None]
    return Truth(
        AvelTargets(torch.where(event, classes[:, None], CLASSES), video),
        ParsingTargets(of_class, of_class, of_class.any(dim=1)),
        MatchingTargets(event, weak[:, :CLASSES]),
        VideoTargets(weak),
        VideoTargets(proportions),
        VideoTargets(torch.cat([several, 1 - several.amax(1, keepdim=True)], dim=1)),
        dense,
        JointTargets(of_class, of_class.any(dim=1), dense.spans, dense.labels, dense.seconds),
    )


def dense_truth(event: Tensor, classes: Tensor) -> EventTargets:
    """The same events in seconds: segments of one second, end to end."""
    start, length, some = event.float().argmax(dim=1), event.sum(dim=1), event.any(dim=1)
    spans = torch.stack([start, start + length], dim=1).float()[:, None]
    return EventTargets(spans, torch.where(some, classes, -1)[:, None], torch.full((len(event),), float(event.shape[1])))


def random_batch(
    clips: int = 4, segments: int = 6, seed: int = 1, visual: tuple[int, ...] = VISUAL, audio: tuple[int, ...] = AUDIO
) -> tuple[Batch, Truth]:
    """A copy of :func:`made_batch`."""
    batch, truth = made_batch(clips, segments, seed, visual, audio)
    return batch._map(torch.clone), Truth(*(part._map(torch.clone) for part in truth))


@functools.lru_cache(maxsize=32)
def made_batch(clips: int, segments: int, seed: int, visual: tuple[int, ...], audio: tuple[int, ...]) -> tuple[Batch, Truth]:
    """Noise, and an event of one class in each clip, shorter than it where it has more than one segment."""
    generator = torch.Generator().manual_seed(seed)
    streams = [torch.randn(clips, segments, *shape, generator=generator) for shape in (visual, audio, MOTION)]
    length = torch.randint(min(2, segments), max(segments, 2), (clips, 1), generator=generator)
    start = (torch.rand(clips, 1, generator=generator) * (segments - length + 1)).long()
    place = torch.arange(segments)
    several = (torch.rand(clips, CLASSES, generator=generator) < 0.5).float()
    several[0, 0] = 1
    truth = truth_of((place >= start) & (place < start + length), torch.randint(CLASSES, (clips,), generator=generator), several)
    return Batch(streams[0], streams[1], torch.ones(clips, segments, dtype=torch.bool), {"motion": streams[2]}), truth


def nothing(clips: int = 4, segments: int = 6) -> Truth:
    return truth_of(torch.zeros(clips, segments, dtype=torch.bool), torch.zeros(clips, dtype=torch.long), torch.zeros(clips, CLASSES))


def padded(*fills: float) -> tuple[Batch, Truth]:
    """Clips of :data:`LENGTHS` segments; behind their ends stand ``fills`` in turn, and, where these are not 0, another truth."""
    batch, truth = random_batch()
    mask = torch.arange(6) < torch.tensor(LENGTHS)[:, None]
    fill = torch.tensor(fills).repeat(6)[:6]
    streams = [
        torch.where(mask.reshape(4, 6, *lone), stream, fill.reshape(6, *lone))
        for stream in (batch.visual, batch.audio, batch.others["motion"])
        for lone in [[1] * (stream.ndim - 2)]
    ]
    behind = torch.tensor(CLASSES if fills == (0.0,) else 0)
    segments = AvelTargets(torch.where(mask, truth.segments.segments, behind), truth.segments.video)
    otherwise = torch.tensor(fills != (0.0,))
    matching = MatchingTargets(torch.where(mask, truth.matching.event, otherwise), truth.matching.labels)
    joint = replace(truth.joint, segments=torch.where(mask[:, :, None], truth.joint.segments, otherwise))
    return Batch(streams[0], streams[1], mask, {"motion": streams[2]}), truth._replace(segments=segments, matching=matching, joint=joint)


def changed(truth: Truth, clip: int) -> Truth:
    """Another class, and other segments, in this clip alone."""
    classes = (truth.segments.video + 1) % CLASSES
    parts, others = copy.deepcopy(truth), truth_of(~truth.matching.event, classes, 1 - truth.several.labels[:, :CLASSES])
    for part, other in zip(parts, others, strict=True):
        for f in fields(part):
            if getattr(part, f.name) is not None:
                getattr(part, f.name)[clip] = getattr(other, f.name)[clip]
    return parts


def phases(method: Method) -> list[Progress]:
    """A position in each phase that the first and the last epoch belong to; within a phase no loss differs."""
    return list({method.phase(progress): progress for progress in (EARLY, LATE)}.values())


def losses(method: Method, batch: Batch, truth: Truth, progress: Progress = LATE, seed: int = 2) -> dict[str, Tensor]:
    torch.default_generator.manual_seed(seed)  # dropout and the contrast's noise
    if task_of_method(method) == "dave":
        method.normaliser.fill_(250)  # a running mean: every step moves it
    return method.losses(batch, truth.told(method), progress)


def answer(scores: Tensors, clip: int, length: int, rough: bool = False) -> dict[str, Tensor]:
    """What the scores say of the first ``length`` segments of a clip; nothing of what lies behind.

    ``rough``: of detections only the best score of each class, since among close scores the order, and so the suppression, is chance.
    """
    if isinstance(scores, MatchingScores):
        tables = {f.name: getattr(scores, f.name)[clip] for f in fields(scores)}
        windows = range(1, length + 1)
        return {f"{name} {n}": table[n - 1, : length - n + 1, : length - n + 1] for name, table in tables.items() for n in windows}
    if isinstance(scores, DetectionScores) and rough:
        best = [scores.scores[clip][scores.labels[clip] == label] for label in range(CLASSES)]
        return {"best": torch.stack([values.max() if len(values) else torch.tensor(0.0) for values in best])}
    if isinstance(scores, DetectionScores):
        return {name: value[clip] for name, value in scores.tensors().items()}
    along = {Scores: {"segments", "event", "attention"}, ParsingScores: {"audio", "visual"}}[type(scores)]
    return {name: value[clip, :length] if name in along else value[clip] for name, value in scores.tensors().items()}


def assert_answers(
    first: Tensors, second: Tensors, clips: dict[int, int], lengths: dict[int, int], rough: bool = False, **tolerance: float
) -> None:  # fmt: skip
    """Clip by clip (of the first: of the second), their valid segments scored alike."""
    for one, other in clips.items():
        mine, theirs = answer(first, one, lengths[one], rough), answer(second, other, lengths[one], rough)
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            assert_close(value, theirs[name], name, **(tolerance or {"atol": 1e-5, "rtol": 1e-4}))


def assert_close(found: Tensor, expected: Tensor, name: str, **tolerance: float) -> None:
    """PyTorch's check, left out where all bits are the same, as they most often are: it takes a tenth of a millisecond."""
    if found.dtype != expected.dtype or not torch.equal(found, expected):
        torch.testing.assert_close(found, expected, **tolerance, msg=lambda text: f"{name}: {text}")


def all_finite(tensors: Iterable[Tensor]) -> bool:
    return bool(torch.cat([tensor.flatten() for tensor in tensors]).isfinite().all())


def learned(method: Method, batch: Batch, truth: Truth) -> float:
    """Percent of what the method is told that it answers, without dropout."""
    method.eval()
    with torch.no_grad():
        scores = method.predict(batch)
    method.train()
    if isinstance(scores, DetectionScores):
        return dave.score(scores, truth.dense, batch.mask, CLASSES, 1.0)["mAP@0.5"]
    if isinstance(scores, MatchingScores):
        return cml.score(cml.decide(scores, batch.mask), truth.matching, batch.mask, CLASSES, 1.0)["accuracy"]
    if isinstance(truth.told(method), JointTargets):
        found, true = avvp.decide(scores, batch.mask).all(dim=1), truth.joint.segments
        return 200 * (found & true).sum().item() / (found.sum() + true.sum()).item()
    if isinstance(scores, ParsingScores):
        said = torch.stack([scores.clip_audio, scores.clip_visual], dim=1) >= scores.thresholds[:, :, 1]
        return 100 * (said == truth.several.labels[:, None, :CLASSES].bool()).float().mean().item()
    if isinstance(truth.told(method), VideoTargets):
        clips = scores.segments.mean(dim=1) if scores.classes is None else scores.classes
        return 100 * (clips.argmax(dim=-1) == truth.segments.video).float().mean().item()
    return avel.score(avel.decide(scores, batch.mask), truth.segments, batch.mask, CLASSES, 1.0)["accuracy"]


def assert_shapes(method: Method, scores: Tensors, batch: Batch) -> None:
    """What the task says of its scores."""
    clips, segments = batch.mask.shape
    if isinstance(scores, MatchingScores):
        assert scores.audio_to_visual.shape == scores.visual_to_audio.shape == (clips, segments, segments, segments)
        assert all(
            torch.cat([value.flatten() for value in answer(scores, clip, segments).values()]).isfinite().all() for clip in range(clips)
        )
        return
    if isinstance(scores, DetectionScores):
        assert scores.spans.shape == (clips, 100, 2)
        assert ((scores.spans >= 0) & (scores.spans <= segments) & (scores.spans[..., :1] <= scores.spans[..., 1:])).all()
        assert scores.scores.shape == scores.labels.shape == (clips, 100)
        assert (scores.scores.diff(dim=1) <= 0).all()
        assert ((scores.labels >= 0) == (scores.scores > 0)).all()
        assert scores.threshold.shape == (clips,)
        return
    if isinstance(scores, ParsingScores):
        assert scores.audio.shape == scores.visual.shape == (clips, segments, CLASSES)
        assert scores.clip_audio.shape == scores.clip_visual.shape == (clips, CLASSES)
        assert scores.thresholds.shape == (clips, 2, 2, CLASSES)
        assert all((part >= 0).all() and (part <= 1).all() for part in (scores.audio, scores.visual, scores.thresholds))
        assert avvp.decide(scores, batch.mask).shape == (clips, 2, segments, CLASSES)
        return
    assert scores.segments.shape == (clips, segments, CLASSES + 1)
    torch.testing.assert_close(scores.segments.sum(-1), torch.ones(clips, segments))
    assert (scores.segments >= 0).all()
    assert (scores.event is None) == (scores.classes is None)
    if scores.event is not None:
        assert scores.event.shape == (clips, segments)
        assert ((scores.event >= 0) & (scores.event <= 1)).all()
        torch.testing.assert_close(scores.classes.sum(-1), torch.ones(clips))
        assert scores.classes.shape == (clips, getattr(method, "clip_labels", CLASSES))
    if scores.attention is not None:
        positions = batch.visual.shape[2] * batch.visual.shape[3] if batch.visual.ndim == 5 else 1
        assert scores.attention.shape == (clips, segments, positions)
        torch.testing.assert_close(scores.attention.sum(-1), torch.ones(clips, segments))
