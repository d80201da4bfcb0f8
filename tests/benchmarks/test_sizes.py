"""What a clip takes, as docs/scale.md tells it."""

import re
from pathlib import Path

from benchmarks.scale import exponent
from benchmarks.sizes import plans, sizes, table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"


def test_the_page_has_the_sizes_of_todays_suites():
    found = {size.suite: size for size in sizes()}
    assert found["ave-encoders"].frames == 160 * 256 * 340 * 3  # 16 frames in each of 10 seconds
    assert found["ave-encoders"].features["resnet50_cnn14"] == 10 * (7 * 7 * 2048 + 2048) * 2
    assert found["ave-supervised"].frames == 0
    assert found["llp"].features["r152_r2p1d_vggish"] == 10 * (8 * 2048 + 512 + 128) * 4
    disk, hours = plans(found.values())
    assert "| LLP | 11,849 | 11,849 | 12 GB | 495 GB |" in disk  # 11,849 x 1 MB, x 41.78 MB
    assert "| UnAV-100 | 2.3 h |" in hours  # 45,300 / 5.4 / 3600
    for mark, tables in zip(("sizes", "disk", "hours"), (table(found.values()), disk, hours), strict=True):
        (shown,) = re.findall(rf"<!-- {mark} -->\n(.*?)<!-- /{mark} -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        assert shown == tables, "run `python -m benchmarks.sizes`, and put its tables into docs/scale.md"


def test_the_exponent_is_that_of_the_clips_and_not_of_the_start():
    for power in (1.0, 1.5, 2.0):
        costs = {count: 5 + 1e-3 * (count - 1000) ** power for count in (1000, 10_000, 100_000, 1_000_000)}
        assert abs(exponent(costs) - power) < 1e-9
    assert exponent({1000: 5.0, 10_000: 4.0, 100_000: 9.0}) is None  # a single point above the start
