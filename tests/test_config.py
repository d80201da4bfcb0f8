import copy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipeline import config
from pipeline.errors import InputProblems
from pipeline.methods import METHODS
from pipeline.registry import UnknownName
from pipeline.report.published import load_published
from pipeline.settings import merge
from pipeline.text import printable
from tests.wording import each_says, one_says, says

ROOT = Path(__file__).resolve().parents[1]


def problems(tmp_path, content) -> list[str]:
    path = tmp_path / "params.yaml"
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        YAML(typ="safe").dump(content, path)
    with pytest.raises(InputProblems) as caught:
        config.load(path)
    return caught.value.problems


@pytest.fixture
def demo() -> dict:
    return YAML(typ="safe").load(ROOT / "suites" / "demo.yaml")


@pytest.mark.parametrize("suite", sorted((ROOT / "suites").glob("*.yaml")), ids=lambda path: path.name)
def test_every_suite_is_valid(suite):
    params = config.load(suite)
    assert params.features or params.imports


def test_what_the_machine_can_bear_is_checked_and_may_be_absent(tmp_path, demo):
    demo["machine"] = {"seeds_at_once": 0, "seeds_at_one": 2}
    demo["train"]["threads"] = 0
    found = problems(tmp_path, demo)
    assert [problem.split(":")[0] for problem in found] == ["train.threads", "machine.seeds_at_once", "machine.seeds_at_one"]
    assert "'seeds_at_once'" in found[2]
    del demo["machine"], demo["train"]["threads"]
    YAML(typ="safe").dump(demo, tmp_path / "params.yaml")
    params = config.load(tmp_path / "params.yaml")
    assert (params.machine.seeds_at_once, params.train.threads) == (1, None)


def test_the_active_params_are_the_demo():
    assert (ROOT / "params.yaml").read_text(encoding="utf-8") == (ROOT / "suites" / "demo.yaml").read_text(encoding="utf-8")


@pytest.mark.fault(18)
def test_all_problems_are_told_at_once_each_with_its_path_and_the_nearest_name(tmp_path, demo):
    demo["media"]["workres"] = 3
    demo["media"]["min_coverage"] = 1.5
    demo["dataset"]["kind"] = "avee"
    demo["features"]["lite0_logmel"]["visual"]["encoder"] = "efficientnet_lite"
    demo["features"]["lite0_logmel"]["audio"]["hopp"] = 1
    demo["methods"]["cace_net"]["lambda_contrst"] = 0.4
    demo["methods"]["cace_net"]["recipe"]["epochs"] = 0
    demo["runs"]["avel"]["method"] = "avell"
    demo["runs"]["cace_net"]["features"] = "lite0_logml"
    demo["runs"]["avel_audio"]["task"] = "avvp?"
    demo["runs"]["avel_visual"]["overrides"] = {"modality": "smell"}
    demo["trian"] = {}
    demo["report"]["baseline"] = "nobody"
    found = problems(tmp_path, demo)
    for path, words in [
        ("media.workres", "'workers'"),
        ("media.min_coverage", "less than or equal to 1"),
        ("dataset.kind", "'ave'"),
        ("features.lite0_logmel.visual.encoder", "'efficientnet_lite0'"),
        ("features.lite0_logmel.audio.hopp", "unknown"),
        ("methods.cace_net.lambda_contrst", "'lambda_contrast'"),
        ("methods.cace_net.recipe.epochs", "greater than or equal to 1"),
        ("runs.avel.method", "'avel'"),
        ("runs.cace_net.features", "'lite0_logmel'"),
        ("runs.avel_audio.task", "unknown"),
        ("runs.avel_visual.overrides.modality", "'audio'"),
        ("trian", "'train'"),
        ("report.baseline", "'nobody'"),
    ]:
        assert [problem for problem in found if problem.startswith(f"{path}:") and words in problem], (path, found)
    assert len(found) == 13, found


@pytest.mark.fault(18)
def test_an_unknown_key_deep_in_a_run_is_answered_with_that_runs_keys(tmp_path, demo):
    demo["runs"]["avel"]["sedes"] = [1]
    assert says(problems(tmp_path, demo)[0], "runs.avel.sedes: unknown", "'seeds'")


def test_encoder_of_the_wrong_modality(tmp_path, demo):
    demo["features"]["lite0_logmel"]["audio"] = {"encoder": "efficientnet_lite0"}
    assert says(problems(tmp_path, demo)[0], "features.lite0_logmel.audio", "visual", "audio")


