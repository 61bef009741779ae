"""History: what was converted in this visit, gone with it."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from demo.compare import file_url
from demo.convert_tab import EMPTY as NOT_COMPARED
from demo.convert_tab import Conversion, ConvertTab
from demo.look_tab import EMPTY as NOT_LOOKED_AT
from demo.studio import Studio

MOST = 20
EMPTY = '<p class="vc-empty">What you convert in this visit is listed here.</p>'


class Entry(NamedTuple):
    """One conversion."""

    result: str
    source: str
    references: str


def history_tab(studio: Studio, convert: ConvertTab, pictures: gr.HTML) -> None:
    """Build the tab; `pictures` are those of the Look tab."""
    listing = gr.HTML(EMPTY, elem_id="history")
    what = "Clear the list" if studio.visits.keep else "Delete them now"
    clear = gr.Button(what, visible=False, size="sm", elem_id="clear-history")
    entries = gr.State([])

    def add(
        entries: list[Entry], made: Conversion, request: gr.Request
    ) -> tuple[list[Entry], str, object]:
        names = ", ".join(Path(path).name for path in made.references or [])
        entries = [Entry(made.result, Path(made.source or "").name, names), *entries]
        dropped = [Path(entry.result) for entry in entries[MOST:]]
        studio.visits.remove(request.session_hash, dropped)
        entries = entries[:MOST]
        return entries, render(entries), gr.update(visible=True)

    def forget(
        entries: list[Entry], request: gr.Request
    ) -> tuple[list[Entry], str, object, None, str, None, str]:
        studio.visits.remove(request.session_hash, [Path(entry.result) for entry in entries])
        hidden = gr.update(visible=False)
        return [], EMPTY, hidden, None, NOT_COMPARED, None, NOT_LOOKED_AT

    quiet: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
    convert.converted.success(
        add,
        [entries, convert.conversion],
        [entries, listing, clear],
        **quiet,
    )
    # what the Convert and Look tabs show is among them
    shown = [convert.result, convert.compare, convert.conversion, pictures]
    clear.click(forget, entries, [entries, listing, clear, *shown], **quiet)


def render(entries: list[Entry]) -> str:
    """The list as HTML, the newest first."""
    items = []
    for entry in entries:
        url, name = html.escape(file_url(entry.result)), html.escape(Path(entry.result).name)
        items.append(
            f"<li><div><b>{html.escape(entry.source)}</b>"
            f"<small>in the voice of {html.escape(entry.references)}</small></div>"
            f'<audio controls preload="none" src="{url}" aria-label="{name}"></audio>'
            f'<a href="{url}" download="{name}">Download</a></li>'
        )
    return f'<ul class="vc-history">{"".join(items)}</ul>'
