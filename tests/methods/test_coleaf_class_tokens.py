"""CoLeaF's Reference branches: their sizes, their forward pass restated in NumPy, and whether their class tokens learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from restatement import Restatement, scatter

from pipeline.methods.coleaf.class_tokens import ReferenceBranch, References

pytestmark = pytest.mark.processor

CLASSES, WIDTH, LENGTHS = 3, 6, (4, 2, 1)
MASK = torch.arange(4) < torch.tensor(LENGTHS)[:, None]


def build(token_head):
    torch.manual_seed(0)
    return ReferenceBranch(WIDTH, CLASSES, token_head, feedforward=8, dropout=0.0, head_dropout=0.0, drops_attention=True)


@pytest.mark.parametrize("token_head", ["mean", "linear", "none"])
def test_a_pass_equals_the_numpy_restatement(token_head):
    branch = scatter(build(token_head))
    restated = Restatement(branch)
    stream = torch.randn(3, 4, WIDTH, dtype=torch.float64)
    said = branch(stream, MASK)
    for clip, length in enumerate(LENGTHS):
        tokens, p, whole, classes = restated.reference_branch("", stream[clip, :length].numpy())
        np.testing.assert_allclose(said.tokens[clip, :length].detach(), tokens, atol=1e-10)
        np.testing.assert_allclose(said.segments[clip, :length].detach(), p, atol=1e-10)
        np.testing.assert_allclose(said.clip[clip].detach(), whole, atol=1e-10)
        if token_head == "none":
            assert said.classes is None
        else:
            np.testing.assert_allclose(said.classes[clip].detach(), classes, atol=1e-10)


def test_parameters_as_the_released_networks_use():
    """Released: 2,735,154 and 4,505,650, each minus 1,052,672 unused (attention to the other modality, two layer norms)."""
    references = References(2048, 128, 512, 512, 25, "mean", feedforward=512, dropout=0.1, head_dropout=0.5)
    of_audio = [references.front_end.audio, references.audio]
    audio = sum(weight.numel() for part in of_audio for weight in part.parameters())
    visual = sum(weight.numel() for weight in references.parameters()) - audio
    dead = 4 * 512 * 512 + 4 * 512 + 2 * 2 * 512
    assert dead == 1_052_672
    assert (audio, visual) == (2_735_154 - dead, 4_505_650 - dead) == (1_682_482, 3_452_978)


def trained(token_head):
    """First and last probabilities of the class tokens (B, C) and their first gradient, in eight steps on their loss only."""
    branch, stream = build(token_head), torch.randn(3, 4, WIDTH, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 1], [1, 0, 1]])
    optimizer = torch.optim.Adam(branch.parameters(), 0.02)
    record = []
    for _ in range(8):
        said = branch(stream, MASK)
        record.append(said.classes.detach())
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy(said.classes, labels, reduction="sum").backward()
        if len(record) == 1:
            gradient = branch.class_tokens.grad.abs().max().item()
        optimizer.step()
    return record[0], record[-1], gradient, labels


def test_the_mean_over_channels_behind_a_layer_norm_is_one_half_and_teaches_nothing():
    first, _, gradient, _ = trained("mean")
    torch.testing.assert_close(first, torch.full_like(first, 0.5), atol=1e-6, rtol=0)
    assert gradient < 1e-6


def test_a_linear_layer_for_each_token_leaves_one_half_and_learns():
    first, last, gradient, labels = trained("linear")
    assert (first - 0.5).abs().max() > 0.05
    assert gradient > 1e-3
    assert ((last - labels).abs().mean() < (first - labels).abs().mean() - 0.05).item()


def test_only_the_visual_branch_drops_what_weighs_the_segments():
    """In train mode with a constant classifier, any difference between two passes comes from the attention weights."""
    stream = torch.randn(2, 4, WIDTH, generator=torch.Generator().manual_seed(1))
    for drops in (True, False):
        torch.manual_seed(0)
        branch = ReferenceBranch(WIDTH, CLASSES, "mean", 8, dropout=0.0, head_dropout=0.5, drops_attention=drops)
        given = []
        branch.over_time.register_forward_hook(lambda _module, inputs, _output, given=given: given.append(inputs[0]))
        branch(stream, torch.ones(2, 4, dtype=torch.bool))
        assert (given[0] == 0).any() == drops
