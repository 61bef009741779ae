"""Fundamental frequency: estimate it, make it continuous, move it to another speaker's range.

Estimation is the autocorrelation method of Boersma (1993, "Accurate short-term analysis of the
fundamental frequency", IFA Proceedings 17), written here for whole clips at a time: of Praat's own,
WORLD's DIO and Harvest, YIN and pYIN it is the one that is both steady on ordinary recordings and
fast. `benchmarks/pitch.py` compares them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vc.audio import Waveform
from vc.config import FeatureConfig

FloatArray = npt.NDArray[np.float32]

# Boersma's own settings; costs are a 10 ms step
_SILENCE_THRESHOLD = 0.03  # of the clip's peak
_VOICING_THRESHOLD = 0.45
_OCTAVE_COST = 0.01
_OCTAVE_JUMP_COST = 0.35
_VOICING_COST = 0.14
_REFERENCE_STEP_S = 0.01
_CANDIDATES = 8
_OVERSAMPLING = 2
_FRAMES_AT_ONCE = 1024


class PitchRange(NamedTuple):
    """Where a speaker's voice lies: median and spread of log-F0 (natural logarithm of Hz)."""

    median: float
    spread: float


def estimate_f0(waveform: Waveform, config: FeatureConfig, peak: float | None = None) -> FloatArray:
    """F0 in Hz for each mel frame, `(frames,)`; 0 where the frame is unvoiced.

    Args:
        waveform: `(samples,)` at `config.sample_rate`.
        config: gives hop and search range.
        peak: largest deviation of a sample from the mean, beside which frames are silent; give
            the whole clip's where `waveform` is a part of one.
    """
    if peak is None:
        peak = float(np.abs(waveform - waveform.mean()).max(initial=0.0))
    step = 1 / (_OVERSAMPLING * config.sample_rate)  # seconds between lags
    shortest, longest = int(1 / (config.f0_max * step)), int(1 / (config.f0_min * step))
    found = [
        (*_candidates(correlation[:, : longest + 2], shortest), loudness)
        for correlation, loudness in _autocorrelation(waveform, config, peak)
    ]
    lags, strengths, loudness = (np.concatenate(part) for part in zip(*found, strict=True))
    periods = lags * step
    # a shorter period explains the same autocorrelation better
    bonus = _OCTAVE_COST * np.log2(np.maximum(periods, step) * config.f0_min)
    strengths = np.where(lags > 0, strengths - bonus, -np.inf)
    quietness = loudness / _SILENCE_THRESHOLD * (1 + _VOICING_THRESHOLD)
    unvoiced = _VOICING_THRESHOLD + np.maximum(0.0, 2 - quietness)
    f0 = np.where(lags > 0, 1 / np.maximum(periods, step), 0.0)
    f0 = np.concatenate([np.zeros((len(f0), 1)), f0], axis=1)  # the first candidate is "unvoiced"
    strengths = np.concatenate([unvoiced[:, None], strengths], axis=1)
    frame_s = config.hop_length / config.sample_rate
    best = _best_path(f0, strengths, _REFERENCE_STEP_S / frame_s)
    return f0[np.arange(len(f0)), best].astype(np.float32)


def _autocorrelation(
    waveform: Waveform, config: FeatureConfig, clip_peak: float
) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Normalised autocorrelation `(frames, lags)` and loudness `(frames,)` beside `clip_peak`.

    A piece of some seconds at a time: all lags of a long clip would fill the memory.

    A window of three longest periods is taken out of each frame; dividing by the window's own
    autocorrelation undoes the fading that windowing gives to long lags.
    """
    length = round(3 * config.sample_rate / config.f0_min)
    frames = len(waveform) // config.hop_length + 1
    padded = np.pad(waveform, (length // 2, length))
    windows = np.lib.stride_tricks.sliding_window_view(padded, length)
    windows = windows[: frames * config.hop_length : config.hop_length]
    taper = np.hanning(length).astype(np.float32)
    n_fft = 1 << (2 * length - 1).bit_length()

    def correlate(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        power = np.abs(np.fft.rfft(x, n_fft, axis=-1)) ** 2
        # a longer inverse transform interpolates between the lags
        return np.fft.irfft(power, _OVERSAMPLING * n_fft, axis=-1)

    of_window = correlate(taper)
    lags = _OVERSAMPLING * length // 2
    for first in range(0, len(windows), _FRAMES_AT_ONCE):
        piece = windows[first : first + _FRAMES_AT_ONCE]
        piece = piece - piece.mean(axis=1, keepdims=True)
        peak = np.abs(piece).max(axis=1)
        of_signal = correlate(piece * taper)[:, :lags]
        of_signal /= np.maximum(of_signal[:, :1], 1e-12)
        yield of_signal / (of_window[:lags] / of_window[0]), peak / max(clip_peak, 1e-5)


def _candidates(
    correlation: npt.NDArray[np.float64], shortest: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The strongest local maxima of each frame beyond lag `shortest`: lags (0: none), heights."""
    left, middle, right = correlation[:, :-2], correlation[:, 1:-1], correlation[:, 2:]
    is_peak = (middle > left) & (middle >= right) & (middle > 0.5 * _VOICING_THRESHOLD)
    is_peak[:, : max(0, shortest - 1)] = False
    heights = np.where(is_peak, middle, 0.0)
    count = min(_CANDIDATES, heights.shape[1])
    best = np.argpartition(-heights, count - 1, axis=1)[:, :count]
    rows = np.arange(len(best))[:, None]
    a, b, c = left[rows, best], middle[rows, best], right[rows, best]
    curvature = np.minimum(a - 2 * b + c, -1e-12)
    offset = 0.5 * (a - c) / curvature  # of a parabola through the three points
    height = b - 0.25 * (a - c) * offset
    found = heights[rows, best] > 0
    # noise can correlate above 1 where the window's own correlation is small
    height = np.where(height > 1, 1 / np.maximum(height, 1), height)
    return np.where(found, best + 1 + offset, 0.0), np.where(found, height, 0.0)


def _best_path(
    f0: npt.NDArray[np.float64], strengths: npt.NDArray[np.float64], step: float
) -> npt.NDArray[np.intp]:
    """The candidate of each frame that makes the strongest path with the fewest jumps (Viterbi)."""
    voiced = f0 > 0
    log_f0 = np.log2(np.where(voiced, f0, 1.0))
    arrived = np.zeros(f0.shape, dtype=np.intp)
    columns = np.arange(f0.shape[1])
    total = strengths[0].copy()
    for t in range(1, len(f0)):
        both = voiced[t - 1][:, None] & voiced[t][None, :]
        jump = _OCTAVE_JUMP_COST * np.abs(log_f0[t - 1][:, None] - log_f0[t][None, :])
        switch = _VOICING_COST * (voiced[t - 1][:, None] != voiced[t][None, :])
        reached = total[:, None] - step * np.where(both, jump, switch)
        arrived[t] = reached.argmax(axis=0)
        total = reached[arrived[t], columns] + strengths[t]
    path = np.empty(len(f0), dtype=np.intp)
    path[-1] = int(total.argmax())
    for t in range(len(f0) - 1, 0, -1):
        path[t - 1] = arrived[t, path[t]]
    return path


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
