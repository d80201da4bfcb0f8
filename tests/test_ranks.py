"""Which process of torchrun this is: read from its environment, and refused where that is no such environment."""

import pytest

from pipeline.errors import PipelineError
from pipeline.ranks import NEEDED, Rank, this_rank

WHOLE = dict(zip(NEEDED, ("3", "4", "1", "2", "127.0.0.1", "29500"), strict=True))


@pytest.fixture
def environment(monkeypatch):
    def write(values):
        for name in NEEDED:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return write


def test_without_torchrun_a_process_is_alone(environment):
    environment({"LOCAL_RANK": "1", "MASTER_ADDR": "elsewhere"})  # what other programs leave
    assert this_rank() == Rank(0, 1, 0, 1)
    assert not this_rank().several


def test_a_process_knows_its_number_and_its_place_on_its_machine(environment):
    environment(WHOLE)
    assert this_rank() == Rank(3, 4, 1, 2)
    assert this_rank().several
    assert not this_rank().first


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({name: None for name in NEEDED[2:]}, "LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": None}, "WORLD_SIZE"),
        ({"RANK": "4"}, "RANK=4"),
        ({"RANK": "-1"}, "RANK=-1"),
        ({"LOCAL_RANK": "2"}, "LOCAL_RANK=2"),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE=many"),
    ],
)
def test_half_an_environment_is_refused(environment, changes, named):
    environment({name: value for name, value in {**WHOLE, **changes}.items() if value is not None})
    with pytest.raises(PipelineError, match=named):
        this_rank()
