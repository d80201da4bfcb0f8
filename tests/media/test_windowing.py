import pytest

from pipeline.media.windowing import Windowing

LENGTHS = [(0.02, 1), (0.5, 1), (10.0, 1), (10.024, 1), (10.5, 1), (10.51, 2), (14.08, 2), (20.4, 2), (20.6, 3), (3600, 360)]


@pytest.mark.parametrize(("seconds", "windows"), LENGTHS)
def test_a_rest_shorter_than_half_a_segment_makes_no_window(seconds, windows):
    assert Windowing(10, 1.0).windows(seconds) == windows
    assert Windowing(10, 1.0).starts(seconds) == [10.0 * number for number in range(windows)]