def test_a_run_needs_its_methods_block_because_dvc_tracks_it(tmp_path, demo):
    del demo["methods"]["avel"]
    assert all("methods.avel" in problem for problem in problems(tmp_path, demo))


def test_a_fault_of_a_method_is_not_told_again_for_every_run(tmp_path, demo):
    demo["methods"]["avel"]["recipe"]["epochs"] = "many"
    assert len(problems(tmp_path, demo)) == 1


@pytest.mark.parametrize("rate", [0.5, 2.5])
def test_a_segment_holds_whole_frames(tmp_path, demo, rate):
    demo["media"]["frames_per_second"] = rate
    assert "media.frames_per_second" in problems(tmp_path, demo)[0]


@pytest.mark.fault(18)
def test_runs_and_papers_that_the_report_names(tmp_path, demo):
    demo["report"] |= {
        "papers": {"avel": "avel/AVE supervise", "aveel": "avel/AVE supervised"},
        "notes": {"nobody": "x"},
        "shown": ["avel", "x"],
        "comparisons": {"cace_net": ["avel", "cace"], "avel": ["matching"]},
    }
    demo["runs"]["matching"] = {**demo["runs"]["avel"], "task": "cml", "method": "avdln"}
    demo["methods"]["avdln"] = {}
    found = problems(tmp_path, demo)
    for words in (
        ("report.papers.avel: ", "'avel/AVE supervise'", "'avel/AVE supervised'"),
        ("report.papers: unknown", "'aveel'", "'avel'"),
        ("report.notes: unknown", "'nobody'"),
        ("report.shown: unknown", "'x'"),
        ("report.comparisons.cace_net: unknown", "'cace'"),
        ("report.comparisons.avel: ", "matching", "cml", "avel"),
    ):
        assert one_says(found, *words), (words, found)
    assert len(found) == 6


def test_settings_that_do_not_fit_together_are_named_without_the_whole_block(tmp_path, demo):
    demo["runs"]["avel"]["overrides"] = {"fusion": "dmrn", "modality": "audio"}
    assert each_says(problems(tmp_path, demo), [("runs.avel.overrides: ", "fusion: dmrn", "modality: audio_visual", "audio")])


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ([1, 1], ("runs.avel.seeds: ", "[1, 1]")),
        ([0, 0.0], ("runs.avel.seeds.1: ", "integer", "0.0")),
        ([1, True], ("runs.avel.seeds.1: ", "integer", "True")),
        ([3, 2**32 + 3], ("runs.avel.seeds.1: ", "4294967295", "4294967299")),  # torch's stream of 3
        ([-1], ("runs.avel.seeds.0: ", "0", "-1")),
        ([], ("runs.avel.seeds: ", "at least 1")),
    ],
    ids=str,
)
def test_every_seed_is_another(tmp_path, demo, seeds, words):
    demo["runs"]["avel"]["seeds"] = seeds
    (found,) = problems(tmp_path, demo)
    assert says(found, *words)


def test_the_largest_seed_is_taken(tmp_path, demo):
    demo["runs"]["avel"]["seeds"] = [0, 2**32 - 1]
    YAML(typ="safe").dump(demo, tmp_path / "params.yaml")
    assert config.load(tmp_path / "params.yaml").runs["avel"].seeds == [0, 2**32 - 1]


BLOCKS = {"runs": "avel", "features": "lite0_logmel", "finetune": "lite0", "synth": "demo"}


BAD_NAMES = {
    "cace_0.4": "cace_0_4",
    "my run": "my_run",
    "v1.0": "v1_0",
    "a;touch x": "a_touch_x",
    "x; touch y; true ": "x_touch_y_true",
    "../../precious": "precious",
    "-x": "x",
    "größe": "gro_e",
    "a\nb": "a_b",
    "$(id)": "id",
    "": "name",
    "n" * 65: "n" * 64,
    "٣": "name",  # a digit, though not of ours
}


@pytest.mark.parametrize("block", [*BLOCKS, "imports", "methods"])
def test_names_of_entries_are_letters_digits_underscores_and_dashes(tmp_path, demo, block):
    entries = {**demo, "imports": {"published": {"directory": "x", **STREAMS}}, "methods": {"avel": {}}}[block]
    entry = entries[BLOCKS.get(block, {"imports": "published", "methods": "avel"}.get(block))]
    demo[block] = {**demo[block], **{name: copy.deepcopy(entry) for name in BAD_NAMES}}
    found = problems(tmp_path, demo)
    for name, spelled in BAD_NAMES.items():
        begins, ends = f"{block}.{printable(name)}: ", f"{spelled!r}"
        assert any(problem.startswith(begins) and says(problem, begins, repr(name), ends) for problem in found), (name, found)


