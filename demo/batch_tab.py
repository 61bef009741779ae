"""Batch: many sources, one voice, a table that fills, a zip at the end."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from demo.clips import show
from demo.convert_tab import ConvertTab, need_consent
from demo.studio import MAX_BATCH, Studio
from demo.uploads import belong_to_the_visit
from demo.voice_choices import voice_choices, wanted_pitch
from vc.errors import VCError

HEADERS = ["File", "State", "Note"]
_MARKS = {
    "waiting": "○ waiting",
    "converting": "▶ converting",
    "done": "✓ done",
    "failed": "✕ failed",
}


def batch_tab(studio: Studio, convert: ConvertTab) -> None:
    """Build the tab."""
    gr.HTML(
        "<h2>Many clips, one voice</h2><p>A file that cannot be converted says why in its row; "
        "the others go on.</p>",
        elem_classes="vc-step",
    )
    with gr.Row():
        sources = gr.File(
            label=f"Clips to convert, {MAX_BATCH} at most",
            file_count="multiple",
            type="filepath",
            height=140,
            elem_id="batch-sources",
        )
        references = gr.File(
            label="Reference clips or .voice",
            file_count="multiple",
            type="filepath",
            height=140,
            elem_id="batch-references",
        )
    belong_to_the_visit(studio, sources, references)
    choices = voice_choices()
    button = gr.Button("Convert all", variant="primary", elem_id="batch")
    table = gr.Dataframe(
        headers=HEADERS,
        datatype="str",
        type="array",
        interactive=False,
        wrap=True,
        label="Progress",
        elem_id="batch-table",
    )
    archive = gr.File(label="All results (zip)", interactive=False, height=110, elem_id="batch-zip")

    def convert_batch(
        sources: list[str] | None,
        references: list[str] | None,
        pitch: str,
        semitones: float,
        strength: float,
        denoise: bool,
        consent: bool,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio finds it by this default)
    ) -> Iterator[tuple[list[list[str]], str | None]]:
        """Convert many clips into one voice; returns a table (file, state, note) and a zip."""
        need_consent(consent)
        try:
            for rows, path in studio.convert_batch(
                request.session_hash,
                sources,
                references,
                wanted_pitch(pitch, semitones),
                strength / 100,
                denoise,
            ):
                ready = sum(row.state in ("done", "failed") for row in rows)
                progress((ready, len(rows)), desc="Converting", unit="clips")
                yield [[row.file, _MARKS[row.state], row.note] for row in rows], path
        except VCError as error:
            raise show(error) from None

    button.click(
        convert_batch,
        [sources, references, *choices, convert.consent],
        [table, archive],
        api_name="convert_batch",
        trigger_mode="once",
        show_progress_on=archive,
        concurrency_limit=1,  # within it, files wait for a free conversion like everyone
    )
