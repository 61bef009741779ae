"""Plots for the reports, as SVG text that takes its colour from the page around it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from vc.audio import Waveform
from vc.config import FeatureConfig
from vc.evaluation.judges import JUDGE_RATE, SpeakerJudge, f0_track, require
from vc.evaluation.score import PairScore
from vc.features import LogMel

PALETTE = ("#3b82c4", "#e07b39", "#3a9d5d", "#a06cc9", "#c94f6d", "#8a8f3a", "#4aa3a8", "#9a7b5f")
LONGEST_PICTURE_S = 12.0

_INK = "#010203"  # stands for the page's text colour until the SVG is written
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), _INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), _INK),
}


class Clips(NamedTuple):
    """The three clips of a conversion, each `(samples,)` at 16 kHz."""

    source: Waveform
    reference: Waveform
    converted: Waveform


def draw(name: str, size: tuple[float, float], paint: Callable[[Any], None], title: str) -> str:
    """An inline SVG element.

    Args:
        name: different for every picture on a page; the same gives the same SVG.
        size: width and height in inches.
        paint: draws on the matplotlib figure that it is given.
        title: for those who cannot see it.
    """
    require("matplotlib")
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue().replace(_INK, "currentColor")
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # matplotlib numbers its groups anew in each picture; only clip paths are referred to
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(<svg [^>]*?)width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def likeness_scatter(groups: Mapping[str, Sequence[PairScore]]) -> str:
    """Likeness to the reference over likeness to the source, a dot a pair."""

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for color, (name, scores) in zip(_colors(len(groups)), groups.items(), strict=True):
            x, y = [s.to_source for s in scores], [s.to_reference for s in scores]
            axes.scatter(x, y, s=18, color=color, alpha=0.8, linewidths=0, label=name)
        axes.axline((0.5, 0.5), slope=1, color=_INK, linewidth=0.6, linestyle=":")
        axes.axhline(SpeakerJudge.THRESHOLD, color=_INK, linewidth=0.6, linestyle="--")
        axes.set(xlabel="likeness to the source", ylabel="likeness to the reference")
        axes.set_aspect("equal", adjustable="datalim")
        figure.legend(loc="outside upper center", ncols=2, fontsize=9)

    return draw("scatter", (5.2, 5.0), paint, "Scatter plot of speaker likeness")


def likeness_histogram(groups: Mapping[str, Sequence[PairScore]]) -> str:
    """How likeness to the reference and to the source spread over all pairs."""
    scores = [score for group in groups.values() for score in group]

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        bins = np.arange(0.2, 1.025, 0.025).tolist()
        columns = {
            "to the reference": ([s.to_reference for s in scores], PALETTE[0]),
            "to the source": ([s.to_source for s in scores], PALETTE[1]),
        }
        for label, (values, color) in columns.items():
            axes.hist(values, bins, color=color, alpha=0.65, label=label)
        axes.axvline(SpeakerJudge.THRESHOLD, color=_INK, linewidth=0.6, linestyle="--")
        axes.set(xlabel="likeness (cosine)", ylabel="pairs")
        axes.legend(fontsize=9)

    return draw("histogram", (5.2, 3.6), paint, "Histogram of speaker likeness")


def pair_picture(name: str, clips: Clips) -> str:
    """Log-mel spectrograms of the three clips, and the F0 of source and conversion."""
    longest = round(LONGEST_PICTURE_S * JUDGE_RATE)
    parts = {role: clip[:longest] for role, clip in clips._asdict().items()}

    def paint(figure: Any) -> None:
        rows = figure.subplots(4, 1)
        seconds = max(len(clip) for clip in parts.values()) / JUDGE_RATE
        for axes, (role, clip) in zip(rows[:3], parts.items(), strict=True):
            _paint_mel(axes, clip)
            axes.set(xlim=(0, seconds), ylabel=f"{role}\nmel band")
        colors = {"source": PALETTE[1], "converted": PALETTE[0], "reference": PALETTE[2]}
        for role, color in colors.items():
            f0 = f0_track(parts[role])
            # its frames lie about the middle of the clip
            times = 0.01 * (np.arange(len(f0)) - (len(f0) - 1) / 2)
            times += len(parts[role]) / JUDGE_RATE / 2
            shown = np.where(f0 > 0, f0, np.nan)
            line = 0.8 if role == "reference" else 1.4
            rows[3].plot(times, shown, color=color, linewidth=line, label=role)
        rows[3].set(xlim=(0, seconds), xlabel="seconds", ylabel="F0, Hz", yscale="log")
        ticks = [75, 100, 150, 200, 300, 450]
        rows[3].set_yticks(ticks, [str(tick) for tick in ticks], minor=False)
        rows[3].set_yticks([], minor=True)
        rows[3].legend(fontsize=8, ncols=3, loc="upper right")

    return draw(name, (7.0, 6.4), paint, "Spectrograms and fundamental frequency")


def _paint_mel(axes: Any, clip: Waveform) -> None:
    config = FeatureConfig()
    log_mel = LogMel(config)(torch.from_numpy(np.ascontiguousarray(clip))[None])[0].numpy()
    top = float(log_mel.max())
    axes.imshow(
        np.clip(log_mel, top - 9.0, top),  # about 80 dB
        origin="lower",
        aspect="auto",
        interpolation="none",
        cmap="magma",
        extent=(0, len(clip) / JUDGE_RATE, 0, config.n_mels),
    )


def bars(
    name: str,
    title: str,
    unit: str,
    values: Mapping[str, Mapping[str, float]],
    most: float,
    mark: float,
) -> str:
    """Horizontal bars.

    Args:
        name: of the picture.
        title: above it.
        unit: below it.
        values: for each row its bars, by series.
        most: where the axis ends.
        mark: where a dashed line is drawn.
    """
    series = list(dict.fromkeys(s for row in values.values() for s in row))

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        height = 0.8 / len(series)
        for number, (label, color) in enumerate(zip(series, _colors(len(series)), strict=True)):
            places = np.arange(len(values)) + (number - (len(series) - 1) / 2) * height
            lengths = [row[label] for row in values.values()]
            drawn = axes.barh(places, lengths, height, color=color, label=label)
            axes.bar_label(drawn, fmt="%.1f", fontsize=8, padding=2, color=_INK)
        axes.axvline(mark, color=_INK, linewidth=0.8, linestyle="--")
        axes.set_yticks(range(len(values)), list(values))
        axes.invert_yaxis()
        axes.set(xlim=(0, 1.1 * most), xlabel=unit)
        figure.suptitle(title, fontsize=11)
        figure.legend(loc="outside lower center", ncols=len(series), fontsize=8)

    return draw(name, (6.4, 1.6 + 0.5 * len(values)), paint, title)


def scatter_map(
    name: str, title: str, points: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.intp]
) -> str:
    """Points `(n, 2)` coloured by label `(n,)`; colours and marks repeat after 56 labels."""
    marks = "osD^vPX"

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for label in np.unique(labels):
            group = points[labels == label]
            color = PALETTE[label % len(PALETTE)]
            mark = marks[label // len(PALETTE) % len(marks)]
            axes.scatter(*group.T, s=14, color=color, marker=mark, linewidths=0, alpha=0.85)
        axes.set(xticks=[], yticks=[], title=title)

    return draw(name, (5.2, 4.6), paint, title)


def _colors(count: int) -> list[str]:
    return [PALETTE[i % len(PALETTE)] for i in range(count)]