def test_all_bad_names_are_told_at_once_and_good_ones_pass(tmp_path, demo):
    demo["runs"] |= {"2024-11_A": demo["runs"]["avel"], "_": demo["runs"]["avel"], "n" * 64: demo["runs"]["avel"]}
    YAML(typ="safe").dump(demo, tmp_path / "params.yaml")
    assert {"2024-11_A", "_"} < set(config.load(tmp_path / "params.yaml").runs)
    demo["runs"] |= {"a b": demo["runs"]["avel"], "c.d": demo["runs"]["avel"]}
    demo["synth"]["e/f"] = {}
    assert len(problems(tmp_path, demo)) == 3


def test_names_of_streams_follow_the_same_rule(tmp_path, demo):
    demo["imports"] = {"published": {"directory": "x", **STREAMS, "others": {"mo tion": {"file": "m.h5", "shape": [8]}}}}
    (found,) = problems(tmp_path, demo)
    assert says(found, "imports.published.others.mo tion: ", "'mo tion'")


@pytest.mark.parametrize(("key", "spelled"), [("1", "1"), ("true", "true"), ("null", "null"), ("1.5", "1.5"), ("~", "null")])
def test_keys_that_are_no_names_in_yaml_are_told_with_all_else(tmp_path, demo, key, spelled):
    text = (ROOT / "suites" / "demo.yaml").read_text(encoding="utf-8")
    text = text.replace("  avel_audio:\n", f"  {key}:\n").replace("seed: 0", "sead: 0").replace("    segments: 3", f"    {key}: 3")
    found = problems(tmp_path, text)
    for path in (f"runs.{spelled}", f"finetune.lite0.{spelled}"):
        assert any(problem.startswith(f"{path}: YAML ") for problem in found), found
    assert any(problem.startswith("synth.demo.sead: unknown") for problem in found)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("methods.avel.recipe.learning_rate", float("inf"), "finite"),
        ("methods.avel.recipe.learning_rate", float("nan"), "finite"),
        ("methods.avel.recipe.learning_rate", 1e38, "1e+06"),
        ("methods.avel.recipe.learning_rate", 11, "10"),
        ("methods.avel.recipe.learning_rate", True, "number"),
        ("methods.avel.recipe.weight_decay", 1e30, "10"),
        ("methods.avel.recipe.batch_size", 10**12, "1e+06"),
        ("methods.avel.recipe.epochs", 10**10, "1e+06"),
        ("methods.avel.recipe.milestones", [10**400], "1e+06"),
        ("methods.avel.attention_width", 10**6, "65536"),
        ("methods.cace_net.lambda_contrast", 1e30, "1e+06"),
        ("methods.cace_net.contrast_temperature", 1e-30, "0.0001"),
        ("finetune.lite0.learning_rate", 1e38, "10"),
        ("finetune.lite0.seed", True, "number"),
        ("finetune.lite0.checkpoint_seconds", float("inf"), "finite"),
        ("train.checkpoint_seconds", float("inf"), "finite"),
        ("train.threads", 10**6, "1024"),
        ("media.timeout_seconds", float("inf"), "finite"),
        ("media.timeout_seconds", 1e12, "86400"),
        ("media.max_decoded_bytes", 10**18, "less than or equal to"),
        ("features.lite0_logmel.batch_size", 10**12, "less than or equal to"),
        ("dataset.segment_seconds", float("nan"), "finite"),
        ("dataset.segment_seconds", float("inf"), "finite"),
        ("dataset.segment_seconds", float("-inf"), "finite"),
        ("synth.demo.seed", 2**40, "less than or equal to"),
        ("report.media_megabytes", float("inf"), "finite"),
    ],
)
@pytest.mark.fault(18)
def test_numbers_are_finite_and_within_what_makes_sense(tmp_path, demo, path, value, words):
    *blocks, key = path.split(".")
    block = demo
    for name in blocks:
        block = block[name]
    block[key] = value
    found = problems(tmp_path, demo)
    assert len(found) == 1, found
    assert found[0].startswith(f"{path}: ")
    assert words in found[0]


