"""Our own store against copies whose cause of difference lies before the numbers: clips of the demo world, real encoders."""

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.__main__ import main
from pipeline.commands.parity import reencoder
from pipeline.datasets import Index, write_index
from pipeline.datasets.base import Row
from pipeline.encoders import weights
from pipeline.errors import PipelineError
from pipeline.parity.changes import NO_CHANGE, Change
from pipeline.parity.inputs import Reencoder
from pipeline.parity.report import compare


class Remembering(Reencoder):
    """Encodes what it is asked for a second time no second time: every test tries the same changes of the same clip."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.encoded: dict[str, np.ndarray | PipelineError] = {}

    def encode(self, modality, clips, change):
        key = repr((modality, list(clips), change))
        if key not in self.encoded:
            try:
                self.encoded[key] = super().encode(modality, clips, change)
            except PipelineError as error:
                self.encoded[key] = error
        if isinstance(self.encoded[key], PipelineError):
            raise self.encoded[key]
        return self.encoded[key].copy()


@pytest.fixture(scope="module", autouse=True)
def _networks_once():
    """VGGish's 72 million random weights take a second; nothing here changes a network."""
    build, built = weights.build, {}

    def kept(make, setting, *arguments, **options):
        if (make, setting) not in built:
            built[make, setting] = build(make, setting, *arguments, **options)
        return built[make, setting]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "build", kept)
        yield


@pytest.fixture(scope="module")
def encoder(world):
    return Remembering(world.settings, world.jobs, world.cache, 1)


@pytest.fixture
def verdicts(world, tmp_path, encoder, undrawn):
    def of(name, **arrays):
        """(visual, audio)."""
        return compare(world.ours, world.published(name, **arrays), tmp_path / "out", encoder)

    return of


def test_an_equal_copy_has_no_cause(verdicts):
    assert [(verdict.kind, verdict.names) for verdict in verdicts("equal")] == [("same", ())] * 2


def test_a_dropped_relu_is_named(verdicts, world):
    without_relu = world.audio_features(final_relu=False)
    assert (without_relu < 0).mean() > 0.2
    visual, audio = verdicts("relu", audio=without_relu)
    assert (visual.kind, audio.names) == ("same", ("relu_missing",))
    assert audio.best.error < 0.001 < 0.3 < audio.before


def test_reversed_channels_of_the_frames_are_named(verdicts, world):
    visual, audio = verdicts("bgr", visual=world.visual_features(lambda frames: frames[..., ::-1]))
    assert (visual.names, audio.kind) == (("bgr",), "same")
    assert "BGR" in visual.sentence()
    assert visual.best.error < 0.001 < 0.3 < visual.before


@pytest.mark.parametrize("steps", [1, -2])
def test_shifted_frames_are_named_with_their_number(verdicts, world, steps):
    shifted = world.visual_features(lambda frames: frames[[min(max(place - steps, 0), 5) for place in range(6)]])
    visual, _ = verdicts(f"shift{steps}", visual=shifted)
    assert visual.names[0] in {f"frames_shifted_{-steps:+d}", "segments_shifted_-1"}
    assert (steps == 1) == (visual.names == ("frames_shifted_-1",))
    assert visual.best.error < 0.001


def test_all_three_at_once_are_all_named(verdicts, world):
    swapped = world.visual_features(lambda frames: np.roll(frames, 1, axis=0)[..., ::-1])
    visual, audio = verdicts("three", visual=swapped, audio=world.audio_features(final_relu=False))
    assert set(visual.names) == {"bgr", "frames_shifted_-1"}
    assert audio.names == ("relu_missing",)


def test_indistinguishable_causes_are_all_named(verdicts, world):
    """The pictures are square: without a margin the crop takes nothing off."""
    visual, _ = verdicts("squeezed", visual=world.visual_features(lambda frames: frames, crop=False))
    assert {visual.names, *(each.names for each in visual.as_well)} == {("resize_48",), ("crop_False",)}
    assert all(word in visual.sentence() for word in (*visual.best.causes, *(name for each in visual.as_well for name in each.names)))


