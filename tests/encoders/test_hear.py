"""Models with the HEAR API: the mapping of their timestamps to segments, their keys, and modules that do not keep to it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.encoders import create
from pipeline.errors import PipelineError

MODULE = Path(__file__).with_name("data") / "tiny_hear.py"
RATE = 8000


def changed(directory: Path, *changes: tuple[str, str]) -> str:
    """A copy of the tiny module with some of its text replaced."""
    text = MODULE.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = directory / "changed.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_timestamps_are_mapped_to_segments():
    """Segments of 0.5 s hold ten times; the module's eleventh lies beyond the segment's end and is left out."""
    encoder = create("hear", module=str(MODULE))
    waveform = torch.randn(RATE, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    with torch.inference_mode():
        features = encoder.encode(encoder.prepare(waveform, RATE, 2, 0.5))
    frames = waveform.view(2, 10, 400)
    torch.testing.assert_close(features[:, 0], frames.abs().mean((1, 2)))
    torch.testing.assert_close(features[:, 1], frames.diff(dim=-1).abs().mean((1, 2)))


@pytest.mark.fault(25)
def test_module_and_weights_are_in_the_key(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"scale": torch.full((3,), 2.0)}, path)
    plain, filled = create("hear", module=str(MODULE)), create("hear", module=str(MODULE), weights=str(path))
    other = create("hear", module=changed(tmp_path, ("25.0 +", "24.0 +")))
    assert len({str(encoder.spec()) for encoder in (plain, filled, other)}) == 3
    assert create("hear", module=changed(tmp_path)).spec() == plain.spec()  # the same source elsewhere
    sound = torch.rand(1, RATE)
    torch.testing.assert_close(filled.encode(sound), 2 * plain.encode(sound))
    assert {*filled.config.files()} == {"module", "weights"}


@pytest.mark.fault(25)
@pytest.mark.parametrize("name", ["mine_hear.py", "hear_package.networks.model"])
def test_source_that_the_module_needs_is_in_the_key(name, tmp_path, monkeypatch):
    """A file beside it that another one imports; a module of its package that is not below it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    text = MODULE.read_text(encoding="utf-8")
    if name.endswith(".py"):
        files = {name: f"import mine_layers\n{text}", "mine_layers.py": "from mine_depth import DEPTH\n", "mine_depth.py": "DEPTH = 1\n"}
    else:
        package = {f"hear_package/{place}__init__.py": "" for place in ("", "networks/")}
        files = package | {"hear_package/networks/model.py": text, "hear_package/depth.py": "DEPTH = 1\n"}
    *_, last = files
    for file, content in files.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(content, encoding="utf-8")
    (tmp_path / "stranger.py").write_text("", encoding="utf-8")
    module = str(tmp_path / name) if name.endswith(".py") else name
    before = create("hear", module=module).spec()
    (tmp_path / "stranger.py").write_text("DEPTH = 3\n", encoding="utf-8")
    assert create("hear", module=module).spec() == before
    (tmp_path / last).write_text("DEPTH = 2\n", encoding="utf-8")
    assert create("hear", module=module).spec() != before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("def get_timestamp_embeddings", "def get_embeddings"), r"has no function get_timestamp_embeddings"),
        (("sample_rate = 8000", "sample_rate = None"), r"no whole number sample_rate"),
        (("50.0 * torch", "0.05 * torch"), r"not the milliseconds of a sound of 1000 ms"),
        (("25.0 + 50.0 * torch", "0.025 + 0.05 * torch"), r"not the milliseconds of a sound of 1000 ms"),
        (("25.0 + 50.0 *", "1025.0 + 50.0 *"), r"not the milliseconds of a sound of 1000 ms"),
        (("25.0 + 50.0 *", "1025.0 - 50.0 *"), r"do not ascend"),
        (("times.expand(len(audio), -1)", "times[:3].expand(len(audio), -1)"), r"\(2, 21, 3\) and \(2, 3\) of 2 sounds.*\(2, K, 3\)"),
        (("return model(frames), ", "return model(frames).mean(1), "), r"\(2, 3\) and \(2, 21\) of 2 sounds"),
        (("model = Model()", "raise OSError('no checkpoint')"), r"load_model\(\) fails: no checkpoint"),
        (("import torch\n", "import torch, no_such_package\n"), r"cannot be imported.*no_such_package"),
    ],
)
def test_a_module_that_does_not_keep_to_the_api_is_one_sentence(change, says, tmp_path):
    with pytest.raises(PipelineError, match=says) as caught:
        create("hear", module=changed(tmp_path, change)).encode(torch.rand(2, RATE))
    assert "changed.py" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_mistakes_with_hear_are_one_sentence(tmp_path):
    with pytest.raises(PipelineError, match=r"'no_such_module' cannot be imported"):
        create("hear", module="no_such_module")
    with pytest.raises(PipelineError, match=r"nothing\.pt.*no such file"):
        create("hear", module=str(MODULE), weights=str(tmp_path / "nothing.pt"))
    with pytest.raises(PipelineError, match="no published weights"):
        create("hear", module=str(MODULE), weights="pretrained")