@pytest.mark.parametrize("value", [[], ["avel"], {"avel": 1}, 1, True])
@pytest.mark.parametrize(
    "path", ["features.lite0_logmel.finetuned", "runs.avel.features", "runs.avel.task", "runs.avel.method", "report.baseline"]
)
def test_what_stands_where_a_name_belongs_is_told_once(tmp_path, demo, path, value):
    *blocks, key = path.split(".")
    block = demo
    for name in blocks:
        block = block[name]
    block[key] = value
    (found,) = problems(tmp_path, demo)
    assert found.startswith(f"{path}: ")
    assert "string" in found


@pytest.mark.parametrize(
    ("path", "value"),
    [("shown", [["avel"]]), ("comparisons", {"avel": [["cace_net"]]}), ("baselines", {"avel": ["cace_net"]}), ("papers", {"avel": []})],
)
def test_what_stands_where_the_report_names_a_run_is_told_once(tmp_path, demo, path, value):
    demo["report"][path] = value
    (found,) = problems(tmp_path, demo)
    assert found.startswith(f"report.{path}.")
    assert "string" in found


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: 1\na: 2\n", "duplicate key"), ("a: [1\n", "expected"), ("just text\n", "not a mapping"), ("", "not a mapping")],
)
@pytest.mark.fault(18)
def test_files_that_are_no_params(tmp_path, text, words):
    assert words in problems(tmp_path, text)[0]


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(InputProblems, match=r"params\.yaml(.|\n)*cd "):
        config.load(tmp_path / "params.yaml")


def test_overrides_are_laid_over_the_methods_block_key_by_key(demo, tmp_path):
    demo["runs"]["avel"]["overrides"] = {"recipe": {"epochs": 7}}
    path = tmp_path / "params.yaml"
    YAML(typ="safe").dump(demo, path)
    settings = config.load(path).method_settings("avel")
    assert settings["recipe"] == {**demo["methods"]["avel"]["recipe"], "epochs": 7}


@given(
    base=st.dictionaries(st.sampled_from("abc"), st.one_of(st.integers(), st.dictionaries(st.sampled_from("xy"), st.integers()))),
    over=st.dictionaries(st.sampled_from("abc"), st.one_of(st.integers(), st.dictionaries(st.sampled_from("xy"), st.integers()))),
)
def test_merge_keeps_what_is_not_overridden_and_changes_neither(base, over):
    before = copy.deepcopy((base, over))
    merged = merge(base, over)
    assert (base, over) == before
    assert merged.keys() == base.keys() | over.keys()
    for key, value in merged.items():
        if key not in over:
            assert value == base[key]
        elif isinstance(over[key], dict) and isinstance(base.get(key), dict):
            assert value == {**base[key], **over[key]}
        else:
            assert value == over[key]


def test_weak_supervision_changes_defaults_and_what_is_set_wins(demo, tmp_path):
    demo["methods"]["cmbs"] = {"gamma": 0.7, "recipe": {"epochs": 9}}
    demo["runs"]["cmbs"] = {"task": "avel", "method": "cmbs", "features": "lite0_logmel"}
    demo["runs"]["cmbs_weak"] = {**demo["runs"]["cmbs"], "overrides": {"supervision": "weak", "recipe": {"milestones": [3]}}}
    path = tmp_path / "params.yaml"
    YAML(typ="safe").dump(demo, path)
    params = config.load(path)
    full, weak = (METHODS.get("cmbs").Config(**params.method_settings(run)) for run in ("cmbs", "cmbs_weak"))
    assert (full.alpha, full.beta, full.gamma, full.recipe.learning_rate, full.recipe.milestones) == (0.1, 0.4, 0.7, 7e-4, (10, 20, 30))
    assert (weak.alpha, weak.beta, weak.gamma, weak.recipe.learning_rate, weak.recipe.milestones) == (0.2, 0.5, 0.7, 6e-4, (3,))
    assert full.recipe.epochs == weak.recipe.epochs == 9
    demo["runs"]["cmbs_weak"]["overrides"] = {"supervision": "weakly"}
    assert says(problems(tmp_path, demo)[0], "runs.cmbs_weak.overrides.supervision: ", "'full'", "'weak'")


def test_picking_an_unknown_run_names_the_nearest():
    with pytest.raises(UnknownName, match=r"'avle'.*'avel'"):
        config.pick({"avel": 1}, "avle", "run")


