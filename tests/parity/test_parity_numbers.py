"""Causes that numbers alone can show: each is done to a store here by other means than the hypothesis undoes it with."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from pipeline.features.store import FeatureStore
from pipeline.parity.pairs import Pairs
from pipeline.parity.search import explain
from tests.wording import each_says, says

N, T, D = 40, 10, 24
RNG = np.random.default_rng(11)


def drifting(shape):
    """(N, T, *shape): clips that differ, and change slowly from segment to segment, with few features in common."""
    clip, step = RNG.normal(size=(N, 1, *shape)), RNG.normal(size=(N, T, *shape))
    return (clip + 0.5 * step.cumsum(1)).astype(np.float32)


MAPS, VECTORS = drifting((3, 3, D)), drifting((D,))


@pytest.fixture
def verdict(make_store, tmp_path):
    def of(modality, ours, published):
        """The verdict on arrays (N, T, *shape)."""
        other = np.zeros((*ours.shape[:2], 1), np.float32)
        stores, root = [], tmp_path / str(len(list(tmp_path.iterdir())))
        for name, array in (("ours", ours), ("published", published)):
            visual, audio = (array, other) if modality == "visual" else (other, array)
            stores.append(FeatureStore(make_store(root / name, visual, audio)))
        pairs = Pairs(*stores)
        layer = next(layer for layer in pairs.layers() if layer.modality == modality)
        return explain(pairs, layer, None, "no clips here")

    return of


def laid_wrong(maps):
    """(h, w, D) in memory, written as (D, h, w) and read as (h, w, D) again: the bytes keep the order of the former."""
    return np.ascontiguousarray(np.moveaxis(maps, -1, 2)).reshape(maps.shape)


def laid_wrong_the_other_way(maps):
    as_channels_first = maps.reshape(*maps.shape[:2], D, 3, 3)
    return np.ascontiguousarray(np.moveaxis(as_channels_first, 2, -1))


def at_unit_length(values):
    return values / np.sqrt((values.astype(np.float64) ** 2).sum(-1, keepdims=True)).astype(np.float32)


ORDER, FACTORS, OFFSETS = RNG.permutation(D), RNG.uniform(0.2, 3, D), RNG.normal(size=D)
SIMPLE = [
    ("relu_added", VECTORS, lambda x: np.where(x > 0, x, 0)),
    ("sign", VECTORS, lambda x: 0 - x),
    ("unit_length", VECTORS, at_unit_length),
    ("channels_reversed", VECTORS, lambda x: np.flip(x, -1)),
    ("channels_reversed", MAPS, lambda x: np.flip(x, -1)),
    ("segments_shifted_+1", VECTORS, lambda x: np.concatenate([x[:, :1], x[:, :-1]], 1)),
    ("segments_shifted_-2", MAPS, lambda x: np.concatenate([x[:, 2:], x[:, -2:]], 1)),
    ("map_transposed", MAPS, lambda x: x.transpose(0, 1, 3, 2, 4)),
    ("map_mirrored", MAPS, lambda x: np.flip(x, 3)),
    ("map_upside_down", MAPS, lambda x: np.flip(x, 2)),
    ("channels_first", MAPS, laid_wrong),
    ("channels_last", MAPS, laid_wrong_the_other_way),
    ("scale", VECTORS, lambda x: x * np.float32(255)),
    ("standardised", VECTORS, lambda x: (x * FACTORS + OFFSETS).astype(np.float32)),
    ("channels_permuted", MAPS, lambda x: x[..., ORDER]),
]


@pytest.mark.parametrize(("name", "ours", "done"), SIMPLE, ids=[f"{name}-{ours.ndim}" for name, ours, _ in SIMPLE])
def test_one_cause_is_named(verdict, name, ours, done):
    found = verdict("visual" if ours.ndim == 5 else "audio", ours, done(ours))
    assert found.names == (name,)
    assert found.best.error < 1e-5
    assert found.as_well == []
    assert found.best.causes[0] in found.sentence()


def test_a_relu_that_only_ours_went_through(verdict):
    assert verdict("audio", np.maximum(VECTORS, 0), VECTORS).names == ("relu_missing",)


PAIRS = [
    ({"relu_added", "channels_reversed"}, VECTORS, lambda x: np.maximum(x[..., ::-1], 0)),
    ({"relu_added", "segments_shifted_+1"}, VECTORS, lambda x: np.maximum(np.roll(x, 1, 1), 0)),
    ({"channels_reversed", "segments_shifted_-1"}, VECTORS, lambda x: np.roll(x, -1, 1)[..., ::-1]),
    ({"relu_added", "channels_first"}, MAPS, lambda x: laid_wrong(np.maximum(x, 0))),
]


@pytest.mark.parametrize(("names", "ours", "done"), PAIRS, ids=[" ".join(sorted(names)) for names, _, _ in PAIRS])
def test_two_causes_at_once_are_both_named(verdict, names, ours, done):
    found = verdict("visual" if ours.ndim == 5 else "audio", ours, done(ours))
    assert set(found.names) == names
    assert found.best.error < 1e-5


def whitened(values, quantize):
    """PCA with whitening as AudioSet's: centred, rotated, scaled, clipped to [-2, 2], truncated to 8 bits."""
    rows = values.reshape(-1, D).astype(np.float64)
    variances, vectors = np.linalg.eigh(np.cov(rows.T))
    projected = ((rows - rows.mean(0)) @ vectors / np.sqrt(variances)).clip(-2, 2)
    result = np.floor((projected + 2) * 255 / 4) if quantize else projected
    return result.reshape(values.shape).astype(np.float32)


