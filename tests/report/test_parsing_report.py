"""Runs of parsing in the report: trivial answers, differences to another run, classes; and runs of several tasks side by side."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.metrics.parsing import parsing_scores
from pipeline.tasks import avvp
from pipeline.tasks.avvp import ParsingScores, ParsingTargets
from pipeline.training.settings import Run
from tests.wording import one_says

N, T, CLASSES = 8, 5, 3


def truth(seed=0):
    generator = torch.Generator().manual_seed(seed)
    audio, visual = (torch.rand(N, T, CLASSES, generator=generator) < 0.4 for _ in range(2))
    audio[..., 2] = visual[..., 2] = False  # a class of no clip
    return ParsingTargets(audio, visual, (audio | visual).any(dim=1))


def answer(share, seed):
    """(N, 2, T, C): the truth with a share of the entries flipped."""
    generator = torch.Generator().manual_seed(seed)
    both = torch.stack([truth().audio, truth().visual], dim=1)
    turned = torch.rand(both.shape, generator=generator) < share
    turned[..., 2] = False
    return both ^ turned


KNOWN = truth(1)._map(lambda table: table.clone())  # of validation: there, the first class is never seen
KNOWN.visual[..., 0] = False


@pytest.fixture
def write_run(world):
    def write(name, decided_by_seed):
        directory = world.root / "runs" / name
        directory.mkdir(parents=True)
        mask, tables, seeds = torch.ones(N, T, dtype=torch.bool), [], {}
        for seed, decided in decided_by_seed.items():
            p = decided.float()
            scores = ParsingScores(p[:, 0], p[:, 1], p[:, 0].amax(1), p[:, 1].amax(1), torch.full((N, 2, 2, CLASSES), 0.5))
            lines = avvp.table(scores, decided, truth(), mask)
            rows = np.repeat(np.arange(N), T)
            tables.append(lines.assign(seed=seed, split="test", clip=[f"clip{row}" for row in rows], row=rows))
            metrics, learned = avvp.score(decided, truth(), mask, CLASSES, 1.0), avvp.prior_scores(truth(), mask, KNOWN, mask)
            seeds[str(seed)] = {**metrics, **learned, "trivial": metrics["trivial"] | learned["trivial"]}
        pd.concat(tables).to_parquet(directory / "predictions.parquet")
        document = {
            "task": "avvp", "method": "han", "features": "f", "headline": avvp.HEADLINE, "parameters": 5, "seeds": {"test": seeds},
            "weights": {}, "clips": {"test": {"evaluated": N, "without features": []}},
        }  # fmt: skip
        (directory / "metrics.json").write_text(json.dumps(document), encoding="utf-8")
        curves = [{"seed": seed, "epoch": 0, f"val/{avvp.HEADLINE}": 1.0} for seed in decided_by_seed]
        pd.DataFrame(curves).to_csv(directory / "curves.csv", index=False)

    return write


def parsing_run(seeds=(0, 1)):
    return Run(task="avvp", method="han", features="f", seeds=list(seeds))


def cells(text, run, level, rule):
    """Score -> cell of one line of the parsing table."""
    heads = [head.strip() for head in next(line for line in text.splitlines() if line.startswith("| Run | Level |")).split("|")[1:-1]]
    for line in text.splitlines():
        found = [cell.strip() for cell in line.split("|")[1:-1]]
        if found[:3] == [run, level, rule]:
            return dict(zip(heads, found, strict=True))
    raise AssertionError(f"no line of {run}, {level}, {rule}")


def published(decided):
    tables = (decided[:, 0], decided[:, 1], truth().audio, truth().visual)
    return parsing_scores(*(table.transpose(1, 2).numpy() for table in tables))


def test_audible_only_and_visible_only_stand_beside_trivial_answers_and_another_run(world, write_run):
    plain = {0: answer(0.4, 1), 1: answer(0.4, 2)}
    better = {0: answer(0.1, 3), 1: answer(0.1, 4)}
    write_run("han", plain)
    write_run("better", better)
    text = world.report({"han": parsing_run(), "better": parsing_run()}, baseline="han", gallery=0)
    means = {
        name: {key: np.mean([published(decided)[key] for decided in by_seed.values()]) for key in published(plain[0])}
        for name, by_seed in (("han", plain), ("better", better))
    }
    nothing = published(torch.zeros(N, 2, T, CLASSES, dtype=torch.bool))
    everywhere = published(truth().labels[:, None, None].expand(N, 2, T, CLASSES))
    prior = truth().labels[:, None, None].repeat(1, 2, T, 1)
    prior[:, 1, :, 0] = False
    prior = published(prior)
    rare = "(the same, without classes on in under 25 % of their clips' segments)"
    assert f"{rare}: visual never Bell." in text
    for level in ("segment", "event"):
        for score in ("Ao", "Vo", "AV", "Type@AV", "Event@AVo"):
            key = f"{level}/{score}"
            assert cells(text, "(nothing, always)", level, "as published")[score] == f"{nothing[key]:.1f}"
            assert cells(text, "(the clip's true labels, always)", level, "as published")[score] == f"{everywhere[key]:.1f}"
            assert cells(text, rare, level, "as published")[score] == f"{prior[key]:.1f}"
            assert cells(text, "better", level, "as published")[score].startswith(f"{means['better'][key]:.1f} ± ")
            gain, interval = cells(text, "better - han", level, "difference [95 %]")[score].split(" ", 1)
            low, high = (float(part) for part in interval.strip("[]").split(","))
            assert float(gain) == pytest.approx(means["better"][key] - means["han"][key], abs=0.051)
            assert low <= float(gain) <= high
    table = pd.read_csv(world.out / "table.csv").set_index("run")
    gain = cells(text, "better - han", "segment", "difference [95 %]")["Type@AV"]
    assert gain == f"{table.loc['better', 'difference']:+.1f} [{table.loc['better', 'low']:+.1f}, {table.loc['better', 'high']:+.1f}]"
    assert "(nothing, always)" in (world.out / "table.tex").read_text(encoding="utf-8")
    assert "better - han" in (world.out / "index.html").read_text(encoding="utf-8")


def test_classes_have_a_table_of_their_own(world, write_run):
    decided = {0: answer(0.4, 1), 1: answer(0.4, 2)}
    write_run("han", decided)
    world.report({"han": parsing_run()}, gallery=0)
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in (world.out / "classes.md").read_text(encoding="utf-8").splitlines()
    ]
    heads, of_class = lines[0], {line[0]: line for line in lines[2:] if len(line) == 12}
    assert heads[:7] == ["Class", "Run", "Segment A", "Segment Ao", "Segment V", "Segment Vo", "Segment AV"]
    assert list(of_class) == ["Bell", "Dog &lt;b>", "Guitar"]
    for number, name in enumerate(("Bell", "Dog &lt;b>")):
        values = []
        for said in decided.values():
            pred, true = said[:, 0, :, number], truth().audio[..., number]
            values.append(200 * (pred & true).sum().item() / (pred.sum() + true.sum()).item())
        assert of_class[name][2] == f"{np.mean(values):.1f}"
    assert of_class["Guitar"][2:] == ["–"] * 10
    assert "Parsing, class by class" in (world.out / "index.html").read_text(encoding="utf-8")
    assert "Guitar & han &" in (world.out / "classes.tex").read_text(encoding="utf-8")


def test_runs_of_another_task_are_not_compared(world, write_run, helpers):
    share, run, _ = helpers
    for name, right in (("avel", 20), ("cace", 30)):
        world.write_run(name, share(0)[0], {seed: share(right)[1] for seed in (0, 1)})
    write_run("han", {0: answer(0.4, 1), 1: answer(0.4, 2)})
    write_run("other", {0: answer(0.2, 3), 1: answer(0.2, 4)})
    write_run("third", {0: answer(0.3, 3), 1: answer(0.3, 4)})
    runs = {"avel": run(), "cace": run(), "han": parsing_run(), "other": parsing_run(), "third": parsing_run()}
    text = world.report(runs, baseline="avel", gallery=0)
    table = pd.read_csv(world.out / "table.csv").set_index("run")
    assert table.index[table["difference"].notna()].tolist() == ["cace"]
    assert "| Difference to avel [95 %] |" in text
    assert "difference [95 %]" not in text
    text = world.report(runs, baseline="avel", baselines={"avvp": "han", "third": "other"}, gallery=0)
    table = pd.read_csv(world.out / "table.csv").set_index("run")
    assert table.index[table["difference"].notna()].tolist() == ["cace", "other", "third"]
    assert table.loc["third", "difference"] == pytest.approx(table.loc["third", "mean"] - table.loc["other", "mean"])
    assert "| Difference to the run named [95 %] |" in text
    ends = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert "] (other) |" in next(line for line in text.splitlines() if line.startswith("| third | avvp | han |"))
    assert "other - han" in ends
    assert "third - other" in ends
    trivial = (torch.zeros(N, 2, T, CLASSES, dtype=torch.bool), truth().labels[:, None, None].expand(N, 2, T, CLASSES))
    nothing, weak = (published(said)["segment/Type@AV"] for said in trivial)
    assert one_says(text.splitlines(), "Trivial answers", "avel", "background 0.00", "oracle class 100.00")
    assert one_says(text.splitlines(), "Trivial answers", "avvp", f"nothing {nothing:.2f}", f"weak label {weak:.2f}")
