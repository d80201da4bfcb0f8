"""The table of ``python -m benchmarks.gpu``: at most sixty lines, ratios within one run."""

from __future__ import annotations

from dataclasses import dataclass

PRECISIONS = ("float32", "tf32", "bfloat16")


@dataclass(frozen=True)
class Record:
    """One measured line of a part."""

    part: str
    line: str
    numbers: dict[str, float]


def table(records: list[Record]) -> list[str]:
    """Format all records; parts that were not measured have no lines."""
    by_part: dict[str, dict[str, dict[str, float]]] = {}
    for record in records:
        by_part.setdefault(record.part, {})[record.line] = record.numbers

    def of(kind: str) -> dict[str, dict[str, dict[str, float]]]:
        return {name.partition("/")[2]: lines for name, lines in by_part.items() if name.partition("/")[0] == kind}

    return [*extraction(of("extraction")), *steps(of("steps")), *epochs({**of("epochs"), **of("seeds")}), *finetuning(of("finetuning"))]


def number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None


def grid(header: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table with aligned columns, behind an empty line."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [
        [cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [header, ["-" * width for width in widths], *rows]
    ]
    return ["", *(f"| {' | '.join(line)} |" for line in lines)]


def extraction(parts: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Clips a second; ``limit`` is the slower of decoding and encoding."""
    rows = []
    for name, lines in parts.items():
        decode, decord = lines.get("decode", {}), lines.get("decord", {})
        for precision in PRECISIONS:
            encode, whole, plain = (lines.get(f"{job} {precision}", {}).get("rate") for job in ("encode", "end to end", "plain loop"))
            limit = min(filter(None, (decode.get("rate"), encode)), default=None)
            rates = [decode.get("rate"), encode, whole, plain, ratio(whole, limit), ratio(whole, plain)]
            cpu = (
                [decode.get("cpu"), decord.get("cpu"), ratio(decode.get("cpu"), decord.get("cpu"))]
                if precision == "float32"
                else [None] * 3
            )
            rows.append([name, precision, *map(number, [*rates, *cpu])])
    header = ["extraction, clips/s", "", "decode", "encode", "end to end", "plain", "/limit", "/plain", "CPU s", "decord", "ratio"]
    return grid(header, rows) if rows else []


def steps(parts: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """One line for each method: wall milliseconds by precision, and the kernels of float32, as they are and in a graph."""
    rows = []
    released = parts.get("as_released", {}).get("float64", {})
    for name, lines in parts.items():
        if name == "as_released":
            rows.append(
                [
                    f"{name}, float64",
                    *map(number, (released.get("wall_ms"), None, None, None, None)),
                    *of_kernels(lines.get("float64 kernels", {}), {}),
                ]
            )
            continue
        off, captured, tf32, bfloat16 = (lines.get(line, {}) for line in ("32-true off", "32-true auto", "tf32 auto", "bf16-mixed auto"))
        in_kernels, in_graph = (lines.get(f"{line} kernels", {}) for line in ("32-true off", "32-true auto"))
        walls = [each.get("wall_ms") for each in (off, captured, tf32, bfloat16)]
        fastest = min(filter(None, walls), default=None)
        gain = ratio(released.get("wall_ms") if name == "cace_net" else walls[0], fastest)
        rows.append([name, *map(number, [*walls, gain]), *of_kernels(in_kernels, in_graph)])
    header = [
        "step, ms",
        "float32",
        "graph",
        "TF32",
        "bfloat16",
        "faster (a)",
        "kernels ms",
        "in a graph",
        "number",
        "launches",
        "in a graph",
    ]
    note = "(a) the fastest against float32 without a graph; of cace_net against CACE-Net as released in float64"
    eager = [
        f"{name} ({line.removesuffix(' auto')})"
        for name, lines in parts.items()
        for line, values in lines.items()
        if line.endswith(" auto") and not values.get("captured")
    ]
    return [*grid(header, rows), note, *([f"not captured: {', '.join(eager)}"] if eager else [])] if rows else []


def of_kernels(off: dict[str, float], captured: dict[str, float]) -> list[str]:
    busy = [number(each.get("kernel_ms")) for each in (off, captured)]
    return [*busy, number(off.get("kernels"), 0), *(number(each.get("launches"), 0) for each in (off, captured))]


def epochs(parts: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """CACE-Net on AVE's shapes."""
    rows = []
    for lines in parts.values():
        for line, values in lines.items():
            seconds = [values.get(key) for key in ("fixed_s", "first_s", "epoch_s", "measured_s")]
            minutes = number(values["whole_s"] / 60)
            rows.append([line, number(values.get("epochs"), 0), *map(number, seconds), minutes])
    header = ["CACE-Net on AVE's shapes", "epochs", "fixed s", "first s", "epoch s", "measured s", "200 epochs, minutes"]
    return grid(header, rows) if rows else []


def finetuning(parts: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    rows = [[line, number(values["images"], 0), number(values["gib"], 1)] for lines in parts.values() for line, values in lines.items()]
    return grid(["fine-tuning, ResNet-50", "images/s", "GiB"], rows) if rows else []