@pytest.mark.parametrize(("quantize", "remains"), [(False, 0.002), (True, 0.01)])
def test_pca_is_named_through_its_clipping_and_its_8_bits(verdict, quantize, remains):
    found = verdict("audio", VECTORS, whitened(VECTORS, quantize))
    assert found.names == ("linear",)
    assert "PCA" in found.sentence()
    assert found.best.error < remains


def test_another_last_linear_layer_is_a_linear_map(verdict):
    rotation = ortho_group.rvs(D, random_state=3).astype(np.float32)
    assert verdict("visual", MAPS, MAPS @ rotation).names == ("linear",)


def test_features_that_belong_to_other_clips_are_found_out(verdict):
    found = verdict("audio", VECTORS, np.roll(VECTORS, 1, axis=0))
    assert found.names == ("clips_moved",)
    assert says(found.sentence(), "40 of 40", "clip000", "clip039")


def test_no_cause_is_named_where_none_is_known(verdict):
    other = drifting((D,))
    noisy = VECTORS + RNG.normal(size=VECTORS.shape).astype(np.float32)
    squared = np.tanh(VECTORS @ RNG.normal(size=(D, D)).astype(np.float32)) ** 2  # another network
    for published in (other, noisy, squared):
        found = verdict("audio", VECTORS, published)
        assert (found.kind, found.names) == ("unknown", ())
        assert "unknown" in found.sentence()
        assert each_says(found.not_tried, [("frame order", "encoder", "clips")])


def test_features_that_hardly_vary_are_not_explained_by_their_mean(verdict):
    """A fit learns the mean of the published features, beside which the unexplained rest is small."""
    ours, published = (10 + 0.1 * drifting((D,)) for _ in range(2))
    found = verdict("audio", ours, published * np.float32(1.5) + RNG.normal(size=D).astype(np.float32))
    fitted = next(each for each in found.tried if each.names == ("standardised",))
    assert fitted.error < 0.05 * fitted.before * 2
    assert fitted.variation > 0.5
    assert found.kind == "unknown"


def test_rounding_is_no_difference(verdict):
    for published in (VECTORS, VECTORS.astype(np.float16).astype(np.float32), VECTORS * np.float32(1.002)):
        found = verdict("audio", VECTORS, published)
        assert found.kind == "same"
        assert found.tried == []


def test_fits_are_judged_on_clips_they_have_not_seen(verdict):
    """120 vectors to learn 128 parameters a channel from would fit anything."""
    ours, published = (RNG.normal(size=(24, 10, 128)).astype(np.float32) for _ in range(2))
    found = verdict("audio", ours, published)
    assert found.kind == "unknown"
    assert "linear" not in {name for each in found.tried for name in each.names}
