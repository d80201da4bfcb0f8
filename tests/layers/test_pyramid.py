"""The pyramid's blocks against a restatement in NumPy, and their answers whatever lies behind a clip."""

import numpy as np
import pytest
import torch
from scipy.special import erf
from torch import nn

from pipeline.layers.pyramid import ConvolutionStack, DropPath, EventDependency, PyramidBlock, halved

WIDTH, HEADS = 8, 2


def woken(module: nn.Module, seed: int = 0) -> nn.Module:
    """All weights random, so that none hides behind the value that it starts with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
    return module.double().eval()


def arrays(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in module.state_dict().items()}


def normed(x, weights, name):
    gap = x - x.mean(-1, keepdims=True)
    return gap / np.sqrt((gap**2).mean(-1, keepdims=True) + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def depthwise(x, kernel, stride):
    padded = np.concatenate([np.zeros((1, x.shape[1])), x, np.zeros((1, x.shape[1]))])
    return np.stack([(padded[k : k + 3] * kernel).sum(0) for k in range(0, len(x), stride)])


def block_by_hand(w, own, other, n, stride, clean):
    """One clip (T, D) of n valid steps, as section 1.2 of the specification has it."""
    mask = (np.arange(len(own)) < n)[:, None]
    after = mask[::stride]
    u1, u2 = normed(own, w, "own_norm"), normed(other, w, "other_norm")
    if clean:
        u1, u2 = u1 * mask, u2 * mask
    q, k, v = (
        linear(normed(depthwise(u, w[f"convolutions.{name}.weight"], stride) * after, w, f"norms.{name}"), w, name)
        for name, u in (("query", u2), ("key", u1), ("value", u1))
    )
    parts = []
    for head in range(HEADS):
        some = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
        scores = np.where(after.T, q[:, some] @ k[:, some].T / np.sqrt(WIDTH / HEADS), -np.inf)
        share = np.exp(scores - scores.max(1, keepdims=True))
        parts.append(share / share.sum(1, keepdims=True) @ (v * after)[:, some])
    attended = linear(np.concatenate(parts, 1), w, "output") * after
    if stride == 1:
        skip = own * mask
    else:
        shown = np.where(mask, own, -np.inf) if clean else own
        padded = np.concatenate([np.full((1, WIDTH), -np.inf), shown, np.full((2, WIDTH), -np.inf)])
        skip = np.where(after, np.stack([padded[k : k + 3].max(0) for k in range(0, len(own), 2)]), 0.0)
    y = skip + w["attention_scale"] * attended
    hidden = linear(normed(y, w, "norm"), w, "mlp.0")
    return y + w["mlp_scale"] * linear(hidden * (1 + erf(hidden / np.sqrt(2))) / 2, w, "mlp.2") * after


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize(("stride", "n", "steps"), [(1, 7, 9), (2, 7, 9), (2, 7, 7), (2, 8, 8), (2, 1, 3)])
def test_a_block_is_its_formulas(stride, n, steps, clean):
    block = woken(PyramidBlock(WIDTH, HEADS, 12, stride, clean=clean))
    rng = np.random.default_rng(0)
    own, other = rng.normal(size=(2, steps, WIDTH))
    mask = np.arange(steps) < n
    if clean:
        own, other = own * mask[:, None], other * mask[:, None]  # the embedding leaves nothing else
    given = (torch.from_numpy(values)[None] for values in (own, other, mask))
    found = block(*given)[0].detach().numpy()
    np.testing.assert_allclose(found, block_by_hand(arrays(block), own, other, n, stride, clean), atol=1e-12)
    assert (found[(n + stride - 1) // stride :] == 0).all()


def batch(steps, n, clips=3, width=WIDTH):
    generator = torch.Generator().manual_seed(n)
    values = torch.randn(clips, 40, width, generator=generator, dtype=torch.float64)
    mask = (torch.arange(steps) < n).expand(clips, -1)
    return values[:, :steps].masked_fill(~mask.unsqueeze(-1), 0.0), mask


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_clean_blocks_take_padding_for_the_end_of_the_frame(n):
    stack = woken(ConvolutionStack(WIDTH, WIDTH, clean=True))
    halving = woken(PyramidBlock(WIDTH, HEADS, 12, 2, clean=True))
    relating = woken(EventDependency(WIDTH, 3, 4, 0.0, clean=True))
    for network in (stack, lambda values, mask: halving(values, values, mask), relating):
        exact = network(*batch(n, n))
        for steps in (n + 1, n + 9):
            longer = network(*batch(steps, n))
            torch.testing.assert_close(longer[:, : exact.shape[1]], exact, atol=1e-12, rtol=0)
            assert (longer[:, exact.shape[1] :] == 0).all()


def test_released_blocks_do_not_but_agree_among_paddings():
    stack = woken(ConvolutionStack(WIDTH, WIDTH, clean=False))
    exact, one, nine = (stack(*batch(steps, 5))[:, :5] for steps in (5, 7, 14))
    assert (exact[:, -1] - one[:, -1]).abs().max() > 1e-3
    torch.testing.assert_close(one, nine, atol=1e-12, rtol=0)


@pytest.mark.parametrize("clean", [True, False])
def test_the_dependency_of_a_clip_is_not_that_of_its_neighbours(clean):
    """The released mask is tiled in the wrong order; with 2 clips of 4 steps and 8 classes it fails."""
    block = woken(EventDependency(WIDTH, 8, 4, 0.0, clean))
    values, _ = batch(4, 4, clips=2)
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    values = values.masked_fill(~mask.unsqueeze(-1), 0.0)
    together = block(values, mask)
    for clip in range(2):
        alone = block(values[clip : clip + 1], mask[clip : clip + 1])
        torch.testing.assert_close(together[clip : clip + 1], alone, atol=1e-12, rtol=0)


def test_parameters_and_halved_steps():
    assert sum(weight.numel() for weight in PyramidBlock(512, 4, 2048).parameters()) == 12 * 512**2 + 32 * 512
    lengths = torch.arange(1, 32)
    mask = torch.arange(33) < lengths[:, None]
    for level in range(1, 6):
        mask = halved(mask)
        assert mask.sum(dim=1).tolist() == [-(-int(n) // 2**level) for n in lengths]


def test_drop_path_keeps_the_mean():
    torch.manual_seed(0)
    path = DropPath(0.25).train()
    ones = torch.ones(4000, 2)
    dropped = path(ones)
    assert dropped.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (dropped[:, 0] == dropped[:, 1]).all()
    assert dropped.mean() == pytest.approx(1, abs=0.05)
    assert path.eval()(ones) is ones
