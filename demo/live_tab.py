"""Live: speak, and hear yourself in another voice a moment later.

The page's side is in `live.js`, which sends the microphone's samples to `live_route.py`.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from demo.clips import show
from demo.convert_tab import CHECKS, QUEUE, ConvertTab, need_consent
from demo.live_streams import LONGEST_S
from demo.studio import Studio
from demo.voice_choices import KEEP, MATCH, wanted_pitch
from vc.errors import VCError

# voices wait for a free conversion, and checks of clips do not wait for them
LEARNING: dict[str, Any] = {**QUEUE, "concurrency_id": "live", "show_progress": "hidden"}
PANEL = f"""
<section class="vc-live" data-state="off" aria-label="Levels">
<label>You <meter data-role="heard" min="0" max="1" high="0.97" value="0"></meter></label>
<label>Converted <meter data-role="played" min="0" max="1" value="0"></meter></label>
<p role="status"></p>
<small>Choices count from the next Start; a stream lasts {LONGEST_S / 60:g} minutes.</small>
</section>
"""
# the sample rate is the last of the values; without consent no microphone is asked for
START = """async (...values) => {
  const consent = values.at(-2);
  return [...values.slice(0, -1), consent ? await window.vcLive.hear() : 0];
}"""


def live_tab(studio: Studio, convert: ConvertTab) -> None:
    """Build the tab."""
    gr.HTML(
        "<h2>Speak, and hear yourself converted</h2><p><b>Wear headphones</b>: from a loudspeaker "
        "the converted voice would come back into the microphone. Where no voice is given here, "
        "the reference of the Convert tab is taken. Nothing of what you say is kept.</p>",
        elem_classes="vc-step",
    )
    with gr.Row():
        with gr.Column(min_width=300):
            references = gr.File(
                label="Reference clips or .voice",
                file_count="multiple",
                type="filepath",
                height=140,
                elem_id="live-references",
            )
            status = gr.HTML(elem_id="live-references-status")
        with gr.Column(min_width=300):
            pitch = gr.Radio(
                [MATCH, KEEP], value=MATCH, label="Pitch", info="How high the result speaks."
            )
            denoise = gr.Checkbox(label="Denoise the microphone", elem_id="live-denoise")
            gr.HTML(PANEL)
    with gr.Row():
        start = gr.Button("Start", variant="primary", elem_id="live-start", min_width=140)
        stop = gr.Button("Stop", elem_id="live-stop", min_width=140)
    sample_rate = gr.Number(0, visible="hidden")
    opened = gr.JSON(visible="hidden")

    def check_voice(references: list[str] | None, request: gr.Request) -> str:
        studio.visits.add(request.session_hash, references or [])
        return studio.clips.report(references or [], "reference")

    def live_start(
        references: list[str] | None,
        of_convert: list[str] | None,
        pitch: str,
        denoise: bool,
        consent: bool,
        sample_rate: float,
        request: gr.Request,
    ) -> list[str | float] | None:
        """Begin a stream; returns its ticket and its delay in seconds."""
        need_consent(consent)
        if not sample_rate:  # the page has said that there is no microphone
            return None
        try:
            ticket, lag_s = studio.open_stream(
                request.session_hash,
                references or of_convert,
                wanted_pitch(pitch, 0),
                round(sample_rate),
                denoise,
            )
        except VCError as error:
            raise show(error) from None
        return [ticket, lag_s]

    references.change(check_voice, references, status, api_visibility="private", **CHECKS)
    begun = start.click(
        live_start,
        [references, convert.references, pitch, denoise, convert.consent, sample_rate],
        opened,
        js=START,
        api_name="live_start",
        api_visibility="undocumented",
        trigger_mode="once",
        **LEARNING,
    )
    begun.success(None, opened, None, js="(opened) => window.vcLive.speak(opened)")
    begun.failure(None, None, None, js="() => window.vcLive.stop('')")
    stop.click(None, None, None, js="() => window.vcLive.stop()")
