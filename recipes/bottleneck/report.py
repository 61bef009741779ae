"""The sweep as tables and as a picture."""

from __future__ import annotations

import io
from typing import Any

from recipes.bottleneck.pca import LEVELS
from recipes.bottleneck.sizes import Row
from vc.evaluation.bootstrap import Summary

LONG = 8  # frames of the stacks that the strongest PCA sees
COLUMNS = ("autoencoder", "PCA", "PCA + mean", f"PCA of {LONG} + mean")


def table(rows: list[Row], frame_rate: float) -> str:
    """Two tables in Markdown: numbers a second, and bits a second."""
    cells = [["size", "numbers/s", *COLUMNS, "less PCA + mean"]]
    for row in rows:
        if row.size.kind == "narrow":
            pairs = [row.errors[c] for c in COLUMNS]
            shown = [f"{e.deviations.mean():.3f}, {e.db.mean():.2f}" for e in pairs]
            rate = f"{row.size.numbers * frame_rate / row.size.stride:.1f}"
            difference = _shown(row.difference("autoencoder", "PCA + mean"))
            cells.append([row.size.name, rate, *shown, difference])
    bits = [["size", "bits/s", *COLUMNS, "less PCA + mean"]]
    for row in rows:
        shown = [f"{row.errors[f'{c}, in bits'].db.mean():.2f}" for c in COLUMNS]
        rate = f"{row.size.bits_a_frame * frame_rate / row.size.stride:.0f}"
        difference = _shown(row.difference("autoencoder, in bits", "PCA + mean, in bits"))
        bits.append([row.size.name, rate, *shown, difference])
    return f"{_markdown(cells)}\n\n{_markdown(bits)}"


def _shown(difference: Summary) -> str:
    return f"{difference.mean:+.2f} ({difference.low:+.2f} to {difference.high:+.2f})"


def _markdown(cells: list[list[str]]) -> str:
    lines = [f"| {' | '.join(line)} |" for line in cells]
    return "\n".join([lines[0], "|---" * len(cells[0]) + "|", *lines[1:]])


def picture(rows: list[Row], frame_rate: float) -> bytes:
    """A PNG: error over numbers a second, and over bits a second."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.6), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a screen
    left, right = figure.subplots(1, 2, sharey=True)
    _paint(left, rows, frame_rate, "")
    _paint(right, rows, frame_rate, ", in bits")
    left.set(xlabel="numbers a second", ylabel="error of held-out log-mels, dB")
    right.set(xlabel=f"bits a second (numbers rounded to {LEVELS} levels)")
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=100)
    return data.getvalue()


def _paint(axes: Any, rows: list[Row], frame_rate: float, suffix: str) -> None:
    """One panel: lines over channels, dashes over strides, marks for symbols."""
    colors = dict(zip(COLUMNS, ("#3b82c4", "#bbbbbb", "#e07b39", "#3a9d5d"), strict=True))
    narrow = [row for row in rows if row.size.kind == "narrow"]
    full = sorted((r for r in narrow if r.size.stride == 1), key=lambda r: r.size.numbers)
    slower = [r for r in narrow if r.size.stride > 1]
    slower += [r for r in full if slower and r.size.numbers == slower[0].size.numbers]
    slower.sort(key=lambda r: r.size.stride)

    def place(row: Row) -> float:
        a_frame = row.size.bits_a_frame if suffix else row.size.numbers
        return a_frame * frame_rate / row.size.stride

    for column, color in colors.items():
        for group, style, label in (
            (full, "o-", column),
            (slower, "s--", f"{column}, fewer frames"),
        ):
            if group is slower and (not slower or column == COLUMNS[-1]):
                continue  # of long stacks already
            errors = [row.errors[column + suffix].db.mean() for row in group]
            axes.plot([place(r) for r in group], errors, style, color=color, label=label, ms=4)
    if suffix:
        for row, mark in zip((r for r in rows if r.size.kind != "narrow"), "*XPD^v", strict=False):
            error = row.errors[f"autoencoder{suffix}"].db.mean()
            axes.plot(place(row), error, mark, color="black", ms=8, label=row.size.name)
    axes.set_xscale("log", base=2)
    shown = sorted({round(place(row), 1) for row in rows if suffix or row.size.kind == "narrow"})
    axes.set_xticks(shown, [f"{rate:g}" for rate in shown])
    axes.grid(alpha=0.3)
