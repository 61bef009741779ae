"""Text & bytes: a clip as units that can be edited, or as a file of some hundred bits a second."""

from __future__ import annotations

import gradio as gr

from demo.clips import show
from demo.convert_tab import QUEUE, ConvertTab, need_consent
from demo.studio import Studio
from demo.uploads import belong_to_the_visit
from vc.compress import STAGES
from vc.errors import VCError


def codes_tab(studio: Studio, convert: ConvertTab) -> None:
    """Build the tab."""
    gr.HTML(
        "<h2>Speech as text</h2><p>What is said, as units: <code>unit : frames : semitones</code>. "
        "Leave some out, repeat some, change their length or pitch; then have it said in any "
        "voice. Who spoke is not in the text.</p>",
        elem_classes="vc-step",
    )
    clip = _clip("Clip", "codes-clip")
    write = gr.Button("Write it as text", variant="primary", elem_id="codes-write")
    text = gr.Textbox(
        label="Units, to edit", lines=8, max_lines=16, max_length=200_000, elem_id="codes-text"
    )
    references = _voice("Reference clips or .voice", "codes-references")
    speak = gr.Button("Say it", elem_id="codes-speak")
    spoken = _result("What the text says", "codes-spoken")
    gr.HTML(
        "<h2>Speech in few bytes</h2><p>Content, pitch and the speaker embedding, entropy-coded: "
        "a file that is spoken again in its own voice, or in another one.</p>",
        elem_classes="vc-step",
    )
    original = _clip("Clip to compress", "codes-original")
    setting = gr.Radio(list(STAGES), value="low", label="Bits", elem_id="codes-setting")
    pack = gr.Button("Compress", variant="primary", elem_id="codes-pack")
    told = gr.HTML(elem_id="codes-told")
    packed = gr.File(label="Compressed (.vcz)", type="filepath", height=110, elem_id="codes-file")
    other = _voice("Another voice, if you want one", "codes-other")
    unpack = gr.Button("Say it again", elem_id="codes-unpack")
    again = _result("What the file says", "codes-again")

    def write_units(clip: str | None, request: gr.Request) -> str:
        """A clip as text: units with length and pitch."""
        try:
            return studio.write_units(request.session_hash, clip)
        except VCError as error:
            raise show(error) from None

    def speak_units(
        text: str, references: list[str] | None, consent: bool, request: gr.Request
    ) -> str:
        """Say units in the references' voice; returns a WAV file."""
        need_consent(consent)
        try:
            return studio.speak_units(request.session_hash, text, references)
        except VCError as error:
            raise show(error) from None

    def compress(clip: str | None, setting: str, request: gr.Request) -> tuple[str, str]:
        """A clip in few bytes; returns a sentence about its size and the file."""
        try:
            path, size = studio.compress(request.session_hash, clip, setting)
        except VCError as error:
            raise show(error) from None
        return f"<p>{size}</p>", path

    def decompress(
        file: str | None, references: list[str] | None, consent: bool, request: gr.Request
    ) -> str:
        """Say a compressed clip in its own voice, or in the references'; returns a WAV file."""
        need_consent(consent)
        try:
            return studio.decompress(request.session_hash, file, references)
        except VCError as error:
            raise show(error) from None

    belong_to_the_visit(studio, clip, references, original, packed, other)
    consent = convert.consent
    write.click(write_units, clip, text, api_name="write_units", trigger_mode="once", **QUEUE)
    speak.click(
        speak_units,
        [text, references, consent],
        spoken,
        api_name="speak_units",
        trigger_mode="once",
        **QUEUE,
    )
    pack.click(
        compress,
        [original, setting],
        [told, packed],
        api_name="compress",
        trigger_mode="once",
        **QUEUE,
    )
    unpack.click(
        decompress,
        [packed, other, consent],
        again,
        api_name="decompress",
        trigger_mode="once",
        **QUEUE,
    )


def _clip(label: str, name: str) -> gr.Audio:
    return gr.Audio(
        label=label, sources=["upload", "microphone"], type="filepath", elem_id=name, min_width=300
    )


def _voice(label: str, name: str) -> gr.File:
    return gr.File(label=label, file_count="multiple", type="filepath", height=140, elem_id=name)


def _result(label: str, name: str) -> gr.Audio:
    return gr.Audio(label=label, interactive=False, type="filepath", elem_id=name, min_width=300)
