"""The HTML report of an evaluation: figures, plots, and some pairs to hear and see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vc.evaluation.bootstrap import Summary
from vc.evaluation.figures import Clips, likeness_histogram, likeness_scatter, pair_picture
from vc.evaluation.html import escape, page, player, table
from vc.evaluation.results import ALL, Results
from vc.evaluation.score import EQUAL_ERROR_RATE, Pair, PairScore, load_clip, summarize
from vc.safe_write import write_text

LABELS = {  # measure -> what it is, and whether it is shown in per cent
    "to_reference": ("likeness to the reference, cosine", False),
    "to_source": ("likeness to the source, cosine", False),
    "nearer_reference": ("nearer to the reference than to the source, %", True),
    "accepted": ("taken for the reference by the verifier, %", True),
    EQUAL_ERROR_RATE: ("equal error rate of the verifier, % (50: not told from recordings)", True),
    "f0_correlation": ("log-F0 correlation with the source (Praat)", False),
    "f0_correlation_harvest": ("log-F0 correlation with the source (Harvest)", False),
    "semitones_off": ("median F0 off the reference, semitones", False),
    "p808": ("DNSMOS P.808", False),
    "source_p808": ("DNSMOS P.808 of the sources", False),
    "overall": ("DNSMOS overall", False),
    "source_overall": ("DNSMOS overall of the sources", False),
    "cer_own": ("character error, against the source as recognised, %", True),
    "cer": ("character error, against the transcript, %", True),
    "source_cer": ("character error of the unconverted source, %", True),
    "wer": ("word error, against the transcript, %", True),
    "source_wer": ("word error of the unconverted source, %", True),
}
_COLUMNS = (
    "to_reference", "to_source", "f0_correlation", "semitones_off", "p808", "source_p808",
    "cer_own", "cer",
)  # fmt: skip


def write_report(
    path: Path, results: Results, pairs: Sequence[Pair], converted: Sequence[Path], shown: int = 9
) -> None:
    """Write a self-contained HTML file.

    Args:
        path: the file.
        results: scores in the order of `pairs`.
        pairs: what was converted.
        converted: the converted clip of each pair.
        shown: how many pairs get players and pictures: a third each of those whose likeness to the
            reference is lowest, in the middle, and highest.

    Raises:
        DataError: the file cannot be written.
    """
    scores = results.scores
    picks = pick_shown([score.to_reference for score in scores], shown)
    sets = {name: group for name, group in results.groups.items() if name != ALL}
    cards = [_card(scores[i], pairs[i], converted[i]) for i in picks]
    parts = [
        f"<p>{len(scores)} pairs. {escape(_system(results))}</p>",
        "<h2>Figures</h2><p>Means with 95 % bootstrap intervals over pairs.</p>",
        _summary_table(results),
        "<h2>Likeness</h2><p>Dashed: above it the verifier takes two clips for one speaker. "
        "Dotted: as near to the reference as to the source.</p>",
        f'<div class="cards"><div class="card">{likeness_scatter(sets)}</div>'
        f'<div class="card">{likeness_histogram(sets)}</div></div>',
    ]
    if cards:
        parts.append(
            f"<h2>To hear and see</h2><p>{len(cards)} pairs: those least like the reference, some "
            "from the middle, and those most like it. 16 kHz, lossless: what the judges heard.</p>"
            f'<div class="cards">{"".join(cards)}</div>'
        )
    parts.append("<h2>All pairs</h2>" + _pair_table(scores, {scores[i].name for i in picks}))
    parts.append(f"<p>Judges: {escape(_judges(results))}.</p>")
    write_text(path, page(f"Conversions by {results.name}", parts))


def pick_shown(likeness: Sequence[float], count: int) -> list[int]:
    """Indices of the worst, middle and best of `likeness`, from worst to best, `count` in all."""
    order = [int(i) for i in np.argsort(likeness, kind="stable")]
    if count >= len(order):
        return order
    worst = best = count // 3
    middle = count - worst - best
    first = (len(order) - middle) // 2
    return order[:worst] + order[first : first + middle] + order[len(order) - best :]


def _system(results: Results) -> str:
    hashes = [f"{k} {v[:12]}" for k, v in results.system.items() if k != "name"]
    return "Model: " + ", ".join(hashes) if hashes else "Clips converted by another program."


def _judges(results: Results) -> str:
    return ", ".join(f"{package} {version}" for package, version in results.judges.items())


def _summary_table(results: Results) -> str:
    groups = results.groups
    summaries = {name: summarize(group) for name, group in groups.items()}
    head = ["", *(f"{escape(name)} ({len(group)})" for name, group in groups.items())]
    rows = [
        [label, *(_figure(summary.get(measure), percent) for summary in summaries.values())]
        for measure, (label, percent) in LABELS.items()
        if any(measure in summary for summary in summaries.values())
    ]
    return table(head, rows)


def _figure(summary: Summary | None, percent: bool) -> str:
    if summary is None:
        return ""
    mean, low, high = (_number(v, percent) for v in (summary.mean, summary.low, summary.high))
    return f"{mean}<small>{low} to {high}, n = {summary.count}</small>"


def _number(value: float, percent: bool) -> str:
    if np.isnan(value):
        return ""
    return f"{100 * value:.1f}" if percent else f"{value:.2f}"


def _pair_table(scores: Sequence[PairScore], shown: set[str]) -> str:
    rows = []
    for score in scores:
        name = escape(score.name)
        link = f'<a href="#{name}">{name}</a>' if score.name in shown else name
        figures = [_number(getattr(score, column), LABELS[column][1]) for column in _COLUMNS]
        rows.append([link, *figures])
    head = ["pair (click a head to sort)", *(LABELS[column][0] for column in _COLUMNS)]
    listing = table([f'<span class="note">{cell}</span>' for cell in head], rows, sortable=True)
    return f"<details open><summary>{len(scores)} pairs</summary>{listing}</details>"


def _card(score: PairScore, pair: Pair, converted: Path) -> str:
    clips = Clips(load_clip(pair.source), load_clip(pair.references[0]), load_clip(converted))
    count = len(pair.references)
    reference = "reference" if count == 1 else f"reference, the first of {count}"
    labels = ("source", reference, "converted")
    players = "".join(player(label, clip) for label, clip in zip(labels, clips, strict=True))
    figures = [
        f"{label} {_number(getattr(score, measure), percent)}"
        for measure, (label, percent) in LABELS.items()
        if measure in _COLUMNS and not np.isnan(getattr(score, measure))
    ]
    words = f"<p>“{escape(pair.transcript)}”</p>" if pair.transcript else ""
    name = escape(score.name)
    return (
        f'<div class="card" id="{name}"><h3>{name}</h3><div class="players">{players}</div>'
        f"{words}<p>{escape('; '.join(figures))}</p>{pair_picture(score.name, clips)}</div>"
    )
