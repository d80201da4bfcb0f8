"""A forged checkpoint is refused, and none of its code runs."""

from __future__ import annotations

import hashlib
import io
import os
import pickle

import pytest
import torch

from pipeline.checkpoints import load_checkpoint, save_checkpoint
from pipeline.errors import PipelineError


class Hostile:
    """An object whose unpickling runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_what_was_saved_comes_back(tmp_path):
    content = {"state": {"epoch": 3, "order": torch.arange(4), "history": [{"train/total": 0.5}]}}
    save_checkpoint(tmp_path / "a.checkpoint", content)
    loaded = load_checkpoint(tmp_path / "a.checkpoint")
    assert torch.equal(loaded["state"].pop("order"), content["state"].pop("order"))
    assert loaded == content


@pytest.mark.parametrize("form", ["torch", "pickle"])
@pytest.mark.fault(37)
def test_a_checkpoint_that_would_run_a_command_is_refused_without_running_it(tmp_path, form):
    """The digest is right, because a forger can compute it."""
    body, trace, path = io.BytesIO(), tmp_path / "trace", tmp_path / "seed-3.checkpoint"
    content = {"state": Hostile(f"touch {trace}"), "random": torch.get_rng_state(), "random_cuda": []}
    torch.save(content, body) if form == "torch" else pickle.dump(content, body)
    path.write_bytes(hashlib.sha256(body.getvalue()).digest() + body.getvalue())
    with pytest.raises(PipelineError, match=r"seed-3\.checkpoint .*tensors.*remove"):
        load_checkpoint(path)
    assert not trace.exists()
    assert path.exists()  # it is evidence
    pickle.loads(pickle.dumps(Hostile(f"touch {trace}")))
    assert trace.exists(), "it would have run"
