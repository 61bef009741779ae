"""Blend and keep: mix voices or invent one, keep it in a file, use it as the reference."""

from __future__ import annotations

import gradio as gr

from demo.clips import show
from demo.convert_tab import CHECKS, QUEUE, ConvertTab, need_consent
from demo.studio import Studio
from vc.errors import VCError

MOST = 4  # voices in a blend


def blend_tab(studio: Studio, convert: ConvertTab, tabs: gr.Tabs) -> None:
    """Build the tab."""
    gr.HTML(
        "<h2>Mix voices, and keep one</h2><p>Each file is one voice: a clip, or a voice kept "
        "before. The new voice can be saved and used here and by <code>vc convert</code>.</p>",
        elem_classes="vc-step",
    )
    files = gr.File(
        label=f"Clips or .voice files, {MOST} at most",
        file_count="multiple",
        type="filepath",
        height=140,
        elem_id="blend-files",
    )
    status = gr.HTML(elem_id="blend-status")
    sliders = [
        gr.Slider(0, 100, 50, step=5, label=f"Share of voice {number}", visible=False)
        for number in range(1, MOST + 1)
    ]
    name = gr.Textbox("My voice", label="Name of the voice", max_lines=1, max_length=60)
    button = gr.Button("Make the voice", variant="primary", elem_id="blend")
    with gr.Row(equal_height=True):
        seed = gr.Number(
            7,
            label="Or invent one: any number",
            info="Each number is another voice, one that belongs to nobody.",
            minimum=0,
            maximum=2**31 - 1,
            precision=0,
            min_width=220,
        )
        invent = gr.Button("Invent a voice", elem_id="invent", min_width=220)
    with gr.Row():
        voice = gr.File(
            label="The voice, to save",
            interactive=False,
            height=110,
            elem_id="voice",
            min_width=300,
        )
        preview = gr.Audio(
            label="How it sounds",
            interactive=False,
            type="filepath",
            elem_id="preview",
            min_width=300,
        )
    use = gr.Button("Use it as the reference", interactive=False, elem_id="use-voice")

    def check_voices(files: list[str] | None, request: gr.Request) -> list[object]:
        files = files or []
        studio.visits.add(request.session_hash, files)
        shown = [
            gr.update(visible=True, label=f"Share of {file.rsplit('/', 1)[-1]}")
            for file in files[:MOST]
        ]
        hidden = [gr.update(visible=False)] * (MOST - len(shown))
        return [studio.clips.report(files, "reference"), *shown, *hidden]

    def make_voice(
        files: list[str] | None,
        name: str,
        consent: bool,
        share_1: float,
        share_2: float,
        share_3: float,
        share_4: float,
        request: gr.Request,
    ) -> tuple[str, str, object]:
        """Blend clips and voices by shares; returns a voice file and a sentence spoken in it."""
        need_consent(consent)
        try:
            if len(files or []) > MOST:
                raise VCError(f"{len(files or [])} voices; {MOST} are the most in a blend.")
            weights = (share_1, share_2, share_3, share_4)[: len(files or [])]
            kept, spoken = studio.blend(request.session_hash, files, weights, name)
        except VCError as error:
            raise show(error) from None
        return kept, spoken, gr.update(interactive=True)

    def new_voice(seed: float, name: str, request: gr.Request) -> tuple[str, str, object]:
        """Invent a voice that belongs to nobody; returns a voice file and a sentence in it."""
        try:
            kept, spoken = studio.invent(request.session_hash, int(seed or 0), name)
        except VCError as error:
            raise show(error) from None
        return kept, spoken, gr.update(interactive=True)

    def use_voice(voice: str | None) -> tuple[list[str], object]:
        return [voice] if voice else [], gr.Tabs(selected="convert")

    files.change(check_voices, files, [status, *sliders], api_visibility="private", **CHECKS)
    button.click(
        make_voice,
        [files, name, convert.consent, *sliders],
        [voice, preview, use],
        api_name="make_voice",
        trigger_mode="once",
        **QUEUE,
    )
    invent.click(
        new_voice,
        [seed, name],
        [voice, preview, use],
        api_name="new_voice",
        trigger_mode="once",
        **QUEUE,
    )
    use.click(
        use_voice,
        voice,
        [convert.references, tabs],
        api_visibility="private",
        queue=False,
        show_progress="hidden",
    )
