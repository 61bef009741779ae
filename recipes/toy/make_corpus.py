"""Make a corpus of buzzing voices: as little as it takes to try the tools without a recording.

Run `python recipes/toy/make_corpus.py CORPUS`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from vc.audio import Audio, Waveform, write_audio

SAMPLE_RATE = 16_000  # Hz
_FORMANTS = (600.0, 1200.0, 2500.0)  # Hz, of the middle voice


def make_voice(
    f0: float = 120.0,
    formants: tuple[float, ...] = _FORMANTS,
    seconds: float = 2.0,
    sample_rate: int = SAMPLE_RATE,
    seed: int = 0,
) -> Waveform:
    """A buzzing voice: harmonics under moving formants, in syllables, with a little breath."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    melody = f0 * 2 ** (0.15 * np.sin(2 * np.pi * 0.7 * time + generator.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(melody) / sample_rate
    moving = 1 + 0.2 * np.sin(2 * np.pi * 2.1 * time + generator.uniform(0, 6))
    waveform = np.zeros_like(time)
    for number in range(1, int(0.45 * sample_rate / f0)):
        frequency = number * melody
        gain = sum(1 / (1 + ((frequency - f * moving) / 150) ** 2) for f in formants)
        waveform += gain * np.sin(number * phase)
    syllables = np.clip(np.sin(2 * np.pi * 2.5 * time) + 0.8, 0, 1)
    waveform = waveform / np.abs(waveform).max() * syllables
    waveform += 0.003 * generator.standard_normal(len(time))
    return (0.3 * waveform).astype(np.float32)


def make_corpus(folder: Path, speakers: int = 20, clips: int = 6, seconds: float = 1.6) -> None:
    """Write `voice*/clip*.wav`: from low to high voices, from long to short vocal tracts."""
    for speaker in range(speakers):
        place = 8 * speaker / speakers
        own = folder / f"voice{speaker}"
        own.mkdir(parents=True, exist_ok=True)
        formants = tuple(formant * (0.8 + 0.05 * place) for formant in _FORMANTS)
        for clip in range(clips):
            waveform = make_voice(90 + 20 * place, formants, seconds, seed=10 * speaker + clip)
            write_audio(own / f"clip{clip}.wav", Audio(waveform, SAMPLE_RATE))


if __name__ == "__main__":
    make_corpus(Path(sys.argv[1]))
