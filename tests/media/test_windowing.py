import pytest

from pipeline.media.windowing import Windowing

LENGTHS = [(0.02, 1), (0.5, 1), (10.0, 1), (10.024, 1), (10.5, 1), (10.51, 2), (14.08, 2), (20.4, 2), (20.6, 3), (3600, 360)]


@pytest.mark.parametrize(("seconds", "windows"), LENGTHS)
def test_a_rest_shorter_than_half_a_segment_makes_no_window(seconds, windows):
    assert Windowing(10, 1.0).windows(seconds) == windows
    assert Windowing(10, 1.0).starts(seconds) == [10.0 * number for number in range(windows)]


@pytest.mark.parametrize(("seconds", "starts"), [(10.4, [0]), (10.6, [0, 5]), (15.4, [0, 5]), (25.0, [0, 5, 10, 15]), (3.0, [0])])
def test_overlapping_windows_reach_the_end_and_no_further(seconds, starts):
    assert Windowing(10, 1.0, hop=5).starts(seconds) == starts
