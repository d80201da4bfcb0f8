"""The papers' ablation tables with our runs: every printed row, the runs that stand for it, and what has not run yet."""

import numpy as np
import pytest

from pipeline.metrics.bootstrap import paired_bootstrap
from pipeline.report.ablations import OURS, ablation_tables
from pipeline.report.published import load_published
from pipeline.report.results import RunResult, read_run
from pipeline.report.settings import ReportSettings
from pipeline.training.settings import Run

SETTINGS = ReportSettings(
    baseline="full",
    papers={
        "full": "cace_net/AVE ablation BECE 0.6",
        "plain": "cace_net/AVE ablation AVCA",
        "one_way": "cace_net/AVE ablation AVCA visual only",
        "lstm": "cace_net/AVE unidirectional LSTM",
        "psi": "cace_net/AVE psi 0.45",
    },
)


@pytest.fixture
def results(world, helpers):
    """`full` and `plain` have run, `one_way` has not, `extra` stands for no printed row."""
    share, run, _ = helpers
    predicted = {"full": (30, 34), "plain": (24, 20), "extra": (10, 12)}
    for name, (first, second) in predicted.items():
        curves = {0: [50.0, 90.0, 70.0], 1: [60.0, 80.0, 70.0]} if name == "full" else None
        world.write_run(name, share(first)[0], {0: share(first)[1], 1: share(second)[1]}, test_curves=curves)
    read = {name: read_run(name, run(), world.root / "runs" / name, world.root / "none") for name in predicted}
    return [read["full"], read["plain"], RunResult("one_way", run(), absent="not evaluated"), read["extra"]]


def cells(table):
    return [dict(zip(table.heads, line, strict=True)) for line in table.lines]


def test_every_printed_row_stands_beside_its_run(results, helpers):
    tables = ablation_tables(results, {"one_way": "queued"}, SETTINGS)
    titles = [title.partition(":")[0] for title in tables]
    assert titles == [*(f"CACE-Net, Table {number}" for number in ("1", "2", "S1", "S2")), OURS]
    lines = {title.partition(":")[0].rpartition(" ")[2]: cells(table) for title, table in tables.items()}
    assert [(line["Run"], line["Test, mean ± std (seeds)"], line["Paper"]) for line in lines["1"]] == [
        ("–", "–", "78.26"), ("one_way", "queued", "78.83"), ("–", "–", "77.23"), ("plain", "55.00 ± 7.07 (2)", "80.3"),
    ]  # fmt: skip
    by_row = {line["Printed row"]: line for line in lines["2"]}
    assert by_row["w/o BECE"]["Run"] == "plain"  # printed in Table 1 already
    assert by_row["w/ BECE lambda = 0.6"]["Best test epoch, as published"] == "85.00 ± 7.07"
    share = helpers[0]
    mean_of = {
        run: np.mean([(share(n)[0] == share(n)[1]).mean(axis=1) * 100 for n in of], axis=0)
        for run, of in {"full": (30, 34), "plain": (24, 20)}.items()
    }
    known = paired_bootstrap(mean_of["plain"], mean_of["full"])
    assert by_row["w/o BECE"]["Difference [95 %]"] == f"{known.mean:+.2f} [{known.low:+.2f}, {known.high:+.2f}] to full"
    assert by_row["w/o BECE"]["Paper's difference"] == "-0.50"
    assert [line["Run"] for line in lines["S1"]] == ["–", "–", "–", "full"]
    assert [line["Run"] for line in lines["S2"]] == ["one_way", "–", "plain", "–"]
    assert [(line["Run"], line["Test, mean ± std (seeds)"]) for line in cells(tables[OURS])] == [("extra", "27.50 ± 3.54 (2)")]
    assert {line["Test clips"] for line in lines["2"] if line["Run"] in ("full", "plain")} == {"8"}
    assert any("the other way round" in note for note in tables[next(iter(tables))].notes)


def test_tables_of_several_metrics_show_ours_and_the_papers_in_one_cell():
    run = Run(task="avvp", method="coleaf", features="f", seeds=[0, 1])
    found = {str(seed): {"segment/Ao": 40.0 + seed, "segment/Type@AV": 50.0} for seed in run.seeds}
    result = RunResult("coleaf", run, "segment/Type@AV", scores=[50.0, 50.0], metrics={"test": found})
    papers = {"coleaf": "coleaf/LLP ablation event-aware contrast", "neither": "coleaf/LLP ablation neither"}
    tables = ablation_tables([result], {}, ReportSettings(papers=papers))
    assert [title.partition(":")[0] for title in tables] == ["CoLeaF, Table 2 (contrast)", "CoLeaF, Table 4 (class tokens)"]
    for table in tables.values():
        line = next(line for line in cells(table) if line["Run"] == "coleaf")
        assert line["Segment-level: Ao, ours / paper"] == "40.50 ± 0.71 (2) / 49.3"
        assert line["Event-level: Ao, ours / paper"] == "– / 44.1"
        assert next(line for line in cells(table) if line["Run"] == "–")["Segment-level: Ao, ours / paper"].startswith("– / ")
    assert load_published()["coleaf/LLP ablation event-aware contrast"].value("event/Ao") == 44.1
