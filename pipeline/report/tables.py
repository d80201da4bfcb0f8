"""The results table: one line a row of ``runs``, as Markdown for people and CSV for programs."""

from __future__ import annotations

import pandas as pd

from pipeline.metrics.bootstrap import paired_bootstrap
from pipeline.report.results import RowResult, clip_scores

NOT_RUN = "not run"
COLUMNS = [
    *["row", "task", "method", "features", "seeds", "metric", "mean", "std", "best", "best_seed"],
    *["event_f1", "background_f1", "parameters", "difference", "low", "high"],
]


def results_table(results: list[RowResult], baseline: str | None) -> pd.DataFrame:
    """All rows with numbers unrounded; a row that was not run has none."""
    by_name = {result.name: result for result in results}
    reference = by_name.get(baseline) if baseline else None
    lines = []
    for result in results:
        run = result.run
        line = {"row": result.name, "task": run.task, "method": run.method, "features": run.features, "seeds": len(run.seeds)}
        if result.scores:
            line |= {
                "metric": result.headline,
                "mean": result.mean,
                "std": result.std,
                "best": max(result.scores),
                "best_seed": result.best_seed,
                "event_f1": result.mean_of("event_f1"),
                "background_f1": result.mean_of("background_f1"),
                "parameters": result.parameters,
            }
            if reference is not None and reference.scores and result is not reference:
                line |= difference(result, reference)
        lines.append(line)
    columns = [
        "row",
        "task",
        "method",
        "features",
        "seeds",
        "metric",
        "mean",
        "std",
        "best",
        "best_seed",
        "event_f1",
        "background_f1",
        "parameters",
        "difference",
        "low",
        "high",
    ]
    return pd.DataFrame(lines, columns=columns)


def difference(result: RowResult, reference: RowResult) -> dict[str, float]:
    """Mean difference to another row over the same test clips and its 95 % interval by paired bootstrap over clips."""
    pairs = clip_scores(result).join(clip_scores(reference), how="inner", suffixes=("", "_reference"))
    mean, low, high = paired_bootstrap(pairs["score"], pairs["score_reference"], weights=pairs["segments"])
    return {"difference": mean, "low": low, "high": high}


def markdown(table: pd.DataFrame, baseline: str | None) -> str:
    """The table as people read it."""
    if table.empty:
        return "No rows: the block `runs` is empty.\n"
    against = f" Difference to {baseline} [95 %] |" if baseline else ""
    heads = ["Row", "Method", "Features", "Test, mean ± std (seeds)", "Best seed", "Event F1", "Background F1", "Parameters"]
    lines = [f"| {' | '.join(heads)} |{against}"]
    lines.append("|" + "---|" * (len(heads) + (baseline is not None)))
    for line in table.to_dict("records"):
        start = f"| {line['row']} | {line['method']} | {line['features']} | "
        if pd.isna(line["mean"]):
            lines.append(start + f"{NOT_RUN} | | | | |" + (" |" if baseline else ""))
            continue
        spread = "" if pd.isna(line["std"]) else f" ± {line['std']:.2f}"
        cells = [f"**{line['mean']:.2f}**{spread} ({line['seeds']})", f"{line['best']:.2f} (seed {line['best_seed']:.0f})"]
        cells += [_number(line["event_f1"]), _number(line["background_f1"]), f"{line['parameters']:,.0f}"]
        if baseline:
            known = not pd.isna(line["difference"])
            cells.append(f"{line['difference']:+.2f} [{line['low']:+.2f}, {line['high']:+.2f}]" if known else "")
        lines.append(start + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None or pd.isna(value) else f"{value:.1f}"


def baselines_text(results: list[RowResult]) -> str:
    """What the trivial answers score on the same test clips, so that the table can be read against them."""
    for result in results:
        for metrics in result.metrics.get("test", {}).values():
            trivial = {key.removeprefix("baseline_"): value for key, value in metrics.items() if key.startswith("baseline_")}
            if trivial:
                scores = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in trivial.items())
                return f"Trivial answers on the same clips: {scores}.\n"
    return ""
