"""Windows and their sums against naive loops."""

from __future__ import annotations

import pytest
import torch

from pipeline.layers.matching import fits, sums_along, sums_over_windows, windows

pytestmark = pytest.mark.processor

T = 5


def test_windows_and_what_fits_by_loops():
    held = windows(T)
    inside = fits(torch.tensor([[True] * 5, [True, True, True, False, False]]))
    assert held.shape == (T, T, T)
    assert inside.shape == (2, T, T)
    for length in range(1, T + 1):
        for start in range(T):
            segments = list(range(start, start + length)) if start + length <= T else []
            assert held[length - 1, start].nonzero().flatten().tolist() == segments
            assert inside[:, length - 1, start].tolist() == [start + length <= 5, start + length <= 3]


def test_sums_over_windows_by_loops():
    values = torch.randn(2, T, T, T, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sums = sums_over_windows(values)
    for length in range(1, T + 1):
        for answer in range(T - length + 1):
            expected = sum(values[:, length - 1, :, answer + k] for k in range(length))
            torch.testing.assert_close(sums[:, length - 1, :, answer], expected)


def test_sums_along_by_loops():
    values = torch.randn(2, T, T, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sums = sums_along(values)
    for length in range(1, T + 1):
        for question in range(T - length + 1):
            for answer in range(T - length + 1):
                expected = sum(values[:, question + k, answer + k] for k in range(length))
                torch.testing.assert_close(sums[:, length - 1, question, answer], expected)
