"""Cache keys: entries of other encoders, weights, versions or clips are never used."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline import encoders
from pipeline.features import plan
from pipeline.features.clip_encoder import KIND
from pipeline.features.extraction import Extraction
from pipeline.features.store import FeatureStore
from tests.features.test_extraction import VISUAL, World, changed

STRANGE = 77.0  # a feature that no encoder makes of these clips


def poison(world: World) -> None:
    """Replace every entry's numbers by absurd ones, to show whether any is read."""
    for path in (world.cache.root / KIND).rglob("*.npz"):
        arrays, facts = world.cache.get(KIND, path.stem)
        world.cache.put(KIND, path.stem, {"features": np.full_like(arrays["features"], STRANGE)}, facts)


def weights_file(path, seed):
    torch.manual_seed(seed)
    network = encoders.create("timm", **{key: value for key, value in VISUAL.items() if key != "encoder"}).network
    save_file({name: value * 1.01 if value.is_floating_point() else value for name, value in network.state_dict().items()}, path)


OTHERS = {
    "another encoder": lambda patch, root: changed(visual={"encoder": "efficientnet_lite0", "weights": "none", "image_size": 32,
                                                           "resize": 32, "pool": "average"}),
    "another network of it": lambda patch, root: changed(visual={**VISUAL, "model": "test_efficientnet"}),
    "another setting of it": lambda patch, root: changed(visual={**VISUAL, "crop": False}),
    "other weights": lambda patch, root: changed(visual={**VISUAL, "weights": str(root / "own.safetensors")}),
    "another version of the encoder": lambda patch, root: patch.setattr(encoders.ENCODERS.get("timm"), "version", 99),
    "another version of the extraction": lambda patch, root: patch.setattr(plan, "EXTRACT_VERSION", 99),
    "another dtype": lambda patch, root: changed(dtype="float32"),
    "another precision": lambda patch, root: changed(precision="bfloat16"),
    "a GPU's other precision": lambda patch, root: changed(precision="tf32"),
    "another size of passes": lambda patch, root: changed(batch_size=2),
}  # fmt: skip


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory):
    """A cache of absurd features, which are read if nothing has changed."""
    root = tmp_path_factory.mktemp("poisoned")
    world = World(root / "cache", contents=(0, 1))
    world.extract(root / "before")
    poison(world)
    world.extract(root / "same")
    assert (FeatureStore(root / "same").read("visual", ["clip0"]) == STRANGE).all()
    weights_file(root / "own.safetensors", 1)
    return root


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.fault(25)
def test_features_of_other_settings_have_other_keys_and_are_computed_again(poisoned, tmp_path, monkeypatch, what):
    shutil.copytree(poisoned / "cache", tmp_path / "cache")
    shutil.copy(poisoned / "own.safetensors", tmp_path)
    world = World(tmp_path / "cache", contents=(0, 1))
    keys = {path.stem for path in (world.cache.root / KIND).rglob("*.npz")}
    assert {key for row in world.verdicts for key in Extraction(changed(), world.jobs, world.cache, 1).plan.clip(row).keys.values()} == keys
    settings = OTHERS[what](monkeypatch, tmp_path) or changed()
    world.extract(tmp_path / "after", settings)
    store = FeatureStore(tmp_path / "after")
    assert not (store.read("visual", ["clip0", "clip1"]) == STRANGE).any()


@pytest.mark.fault(25)
def test_a_weights_file_with_other_numbers_has_another_key(tmp_path):
    world, path = World(tmp_path / "cache", contents=(0,)), tmp_path / "own.safetensors"
    weights_file(path, 1)
    settings = changed(visual={**VISUAL, "weights": str(path)})
    keys = [Extraction(settings, world.jobs, world.cache, 1).plan.clip(world.verdicts[0]).keys]
    weights = {name: value + 1 if value.is_floating_point() else value for name, value in encoders.weights.read_state(path).items()}
    save_file(weights, path)
    keys.append(Extraction(settings, world.jobs, world.cache, 1).plan.clip(world.verdicts[0]).keys)
    assert keys[0]["visual"] != keys[1]["visual"]
    assert keys[0]["audio"] == keys[1]["audio"]
