"""One page: give two clips, hear one speaker's words in the other's voice."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import numpy as np

import vc
from vc.audio import Audio
from vc.convert import Converter, Pitch
from vc.errors import VCError

EXAMPLES = Path(vc.__file__).parent / "examples"
PITCH_CHOICES = {"Match the reference": "match", "Keep the source's": "keep", "Shift by": "shift"}


def build_app(converter: Converter) -> gr.Blocks:
    """The page, around a ready converter."""

    def convert(
        source: str | None,
        references: list[str] | None,
        pitch: str,
        semitones: float,
        consent: bool,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio finds it by this default)
    ) -> tuple[int, np.ndarray]:
        """Convert two uploaded or recorded clips; the result is (sample rate, 16-bit samples)."""
        if not source:
            raise gr.Error("Record or upload a source clip first.")
        if not references:
            raise gr.Error("Upload at least one clip of the voice you want.")
        if not consent:
            raise gr.Error("Please confirm that you may use these voices.")
        wanted: Pitch = semitones if pitch == "Shift by" else PITCH_CHOICES[pitch]  # type: ignore[assignment]
        try:
            result = converter.convert(source, references, wanted, progress=progress)
        except VCError as error:
            raise gr.Error(_without_folders(str(error), [source, *references])) from None
        return _for_player(result)

    with gr.Blocks(title="Voice converter", analytics_enabled=False) as app:
        gr.Markdown("# Voice converter\nThe words of the source, in the voice of the reference.")
        with gr.Row():
            source = gr.Audio(type="filepath", label="Source: whose words", buttons=["download"])
            references = gr.File(
                label="Reference: whose voice (one or more clips)",
                file_count="multiple",
                file_types=["audio"],
                type="filepath",
            )
        with gr.Row():
            pitch = gr.Radio(list(PITCH_CHOICES), value="Match the reference", label="Pitch")
            semitones = gr.Slider(-12, 12, 0, step=0.5, label="Semitones (for 'Shift by')")
        consent = gr.Checkbox(label="I may use these voices, and will not deceive anyone with them")
        button = gr.Button("Convert", variant="primary")
        result = gr.Audio(label="Result", interactive=False)
        button.click(
            convert, [source, references, pitch, semitones, consent], result, api_name="convert"
        )
        gr.Examples(
            [[str(EXAMPLES / "source.flac"), [str(EXAMPLES / "reference.flac")]]],
            [source, references],
        )
        gr.Markdown(
            "Everything runs on this machine. Uploaded clips stay in its temporary folder for now."
        )
    return app


def _for_player(audio: Audio) -> tuple[int, np.ndarray]:
    samples = np.clip(audio.waveform, -1, 1)
    return audio.sample_rate, np.round(samples * 32767).astype(np.int16)


def _without_folders(message: str, paths: list[str]) -> str:
    """Take the server's folders out of a message, leaving file names."""
    for path in paths:
        message = message.replace(str(Path(path).parent) + "/", "")
    return message
