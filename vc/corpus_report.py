"""What a corpus is like: a table for the terminal, and a page with plots.

The page is one HTML file that needs no network; its histograms are inline SVG.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vc.clip_check import CLIPPED_SHARE, NOISY_SNR_DB
from vc.corpus import PreparationReport, Utterance
from vc.safe_write import write_text

_BINS, _WIDTH, _HEIGHT = 30, 360, 120
_STYLE = """
:root { color-scheme: light dark; --bar: #4068c8; --line: #8888; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid var(--line); }
td:not(:first-child) { font-variant-numeric: tabular-nums; }
.plots { display: flex; flex-wrap: wrap; gap: 1.5rem; } figure { margin: 0; }
svg { display: block; } rect { fill: var(--bar); } text { fill: currentColor; font-size: 11px; }
"""


def summary(report: PreparationReport) -> list[tuple[str, str]]:
    """Rows of (what, figure) about a corpus."""
    speech = [u for u in report.utterances if u.split != "noise"]
    rows = [
        ("clips", f"{len(speech)}"),
        ("hours", f"{sum(u.seconds for u in speech) / 3600:.2f}"),
        ("speakers", f"{len({u.speaker for u in speech})}"),
    ]
    if speech:
        counts = list(Counter(u.speaker for u in speech).values())
        rows.append(("clips a speaker", _spread(counts, "")))
        rows.append(("length of a clip", _spread([u.seconds for u in speech], " s", 1)))
    for split in ("train", "validation", "test"):
        part = [u for u in speech if u.split == split]
        if part:
            hours = sum(u.seconds for u in part) / 3600
            people = len({u.speaker for u in part})
            rows.append((split, f"{len(part)} clips, {hours:.2f} hours, {people} speakers"))
    facts = [u.facts for u in speech if u.facts]
    if facts:
        rates = Counter(f.sample_rate for f in facts).most_common()
        rows += [
            ("sample rates", ", ".join(f"{rate} Hz ({count})" for rate, count in rates)),
            ("level", _spread([f.level_db for f in facts], " dBFS")),
            ("above the noise", _spread([f.snr_db for f in facts], " dB")),
            ("noisy clips", f"{sum(f.snr_db < NOISY_SNR_DB for f in facts)}"),
            ("clipped clips", f"{sum(f.clipped > CLIPPED_SHARE for f in facts)}"),
            ("silence", f"{100 * np.mean([f.silent for f in facts]):.0f} % of the time"),
        ]
    noise = [u for u in report.utterances if u.split == "noise"]
    if noise:
        rows.append(("recordings of noise", f"{len(noise)}"))
    same = sum(other.reason.startswith("the same recording") for other in report.left_out)
    rows.append(("left out", f"{len(report.left_out)}, {same} of them duplicates"))
    return rows


def format_summary(report: PreparationReport) -> str:
    """The summary as aligned lines."""
    rows = summary(report)
    width = max(len(what) for what, _ in rows)
    return "\n".join(f"{what:{width}}  {figure}" for what, figure in rows)


def write_page(report: PreparationReport, path: Path) -> None:
    """Write the summary, histograms and what was left out as one HTML file, whole or not at all."""
    speech = [u for u in report.utterances if u.split != "noise"]
    lost = [(str(other.file), other.reason) for other in report.left_out]
    page = f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Corpus</title><style>{_STYLE}</style></head>
<body><h1>Corpus</h1>{_table(summary(report))}
<div class="plots">{"".join(_plots(speech))}</div>
<h2>Left out</h2>{_table(lost) if lost else "<p>Nothing.</p>"}</body></html>
"""
    write_text(path, page)


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = (
        f"<tr><th>{html.escape(first)}</th><td>{html.escape(second)}</td></tr>"
        for first, second in rows
    )
    return f"<table>{''.join(cells)}</table>"


def _plots(speech: Sequence[Utterance]) -> list[str]:
    if not speech:
        return []
    facts = [u.facts for u in speech if u.facts]
    counts = list(Counter(u.speaker for u in speech).values())
    plots = [
        _histogram([u.seconds for u in speech], "length of a clip, s"),
        _histogram(counts, "clips a speaker"),
    ]
    if facts:
        plots += [
            _histogram([f.level_db for f in facts], "level of speech, dBFS"),
            _histogram([f.snr_db for f in facts], "level above stationary noise, dB"),
            _histogram([100 * f.silent for f in facts], "silence, % of the clip"),
        ]
    return plots


def _histogram(values: Sequence[float], title: str) -> str:
    """Bars of equal width from the 0.5th to the 99.5th percentile; what is outside counts there."""
    low, high = np.percentile(values, [0.5, 99.5])
    high = high if high > low else low + 1
    counts, edges = np.histogram(np.clip(values, low, high), _BINS, (low, high))
    bar = _WIDTH / _BINS
    bars = "".join(
        f'<rect x="{i * bar:.1f}" y="{_HEIGHT * (1 - share):.1f}" width="{bar - 1:.1f}" '
        f'height="{_HEIGHT * share:.1f}"><title>{edges[i]:.3g} to {edges[i + 1]:.3g}: {count}'
        "</title></rect>"
        for i, (count, share) in enumerate(zip(counts, counts / counts.max(), strict=True))
    )
    name = html.escape(title)
    return (
        f'<figure><svg width="{_WIDTH}" height="{_HEIGHT + 16}" role="img" aria-label="{name}, '
        f'from {low:.3g} to {high:.3g}">{bars}<text x="0" y="{_HEIGHT + 12}">{low:.3g}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 12}" text-anchor="end">{high:.3g}</text></svg>'
        f"<figcaption>{name}</figcaption></figure>"
    )


def _spread(values: Sequence[float], unit: str, digits: int = 0) -> str:
    """Median and the range of the middle nine tenths."""
    low, median, high = np.percentile(values, [5, 50, 95])
    return f"{median:.{digits}f}{unit} (mostly {low:.{digits}f} to {high:.{digits}f})"