def test_an_encoder_that_sees_whole_segments_is_not_fine_tuned_on_frames(tmp_path, demo):
    demo["finetune"] |= {"eye": {"visual": {"encoder": "r2plus1d_18", "weights": "none"}, "audio": {"encoder": "logmel"}}}
    found = problems(tmp_path, demo)
    assert each_says(found, [("finetune.eye.visual.encoder: ", "'r2plus1d_18'")])


STREAMS = {"visual": {"file": "visual_feature.h5", "shape": [7, 7, 512]}, "audio": {"file": "audio_feature.h5", "shape": [128]}}


def test_a_run_may_name_imported_features(tmp_path, demo):
    demo["imports"] = {"published": {"directory": "data/published", **STREAMS}}
    demo["runs"]["avel"]["features"] = "published"
    path = tmp_path / "params.yaml"
    YAML(typ="safe").dump(demo, path)
    assert config.load(path).imports["published"].dtype == "float32"
    demo["runs"]["avel"]["features"] = "publishd"
    assert says(problems(tmp_path, demo)[0], "'publishd'", "'published'")


def test_faults_of_imports_are_told_with_their_paths(tmp_path, demo):
    demo["imports"] = {
        "lite0_logmel": {"directory": "data/published", **STREAMS},
        "other": {"directory": "x", **STREAMS, "dtyp": 1, "audio": {"file": "../a.h5", "shape": [128]}},
        "weak": {"directory": "x", **{name: {**stream, "negatives": "n.h5"} for name, stream in STREAMS.items()}},
    }
    found = problems(tmp_path, demo)
    for words in (
        ("imports.lite0_logmel: ", "features.lite0_logmel"),
        ("imports.other.dtyp: unknown", "'dtype'"),
        ("imports.other.audio.file: ", "path"),
        ("imports.weak: ", "dataset.negatives"),
    ):
        assert one_says(found, *words), (words, found)
    assert len(found) == 4


def test_without_raw_clips_nothing_can_be_extracted(tmp_path, demo):
    demo["dataset"]["clips"] = "data/none"
    entries = {"finetune": ["lite0"], "features": ["lite0_logmel", "lite0_tuned_logmel"]}
    expected = [(f"{block}.{name}: ", "dataset.clips", "data/none", f"{block}: {{}}") for block, names in entries.items() for name in names]
    assert each_says(problems(tmp_path, demo), expected)


def test_a_setting_of_another_kind_of_data_set(tmp_path, demo):
    demo["dataset"] |= {"kind": "folder", "split": "match"}
    assert each_says(problems(tmp_path, demo), [("dataset.split: ", "ave", "'match'")])


def test_a_run_is_compared_with_one_of_its_own_task(tmp_path, demo):
    demo["methods"]["han"] = {"motion": None}
    demo["runs"]["han"] = {"task": "avvp", "method": "han", "features": "lite0_logmel"}
    demo["report"]["baselines"] = {"avvp": "han", "cace_net": "avel_audio"}
    YAML(typ="safe").dump(demo, tmp_path / "params.yaml")
    assert config.load(tmp_path / "params.yaml").report.baselines == {"avvp": "han", "cace_net": "avel_audio"}
    demo["report"]["baselines"] = {"avvp": "avel", "han": "avel", "cace_net": "cace", "avv": "han"}
    expected = [
        ("report.baselines.avv: ",),
        ("report.baselines.avvp: avel ", "avel", "avvp"),
        ("report.baselines.cace_net: unknown", "'cace'"),
        ("report.baselines.han: avel ", "avel", "avvp"),
    ]
    assert each_says(sorted(problems(tmp_path, demo)), expected)


def test_a_run_gets_the_streams_that_its_method_wants(tmp_path):
    """Reported before decoding: features of one's own clips have no motion, and labels of training clips are not features."""
    llp = YAML(typ="safe").load(ROOT / "suites" / "llp.yaml")
    llp["runs"]["coleaf_han"]["overrides"]["motion"] = "motoin"
    llp["runs"]["han"]["overrides"] = {"pseudo_labels": {"audio": "audio_labels", "visual": "visual_labels"}}
    llp["runs"]["jomold"] |= {"features": "clip_clap", "overrides": {"motion": None}}
    llp["runs"]["ma"] |= {"features": "r152_r2p1d_vggish_labels", "overrides": {"motion": "audio_labels"}}
    expected = [
        ("runs.coleaf_han.features: ", "r152_r2p1d_vggish ", "'motoin'"),
        ("runs.han.features: ", "r152_r2p1d_vggish ", "'audio_labels'"),
        ("runs.han.features: ", "r152_r2p1d_vggish ", "'visual_labels'"),
        ("runs.ma.features: ", "'audio_labels'", "r152_r2p1d_vggish_labels", "training clips"),
    ]
    assert each_says(sorted(problems(tmp_path, llp)), expected)


