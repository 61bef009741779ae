"""Convert: give a source and references, hear the result beside them."""

from __future__ import annotations

import shutil
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from demo.clips import show
from demo.compare import compare_panel
from demo.studio import AT_ONCE, Studio, first_clip
from demo.voice_choices import voice_choices, wanted_pitch
from vc.errors import VCError

QUEUE: dict[str, Any] = {"concurrency_limit": AT_ONCE, "concurrency_id": "conversion"}
CHECKS: dict[str, Any] = {
    "concurrency_limit": 4,
    "concurrency_id": "checks",
    "show_progress": "hidden",
}
EMPTY = '<p class="vc-empty">The result appears here, beside source and reference.</p>'
CONSENT = "I may use these voices, and I will not deceive anyone with the result."


class Conversion(NamedTuple):
    """Which clips a result was made of; others may have been chosen since it was begun."""

    source: str | None
    references: list[str] | None
    result: str


class ConvertTab(NamedTuple):
    """What other tabs need of this one."""

    source: gr.Audio
    references: gr.File
    consent: gr.Checkbox
    result: gr.Audio
    compare: gr.HTML
    converted: gr.events.Dependency  # after which `conversion` is the one that was made
    conversion: gr.State


def need_consent(consent: bool) -> None:
    """Refuse, on another tab than Convert, what nobody has taken responsibility for."""
    if not consent:
        raise gr.Error(
            "Please confirm on the Convert tab that you may use these voices.",
            title="One thing is missing",
            print_exception=False,
        )


def convert_tab(studio: Studio) -> ConvertTab:
    """Build the tab."""
    examples = gr.Button("New here? Try it with the example clips", size="md", elem_id="examples")
    with gr.Row():
        with gr.Column(min_width=300):
            _step("1 · Source", "Whose words? Record yourself or choose a clip.")
            source = gr.Audio(
                type="filepath",
                label="Source clip",
                sources=["upload", "microphone"],
                buttons=["download"],
                elem_id="source",
                waveform_options=_wave("#2563eb"),
            )
            source_status = gr.HTML(elem_id="source-status")
        with gr.Column(min_width=300):
            _step("2 · Reference", "Whose voice? One or more clips of it, or a kept voice.")
            references = gr.File(
                label="Reference clips or .voice",
                file_count="multiple",
                type="filepath",
                height=180,
                elem_id="references",
            )
            recording = gr.Audio(
                type="filepath",
                label="Record a reference clip",
                sources=["microphone"],
                elem_id="recording",
                waveform_options=_wave("#c2570c"),
            )
            references_status = gr.HTML(elem_id="references-status")
    choices = voice_choices()
    consent = gr.Checkbox(label=CONSENT, elem_id="consent")
    button = gr.Button("Convert", variant="primary", size="lg", elem_id="convert")
    with gr.Row():
        with gr.Column(min_width=300):
            result = gr.Audio(
                label="Result",
                interactive=False,
                type="filepath",
                buttons=["download"],
                elem_id="result",
                waveform_options=_wave("#0f766e"),
            )
        with gr.Column(min_width=300):
            compare = gr.HTML(EMPTY, elem_id="compare")
    conversion = gr.State()

    _checks(studio, source, source_status, references, references_status, recording)
    _remember(consent)
    _examples(studio, examples, source, references)

    def convert(
        source: str | None,
        references: list[str] | None,
        pitch: str,
        semitones: float,
        strength: float,
        denoise: bool,
        consent: bool,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio finds it by this default)
    ) -> tuple[str, Conversion]:
        """Say the source's words in the references' voice; returns a WAV file."""
        if not consent:
            raise gr.Error(
                "Please confirm first that you may use these voices.",
                title="One thing is missing",
                print_exception=False,
            )
        try:
            result = studio.convert(
                request.session_hash,
                source,
                references,
                wanted_pitch(pitch, semitones),
                strength / 100,
                denoise,
                lambda share: progress(share, desc="Converting"),
            )
        except VCError as error:
            raise show(error) from None
        return result, Conversion(source, references, result)

    def compared(made: Conversion) -> str:
        return compare_panel(
            {
                "source": made.source,
                "reference": first_clip(made.references),
                "result": made.result,
            }
        )

    converted = button.click(
        convert,
        [source, references, *choices, consent],
        [result, conversion],
        api_name="convert",
        trigger_mode="once",
        **QUEUE,
    )
    converted.success(
        compared,
        conversion,
        compare,
        api_visibility="private",
        queue=False,
        show_progress="hidden",
    )
    return ConvertTab(source, references, consent, result, compare, converted, conversion)


def _wave(colour: str) -> gr.WaveformOptions:
    return gr.WaveformOptions(waveform_color="#a1a1aa", waveform_progress_color=colour)


def _step(title: str, text: str) -> None:
    gr.HTML(f"<h2>{title}</h2><p>{text}</p>", elem_classes="vc-step")


def _examples(studio: Studio, button: gr.Button, source: gr.Audio, references: gr.File) -> None:
    def examples(request: gr.Request) -> tuple[str, list[str]]:
        return studio.examples(request.session_hash)

    button.click(
        examples,
        None,
        [source, references],
        api_visibility="private",
        queue=False,
        show_progress="hidden",
    )


def _checks(
    studio: Studio,
    source: gr.Audio,
    source_status: gr.HTML,
    references: gr.File,
    references_status: gr.HTML,
    recording: gr.Audio,
) -> None:
    """Say at once what is wrong with a clip; put a recording among the references."""

    def check_source(source: str | None, request: gr.Request) -> str:
        """What is wrong with a source clip, in plain words (HTML)."""
        studio.visits.add(request.session_hash, [source])
        return studio.clips.report([source] if source else [], "source")

    def check_references(references: list[str] | None, request: gr.Request) -> str:
        """What is wrong with reference clips, in plain words (HTML)."""
        studio.visits.add(request.session_hash, references or [])
        return studio.clips.report(references or [], "reference")

    def add_recording(
        recording: str | None, references: list[str] | None, request: gr.Request
    ) -> tuple[list[str], None]:
        references = list(references or [])
        if recording:
            studio.visits.add(request.session_hash, [recording])
            number = 1 + sum("recording" in path for path in references)
            path = studio.visits.new_file(
                request.session_hash, f"recording {number}.wav", partial(shutil.copyfile, recording)
            )
            references.append(str(path))
        return references, None

    source.change(check_source, source, source_status, api_name="check_source", **CHECKS)
    references.change(
        check_references, references, references_status, api_name="check_references", **CHECKS
    )
    recording.stop_recording(
        add_recording,
        [recording, references],
        [references, recording],
        api_visibility="private",
        **CHECKS,
    )


def _remember(consent: gr.Checkbox) -> None:
    """Keep the consent in the browser, so that it is given once."""
    stored = gr.BrowserState(False, storage_key="vc-consent", secret="vc-consent")
    blocks = gr.context.Context.root_block
    assert blocks is not None  # a tab is built inside a page
    same = "(value) => value"
    blocks.load(None, stored, consent, js=same, api_visibility="private")
    consent.input(None, consent, stored, js=same, api_visibility="private")
