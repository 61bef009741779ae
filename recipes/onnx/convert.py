"""Convert a clip with ONNX Runtime and NumPy alone; neither PyTorch nor vc is imported.

python recipes/onnx/convert.py EXPORT source.wav reference.wav converted.wav
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import soundfile


def run(graph: str, *inputs: np.ndarray) -> Any:
    """The outputs of one of the exported graphs."""
    session = onnxruntime.InferenceSession(folder / f"{graph}.onnx")
    values = (np.asarray(value, np.float32) for value in inputs)
    return session.run(None, dict(zip([i.name for i in session.get_inputs()], values, strict=True)))


def powers(waveform: np.ndarray) -> tuple[np.ndarray, np.floating]:
    """Mean squares of frames (20 ms, every 10 ms), and their mean over speech, without pauses."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform.astype(float), 320)[::160]
    squares = (frames**2).mean(axis=1)
    loud = squares[squares > 1e-5 * squares.max()]
    return squares, loud[loud > 0.1 * loud.mean()].mean()


def levelled(waveform: np.ndarray, speech: np.floating) -> np.ndarray:
    """A clip `(1, samples)`, brought to -26 dBFS."""
    return waveform[None] * np.sqrt(10**-2.6 / speech)


folder, *paths, output = (Path(argument) for argument in sys.argv[1:])
clips = [soundfile.read(path, dtype="float32") for path in paths]
assert all(rate == 16_000 and clip.ndim == 1 for clip, rate in clips), "make both mono at 16 kHz"
(source, _), (reference, _) = clips
(_, loudness), (squares, reference_loudness) = powers(source), powers(reference)
loud = np.flatnonzero(squares > 1e-3 * reference_loudness)  # silent edges are cut, but for 50 ms
reference = reference[max(0, 160 * loud[0] - 800) : 160 * loud[-1] + 1120]
heard_source = levelled(source, loudness)
log_mel, f0 = run("features", heard_source)
reference_log_mel, reference_f0 = run("features", levelled(reference, reference_loudness))
voiced = f0 > 0
heard = np.log(f0[voiced])  # moved to the reference's median, and drawn through the gaps
moved = heard + np.median(np.log(reference_f0[reference_f0 > 0])) - np.median(heard)
middle = moved.clip(*np.log([90, 400]))  # beyond it slows down, to halt where the model has heard
way = np.log(1.5 / 1.08)  # speech, from 65 to 556 Hz
moved = middle + way * np.tanh((moved - middle) / way)
own_log_f0, log_f0 = (
    np.interp(np.arange(voiced.size), np.flatnonzero(voiced), track)[None]
    for track in (heard, moved)
)
(content,), (speaker,) = run("content_encoder", log_mel), run("speaker_encoder", reference_log_mel)
details = reference_log_mel[0].T[reference_f0[0] > 0]  # at least 20 frames
(decoded,) = run("decoder", content, speaker, details[None], log_f0, voiced, log_mel, own_log_f0)
noise = np.random.default_rng(0).standard_normal((1, 256 * voiced.size))
(spoken,) = run("vocoder", decoded, log_f0, voiced, noise)
followed = np.pad(heard_source, ((0, 0), (0, spoken.shape[1] - source.size)))
converted = run("temporal_envelope", spoken, followed)[0][0, : source.size]
wanted = np.clip(reference_loudness, 1e-3, 10**-1.6)  # the reference's, from -30 to -16 dBFS
converted = converted * np.sqrt(wanted / powers(converted)[1])
soundfile.write(output, converted / max(1.0, np.abs(converted).max() / 0.99), 16_000)