def test_every_published_row_of_llp_that_we_have_the_method_for_is_a_run_of_its_suite():
    """CoLeaF's Tables 5 and 6, each with the kind of thresholds and labels that its key names."""
    llp = config.load(ROOT / "suites" / "llp.yaml")
    wanted = {key for key, row in load_published().items() if row.table.paper == "coleaf" and row.table.table in "56" and "LLP" in key}
    ours = {key for key in wanted if key.split("/")[0] in METHODS.names() and not key.startswith("avel")}
    assert len(ours) >= 11
    assert ours <= set(llp.report.papers.values())
    for run, key in llp.report.papers.items():
        settings, of_uwav = llp.method_settings(run), load_published()[key].table.paper == "uwav"
        parsed = METHODS.get(llp.runs[run].method).Config(**settings)
        assert ("thresholds" in key) == ("thresholds" in settings), run
        assert ("CLAP labels" in key or of_uwav) == (parsed.pseudo_labels is not None), run
        assert of_uwav or ("CLAP labels" in key) == ("labels" in llp.runs[run].features), run
        assert (key.startswith("uwav/") and "CLAP" not in key) == (run in llp.report.dense_labels), run
        assert key.startswith(llp.runs[run].method.removesuffix("_parsing")), run
        refined = parsed.model_dump().get("refine", False)
        assert ("refined labels" in key) == (refined and run != "ma"), run  # MA is its refined labels
    assert METHODS.get("cmpae").Config(**llp.method_settings("cmpae_given")).given_thresholds["visual"][0] == 0.7
    assert len(METHODS.get("cmpae").Config(**llp.method_settings("cmpae_given")).given_thresholds["visual"]) == 25


def test_a_key_cannot_drive_the_terminal_that_its_problem_is_told_on(tmp_path):
    """YAML accepts every escape code in quotes; messages show their spelling."""
    path = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    keys = r'imports: {"\e[2J\e]0;x\a": {}, "a\nplan: 0 problems": {}, "\u202eoge": {}}'
    path.write_text(text.replace("imports: {}", keys), encoding="utf-8")
    with pytest.raises(InputProblems) as caught:
        config.load(path)
    told = caught.value.problems
    assert all(problem.isprintable() for problem in told)
    assert any(problem.startswith(r"imports.\x1b[2J\x1b]0;x\x07: ") for problem in told)
    assert any(problem.startswith(r"imports.a\nplan: 0 problems: ") for problem in told)


@pytest.mark.parametrize("folds", [{"number": 5}, {}])  # the latter: five by default
def test_what_folds_cannot_go_with_is_told_before_any_work(tmp_path, demo, folds):
    demo["dataset"]["folds"] = folds
    demo["train"]["published_protocol"] = True
    run = next(iter(demo["runs"]))
    demo["report"]["papers"] = {run: next(iter(load_published()))}
    tuned = [name for name, entry in demo["runs"].items() if entry["features"] == "lite0_tuned_logmel"]
    by_path = {"encoder": "efficientnet_lite0", "weights": "models/encoders/lite0/encoder.safetensors"}
    demo["features"]["by_path"] = demo["features"]["lite0_logmel"] | {"visual": by_path}
    demo["runs"]["by_path"] = demo["runs"][run] | {"features": "by_path"}
    tuned.append("by_path")
    assert each_says(
        problems(tmp_path, demo),
        [("train.published_protocol", "folds"), ("report.papers", "folds"), *((f"runs.{name}.features", "fine-tuned") for name in tuned)],
    )


@pytest.mark.parametrize("number", [2, 0, "five", 1001])
def test_folds_are_three_or_more(tmp_path, demo, number):
    demo["runs"] = {name: run for name, run in demo["runs"].items() if run["features"] == "lite0_logmel"}
    demo["report"] = {"title": "Demo"}
    demo["dataset"]["folds"] = {"number": number}
    assert one_says(problems(tmp_path, demo), "dataset.folds.number")
