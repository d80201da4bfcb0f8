"""The parity report: verdicts in words, and every number behind them.

``parity.json`` quantiles, verdicts and every hypothesis with its error; ``histograms.csv``, ``histograms.png``, ``segments.csv`` (by
position in the clip), ``clips.csv``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.drawing import METADATA, plt
from pipeline.features.store import FeatureStore
from pipeline.parity.measures import LayerMeasures, measure_layer
from pipeline.parity.pairs import Layer, Pairs
from pipeline.parity.search import Encodes, explain
from pipeline.parity.verdict import Verdict
from pipeline.publish import check_replaceable, publishing

FILES = ("parity.json", "histograms.csv", "segments.csv", "clips.csv", "histograms.png")
FAR = 0.05  # relative error of a segment from which on its clip is named, even if the median is the same


def compare(ours: Path, published: Path, out: Path, encoder: Encodes | None = None, why_no_encoder: str = "") -> list[Verdict]:
    """Compare two stores and write the report as the directory ``out``; an older report there is replaced.

    Args:
        encoder: encodes our clips again, for the hypotheses that need it.
        why_no_encoder: for the report: why there is no encoder.

    Raises:
        PipelineError: ``out`` holds other files, a directory is no feature store, or the stores share no clip or differ in their numbers
            of segments.
    """
    check_replaceable(out, FILES, "a report of parity")
    pairs = Pairs(FeatureStore(ours), FeatureStore(published))
    layers = pairs.layers()
    measured = [measure_layer(pairs, layer) for layer in layers if not layer.problem]
    verdicts = [explain(pairs, layer, encoder, why_no_encoder) for layer in _judged(layers)]
    with publishing(out) as work:
        _write(work, pairs, measured, verdicts)
    return verdicts


def _judged(layers: list[Layer]) -> list[Layer]:
    """Choose the layer of each modality that gets a verdict: the stored one, or its mean where only that compares."""
    by_modality: dict[str, Layer] = {}
    for layer in layers:
        by_modality.setdefault(layer.modality, layer)
    return list(by_modality.values())


def as_text(out: Path, verdicts: list[Verdict]) -> str:
    """Summarize the report for the terminal."""
    content = json.loads((out / "parity.json").read_text(encoding="utf-8"))
    clips = content["clips"]
    lines = [
        f"{clips['both']} clips in both stores, {clips['only_ours']} only in ours, {clips['only_published']} only in the published ones"
    ]
    for name, found in content["layers"].items():
        if found["segments"]:
            cosine, error = found["cosine"], found["relative_error"]
            lines += [
                f"  {name}: {found['segments']} segments compared, {found['left_out']} left out; cosine {cosine['median']:.4f}"
                f" ({cosine['p05']:.4f} at 5 %), relative error {error['median']:.2g} ({error['p95']:.2g} at 95 %)"
            ]
    for verdict in verdicts:
        lines.append(verdict.sentence())
        lines += [f"  not tried: {reason}" for reason in verdict.not_tried if verdict.kind != "not comparable"]
    lines += [f"  {name}: {found['far']}" for name, found in content["layers"].items() if found["far"]]
    return "\n".join([*lines, f"All numbers: {out}"])


def _write(out: Path, pairs: Pairs, measured: list[LayerMeasures], verdicts: list[Verdict]) -> None:
    content = {
        "ours": str(pairs.ours.directory),
        "published": str(pairs.published.directory),
        "clips": {"both": len(pairs.clips), "only_ours": pairs.only_ours, "only_published": pairs.only_published},
        "layers": {each.layer.name: {**each.summary(), "far": _far(each)} for each in measured},
        "verdicts": [verdict.as_json() for verdict in verdicts],
    }
    (out / "parity.json").write_text(json.dumps(_plain(content), indent=1) + "\n", encoding="utf-8")
    pd.DataFrame([line for each in measured for line in each.histograms()]).to_csv(out / "histograms.csv", index=False)
    for name, tables in (("segments", [each.by_segment() for each in measured]), ("clips", [each.by_clip() for each in measured])):
        (pd.concat(tables) if tables else pd.DataFrame()).to_csv(out / f"{name}.csv", index=False)
    draw(measured, out / "histograms.png")


def _far(measures: LayerMeasures) -> str:
    """Name the farthest clips, where some segments differ and most do not."""
    share = float(np.sum(measures.error > FAR)) / max(1, measures.counted)
    if not 0 < share < 0.5:
        return ""
    return f"{100 * share:.1f} % of the segments are more than {FAR:g} off; the farthest clips: {', '.join(measures.worst())}"


def _plain(value: object) -> object:
    """Replace infinity and NaN, which JSON lacks, by None."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def draw(measured: list[LayerMeasures], path: Path) -> None:
    """Draw histograms of both measures, a line of panels for each layer."""
    rows = max(1, len(measured))
    figure, axes = plt.subplots(rows, 2, figsize=(9, 0.8 + 2.2 * rows), layout="constrained", squeeze=False)
    for (left, right), each in zip(axes, measured, strict=False):
        left.hist(each.cosine[~np.isnan(each.cosine)], bins=60, color="#7aa6c2")
        known = each.error[np.isfinite(each.error)]
        right.hist(np.log10(np.maximum(known, 1e-6)), bins=60, color="#7aa6c2")
        left.set(xlabel="cosine", ylabel=f"{each.layer.name}\nsegments")
        right.set(xlabel="log10 of the relative error")
    figure.savefig(path, dpi=100, metadata=METADATA)
    plt.close(figure)
