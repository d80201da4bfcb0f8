"""Tables between the stages: what was written is read, or the file is named."""

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import PipelineError
from pipeline.tables import read_table, write_table

FRAME = pd.DataFrame(
    {"clip": [f"c{n}" for n in range(50)], "valid": [[True, n % 2 == 0] for n in range(50)], "score": np.linspace(0, 1, 50)},
    index=range(50, 100),
)


def test_a_table_comes_back_and_the_same_one_has_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_table(FRAME, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    read = read_table(tmp_path / "a")
    assert read.drop(columns="valid").equals(FRAME.reset_index(drop=True).drop(columns="valid"))
    assert [list(row) for row in read["valid"]] == list(FRAME["valid"])
    assert list(read_table(tmp_path / "a", columns=["score"], filters=[("clip", "==", "c3")])["score"]) == [FRAME["score"].iloc[3]]


def test_whichever_bit_flips_the_table_is_right_or_refused_with_its_place(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(FRAME[["clip", "score"]], path)
    whole, refused = path.read_bytes(), 0
    expected = read_table(path)
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            read = read_table(path)
        except PipelineError as error:
            refused += str(error).startswith(f"{path} is damaged (")
        else:
            assert read.equals(expected)
    assert refused > len(whole) / 3 * 0.5


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PipelineError, match=rf"{tmp_path}/x\.parquet: .*`dvc repro`"):
        read_table(tmp_path / "x.parquet")
