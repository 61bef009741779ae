"""Fundamental frequency: estimate it, make it continuous, move it to another speaker's range.

Estimation is WORLD's DIO with StoneMask refinement (Morise et al. 2009 and 2016) from `pyworld`:
of the well-kept estimators it is the fastest by far on a CPU.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vc.audio import Waveform
from vc.config import FeatureConfig

FloatArray = npt.NDArray[np.float32]


class PitchRange(NamedTuple):
    """Where a speaker's voice lies: median and spread of log-F0 (natural logarithm of Hz)."""

    median: float
    spread: float


def estimate_f0(waveform: Waveform, config: FeatureConfig) -> FloatArray:
    """F0 in Hz for each mel frame, `(frames,)`; 0 where the frame is unvoiced.

    Args:
        waveform: `(samples,)` at `config.sample_rate`.
        config: gives hop and search range.
    """
    import pyworld  # imported here: not every use of the package needs it

    double = waveform.astype(np.float64)
    period_ms = 1000 * config.hop_length / config.sample_rate
    f0, times = pyworld.dio(
        double,
        config.sample_rate,
        f0_floor=config.f0_min,
        f0_ceil=config.f0_max,
        frame_period=period_ms,
    )
    f0 = pyworld.stonemask(double, f0, times, config.sample_rate)
    frames = len(waveform) // config.hop_length + 1
    return np.pad(f0[:frames], (0, max(0, frames - len(f0)))).astype(np.float32)


def interpolate_log_f0(f0: FloatArray, fallback_hz: float = 150.0) -> FloatArray:
    """Natural log of F0, interpolated through unvoiced frames, `(frames,)`.

    A track without any voiced frame becomes constant at `fallback_hz`.
    """
    voiced = np.flatnonzero(f0 > 0)
    if voiced.size == 0:
        return np.full(len(f0), np.log(fallback_hz), dtype=np.float32)
    return np.interp(np.arange(len(f0)), voiced, np.log(f0[voiced])).astype(np.float32)


def pitch_range(f0: FloatArray) -> PitchRange | None:
    """Median and spread (half the central 80 %) of log-F0, or None without enough voiced frames."""
    voiced = f0[f0 > 0]
    if voiced.size < 5:
        return None
    low, median, high = np.quantile(np.log(voiced), [0.1, 0.5, 0.9])
    return PitchRange(float(median), float(high - low) / 2)


def shift_semitones(f0: FloatArray, semitones: float) -> FloatArray:
    """Shift F0 in Hz by a number of semitones; unvoiced frames stay 0."""
    return (f0 * 2 ** (semitones / 12)).astype(np.float32)


def match_range(
    f0: FloatArray, source: PitchRange | None, reference: PitchRange | None
) -> FloatArray:
    """Move F0 so that its median is the reference's; intonation (in semitones) stays the source's.

    Without a known range on either side F0 is returned unchanged.
    """
    if source is None or reference is None:
        return f0
    return shift_semitones(f0, 12 * (reference.median - source.median) / np.log(2))
