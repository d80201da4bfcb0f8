"""Clips of different lengths in one split: their masks, lengths and time grid reach every batch."""

import pandas as pd
import torch

from pipeline.tasks.labels import VideoTargets
from pipeline.time_grid import TimeGrid
from pipeline.training.data import SplitData, clip_seconds
from pipeline.training.streams import Resident

MASK = torch.tensor([[True] * 4, [True, False, False, False], [True, True, True, False]])


def test_a_length_that_the_index_does_not_state_is_that_of_the_valid_segments():
    rows = pd.DataFrame({"seconds": [1.9, None, 1.4]}, index=[7, 3, 5])
    assert clip_seconds(rows, MASK, 0.5).tolist() == torch.tensor([1.9, 0.5, 1.4]).tolist()
    assert clip_seconds(rows.drop(columns="seconds"), MASK, 0.5).tolist() == [2.0, 0.5, 1.5]


def test_batches_hold_each_clips_mask_and_length_and_the_grid_of_all():
    streams = {name: torch.arange(3.0)[:, None, None].expand(3, 4, 2) for name in ("visual", "audio")}
    grid, seconds = TimeGrid(0.5, 0.75), torch.tensor([1.9, 0.5, 1.4])
    truth = VideoTargets(torch.zeros(3, 2))
    data = SplitData(Resident(streams), MASK, truth, [0, 1, 2], ["a", "b", "c"], [], 1, 0.5, grid=grid, seconds=seconds)
    batches = [batch for batch, _ in data.batches([torch.tensor([2, 1]), torch.tensor([0])], torch.float32)]
    assert [batch.full for batch in batches] == [False, True]
    assert [batch.grid for batch in batches] == [grid, grid]
    torch.testing.assert_close(torch.cat([batch.seconds for batch in batches]), seconds[[2, 1, 0]])
    torch.testing.assert_close(torch.cat([batch.mask for batch in batches]), MASK[[2, 1, 0]])
    assert batches[0][:1].seconds.tolist() == seconds[[2]].tolist()
