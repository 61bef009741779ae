"""One self-contained page: nothing in it is fetched from anywhere."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence

import numpy as np
import soundfile

from vc.audio import Waveform
from vc.evaluation.judges import JUDGE_RATE

HTML_SUFFIXES = (".html", ".htm")

_STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1c2126; --soft: #626b75; --line: #d9dee3;
  --card: #f5f7f9; --accent: #2467a8; }
@media (prefers-color-scheme: dark) { :root { --back: #14181c; --text: #e4e8ec; --soft: #98a2ad;
  --line: #333b43; --card: #1c2228; --accent: #7db7ee; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1rem; background: var(--back);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .5rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0 0 .5rem; }
p, .note { color: var(--soft); margin: .3rem 0; font-size: .9rem; }
.wide { overflow-x: auto; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; overflow-wrap: normal; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
  background: var(--back); white-space: normal; min-width: 9rem; }
th[data-sort] { cursor: pointer; } td small { color: var(--soft); display: block; }
.cards { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .8rem; min-width: 0; }
.players { display: grid; gap: .3rem; margin-bottom: .5rem; }
.players label { font-size: .85rem; } audio { width: 100%; height: 2.4rem; display: block; }
svg { width: 100%; height: auto; max-width: 44rem; display: block; }
a { color: var(--accent); } summary { cursor: pointer; }
"""
_SORT = """
for (const head of document.querySelectorAll("th[data-sort]")) head.onclick = () => {
  const body = head.closest("table").tBodies[0], column = head.cellIndex;
  const down = head.dataset.sort !== "down"; head.dataset.sort = down ? "down" : "up";
  const value = row => { const text = row.cells[column].textContent, number = parseFloat(text);
    return isNaN(number) ? text : number; };
  const order = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0)
    : typeof a === "number" ? -1 : 1;
  [...body.rows].sort((a, b) => (down ? -1 : 1) * order(value(a), value(b)))
    .forEach(row => body.append(row));
};
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole HTML document around finished parts."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>\n"
        + "\n".join(parts)
        + f"<script>{_SORT}</script></body></html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], sortable: bool = False) -> str:
    """A table of finished cells; wide ones scroll by themselves."""
    mark = ' data-sort=""' if sortable else ""
    top = "".join(f"<th{mark}>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def player(label: str, waveform: Waveform) -> str:
    """A player of `(samples,)` at 16 kHz, inside the page as FLAC: just what was judged."""
    stored = io.BytesIO()
    clipped = np.clip(waveform, -1, 1)
    soundfile.write(stored, clipped, JUDGE_RATE, format="FLAC", subtype="PCM_16")
    data = base64.b64encode(stored.getvalue()).decode()
    return (
        f'<label>{escape(label)}<audio controls preload="metadata" '
        f'src="data:audio/flac;base64,{data}"></audio></label>'
    )


def escape(text: str) -> str:
    """Text as HTML."""
    return html.escape(text, quote=True)
