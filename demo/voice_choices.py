"""Pitch, strength, denoising: the same choices on the Convert and the Batch tab."""

from __future__ import annotations

from typing import NamedTuple

import gradio as gr

from vc.pitch import Pitch

MATCH, KEEP, SHIFT = "Match the reference", "Keep the source's", "Shift the source's"


class VoiceChoices(NamedTuple):
    """The controls, in the order of the API."""

    pitch: gr.Radio
    semitones: gr.Slider
    strength: gr.Slider
    denoise: gr.Checkbox


def voice_choices() -> VoiceChoices:
    """Build the controls; the semitones are shown when they count."""
    with gr.Row(equal_height=True):
        with gr.Column(min_width=260):
            pitch = gr.Radio(
                [MATCH, KEEP, SHIFT], value=MATCH, label="Pitch", info="How high the result speaks."
            )
            semitones = gr.Slider(-12, 12, 0, step=0.5, label="Shift in semitones", visible=False)
        with gr.Column(min_width=260):
            strength = gr.Slider(
                0,
                100,
                100,
                step=5,
                label="Strength in percent",
                info="From the source's own voice (0) to the reference's (100).",
            )
            denoise = gr.Checkbox(
                label="Denoise the source first",
                info="Takes noise and echoes out; references are always heard without theirs.",
            )
    pitch.change(
        lambda choice: gr.update(visible=choice == SHIFT),
        pitch,
        semitones,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    return VoiceChoices(pitch, semitones, strength, denoise)


def wanted_pitch(choice: str, semitones: float) -> Pitch:
    """The choice as `Converter.convert` takes it."""
    return semitones if choice == SHIFT else "keep" if choice == KEEP else "match"