def test_an_unexplained_difference_is_unknown_with_the_nearest_attempt(verdicts, world):
    noise = np.random.default_rng(0).normal(size=world.arrays["visual"].shape).astype(np.float32)
    visual, _ = verdicts("noise", visual=world.arrays["visual"] * (1 + 0.4 * noise))
    assert (visual.kind, visual.names) == ("unknown", ())
    assert visual.best.error > 0.7 * visual.best.before
    assert any("bgr" in each.names for each in visual.tried)


def test_no_cause_is_named_where_the_settings_do_not_reproduce_our_store(world, tmp_path, undrawn):
    published = world.published("control", visual=world.visual_features(lambda frames: frames[..., ::-1]))
    options = {**world.settings.visual.model_dump(), "crop": False}
    settings = world.settings.model_validate({**world.settings.model_dump(), "visual": options})
    visual, _ = compare(world.ours, published, tmp_path / "out", Reencoder(settings, world.jobs, world.cache, 1))
    assert visual.kind == "unknown"
    assert "our store" in visual.not_tried[0]


def test_encoding_again_reproduces_the_store_and_applies_each_change(world):
    encoder = Reencoder(world.settings, world.jobs, world.cache, 3)
    clips = encoder.choose(["not here", *world.clips])
    assert clips == [world.clips[place] for place in (0, 2, 3)]
    for modality in ("visual", "audio"):
        unchanged = encoder.encode(modality, clips, NO_CHANGE)
        np.testing.assert_array_equal(unchanged.astype(np.float16), world.arrays[modality][[0, 2, 3]].astype(np.float16))
    assert {"bgr", "crop_False", "bilinear", "frame_offset_0"} <= {change.name for change in encoder.changes("visual")}
    assert {"final_relu_False", "pca_True", "hop_1.0"} <= {change.name for change in encoder.changes("audio")}
    later = encoder.encode("audio", clips[:1], Change("", "", "", seconds=1.0, options={"hop": 1.0}))
    expected = world.audio_features(lambda waveform, rate: np.concatenate([waveform[rate:], 0 * waveform[:rate]]), clips[:1], hop=1.0)
    np.testing.assert_allclose(later, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(PipelineError, match=r"quantize.*pca"):
        encoder.encode("audio", clips[:1], Change("quantize", "", "", options={"quantize": True}))
    with pytest.raises(PipelineError, match="vggish_pca"):
        encoder.encode("audio", clips[:1], Change("pca", "", "", options={"pca": True}))


def test_the_command_encodes_again_what_params_yaml_names(world, repository, undrawn, monkeypatch, capsys):
    monkeypatch.chdir(world.root)
    params = YAML(typ="safe").load((repository / "suites" / "demo.yaml").read_text(encoding="utf-8"))
    features = world.settings.model_dump(exclude_none=True)
    params |= {"features": {"ours": features}, "runs": {}, "finetune": {}, "methods": {}, "report": {"title": "x"}}
    params["media"] = {"frames_per_second": 2, "workers": 1}
    params["dataset"]["segments"] = next(iter(world.jobs.values())).segments
    params["cache"] = {"dir": str(world.cache.root)}
    with open("params.yaml", "w", encoding="utf-8") as stream:
        YAML().dump(params, stream)
    encoder, why = reencoder("ours", 2)
    assert (encoder, "data/index" in why) == (None, True)
    (world.root / "data" / "index").mkdir(parents=True, exist_ok=True)
    write_index(Index([Row(clip, "none", job.file) for clip, job in world.jobs.items()], []), world.root / "data" / "index")
    encoder, why = reencoder("ours", 2)
    assert why == ""
    np.testing.assert_array_equal(
        encoder.encode("visual", world.clips[:1], NO_CHANGE).astype(np.float16), world.arrays["visual"][:1].astype(np.float16)
    )
    published = world.published("by_command")
    monkeypatch.setattr("sys.argv", ["pipeline", "parity", "--ours", str(world.ours), "--published", str(published), "--reencode", "1"])
    main()
    assert "visual: the same" in capsys.readouterr().out
    assert (world.root / "data" / "results" / "parity" / "ours-by_command" / "parity.json").is_file()
    none, why = reencoder("ours", 0)
    assert (none, "--reencode" in why) == (None, True)
    assert "'theirs'" in reencoder("theirs", 2)[1]
