"""Places on a store's time grid and seconds, of floats, arrays and tensors."""

import numpy as np
import pytest
import torch

from pipeline.time_grid import TimeGrid

UNAV, ONE_PEACE = TimeGrid(0.32, 0.48), TimeGrid(0.25, 0.5)


def test_published_grids_follow_their_frames() -> None:
    """I3D: 25 frames a second, stacks of 24 with step 8; ONE-PEACE: 16, 16 and 4."""
    for grid, rate, stack, step in ((UNAV, 25, 24, 8), (ONE_PEACE, 16, 16, 4)):
        for row in (0, 1, 7, 184):
            first, last = row * step, row * step + stack  # frames
            assert grid.seconds(float(row)) == pytest.approx((first + last) / 2 / rate)


@pytest.mark.parametrize("kind", [float, np.asarray, torch.tensor])
def test_there_and_back_also_before_the_first_row(kind) -> None:
    for moment in (0.0, 0.1, 0.48, 59.9):
        there = UNAV.steps(kind(moment))
        assert float(there) == pytest.approx((25 * moment - 12) / 8, abs=1e-4)
        assert float(UNAV.seconds(there)) == pytest.approx(moment, abs=1e-4)
    assert UNAV.steps(0.0) == pytest.approx(-1.5)


def test_a_spec_states_its_grid_only_where_segments_are_not_laid_end_to_end() -> None:
    plain = TimeGrid.of({"segment_seconds": 1.0})
    assert plain == TimeGrid(1.0, 0.5)
    assert plain.facts(1.0) == {}
    assert UNAV.facts(0.32) == {"step_seconds": 0.32, "first_seconds": 0.48}
    assert TimeGrid.of({"segment_seconds": 0.32, **UNAV.facts(0.32)}) == UNAV
    assert TimeGrid.of({"segment_seconds": 0.32}) == TimeGrid(0.32, 0.16)
