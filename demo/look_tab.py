"""Look: spectrograms, melody and the map of voices of the last conversion."""

from __future__ import annotations

from typing import Any

import gradio as gr

from demo.clips import show
from demo.convert_tab import Conversion, ConvertTab
from demo.figures import look
from demo.studio import Studio
from vc.errors import VCError

EMPTY = '<p class="vc-empty">Convert something first; its pictures appear here.</p>'


def look_tab(studio: Studio, convert: ConvertTab) -> gr.HTML:
    """Build the tab; return its pictures."""
    pictures = gr.HTML(EMPTY, elem_id="look")

    def draw(
        source: str | None, references: list[str] | None, result: str | None, request: gr.Request
    ) -> str:
        """Spectrograms, F0 curves and a map of voices of up to three clips (HTML)."""
        try:
            clips = studio.heard(request.session_hash, source, references, result)
        except VCError as error:
            raise show(error) from None
        return look(clips, studio.known) if clips else EMPTY

    def draw_conversion(made: Conversion, request: gr.Request) -> str:
        return draw(*made, request)

    one_at_a_time: dict[str, Any] = {
        "show_progress": "hidden",
        "concurrency_limit": 1,
        "concurrency_id": "look",
    }
    convert.converted.success(
        draw_conversion, convert.conversion, pictures, api_visibility="private", **one_at_a_time
    )
    gr.on(  # for programs; nothing on the page triggers it
        [],
        draw,
        [convert.source, convert.references, convert.result],
        pictures,
        api_name="look",
        **one_at_a_time,
    )
    return pictures
