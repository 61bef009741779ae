"""Compare F0 estimators on real clips: agreement with Praat's autocorrelation, and cost.

    python benchmarks/pitch.py CLIP [CLIP ...]

Needs the `eval` extra, and `pip install pyworld-prebuilt` for WORLD's estimators.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import numpy.typing as npt
import parselmouth
import pyworld

from vc.audio import normalize_level, read_audio, resample
from vc.config import FeatureConfig
from vc.evaluation.judges import f0_correlation, semitones_apart
from vc.pitch import estimate_f0

RATE, STEP_S, FLOOR, CEILING = 16_000, 0.01, 60.0, 600.0
Track = npt.NDArray[np.float64]


def praat(waveform: Track) -> Track:
    """Praat's autocorrelation, on a grid that starts at 0 s."""
    sound = parselmouth.Sound(waveform, RATE)
    pitch = sound.to_pitch_ac(time_step=STEP_S, pitch_floor=FLOOR, pitch_ceiling=CEILING)
    times = np.arange(len(waveform) // round(STEP_S * RATE) + 1) * STEP_S
    nearest = np.searchsorted(pitch.xs(), times).clip(max=len(pitch.xs()) - 1)
    return pitch.selected_array["frequency"][nearest]


def dio(waveform: Track) -> Track:
    """WORLD's DIO with StoneMask."""
    f0, times = pyworld.dio(waveform, RATE, FLOOR, CEILING, frame_period=1000 * STEP_S)
    return pyworld.stonemask(waveform, f0, times, RATE)


def harvest(waveform: Track) -> Track:
    """WORLD's Harvest."""
    return pyworld.harvest(waveform, RATE, FLOOR, CEILING, 1000 * STEP_S)[0]


def yin(waveform: Track) -> Track:
    """YIN from librosa, which calls every frame voiced."""
    hop = round(STEP_S * RATE)
    return librosa.yin(waveform, fmin=FLOOR, fmax=CEILING, sr=RATE, hop_length=hop)


def ours(waveform: Track) -> Track:
    """`vc.pitch.estimate_f0`."""
    config = FeatureConfig(hop_length=round(STEP_S * RATE))
    return estimate_f0(waveform.astype(np.float32), config).astype(np.float64)


def main() -> None:
    """Print one row for each estimator."""
    estimators: dict[str, Callable[[Track], Track]] = {
        "ours": ours, "dio": dio, "harvest": harvest, "yin": yin, "praat": praat,
    }  # fmt: skip
    rows: dict[str, list[list[float]]] = {name: [] for name in estimators}
    for path in sys.argv[1:]:
        audio = read_audio(Path(path))
        waveform = resample(audio.waveform, audio.sample_rate, RATE)
        waveform = normalize_level(waveform, RATE, -26.0).astype(np.float64)
        truth = praat(waveform)
        for name, estimator in estimators.items():
            start = time.perf_counter()
            f0 = estimator(waveform)
            seconds = time.perf_counter() - start
            frames = min(len(f0), len(truth))
            disagree = float(np.mean((f0[:frames] > 0) != (truth[:frames] > 0)))
            realtime = seconds / (len(waveform) / RATE)
            rows[name].append(
                [f0_correlation(f0, truth), semitones_apart(f0, truth), disagree, realtime]
            )
    print(f"{'':8s} correlation  semitones off  voicing differs  real-time factor")
    for name, values in rows.items():
        means = np.nanmean(values, axis=0)
        print(f"{name:8s} {means[0]:11.3f} {means[1]:14.2f} {means[2]:16.3f} {means[3]:17.4f}")


if __name__ == "__main__":
    main()
