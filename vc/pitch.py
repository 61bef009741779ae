"""Fundamental frequency: estimate it, make it continuous, move it to another speaker's range.

Estimation is the autocorrelation method of Boersma (1993, "Accurate short-term analysis of the
fundamental frequency", IFA Proceedings 17), written here for whole clips at a time: of Praat's own,
WORLD's DIO and Harvest, YIN and pYIN it is the one that is both steady on ordinary recordings and
fast. `benchmarks/pitch.py` compares them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from vc.audio import Waveform
from vc.config import FeatureConfig

FloatArray = npt.NDArray[np.float32]

# Boersma's own settings; costs are a 10 ms step
_SILENCE_THRESHOLD = 0.03  # of the clip's peak
_VOICING_THRESHOLD = 0.45
_OCTAVE_COST = 0.01
OCTAVE_JUMP_COST = 0.35
VOICING_COST = 0.14
_REFERENCE_STEP_S = 0.01
_CANDIDATES = 8
_OVERSAMPLING = 2
_FRAMES_AT_ONCE = 1024


class PitchRange(NamedTuple):
    """Where a speaker's voice lies: median and spread of log-F0 (natural logarithm of Hz)."""

    median: float
    spread: float


class Candidates(NamedTuple):
    """What each frame's F0 may be; the first candidate is "unvoiced"."""

    f0: Tensor  # (batch, frames, candidates) in Hz, 0 for unvoiced and for none
    strength: Tensor  # (batch, frames, candidates), -inf for none


def estimate_f0(waveform: Waveform, config: FeatureConfig, peak: float | None = None) -> FloatArray:
    """F0 in Hz for each mel frame, `(frames,)`; 0 where the frame is unvoiced.

    Args:
        waveform: `(samples,)` at `config.sample_rate`.
        config: gives hop and search range.
        peak: largest deviation of a sample from the mean, beside which frames are silent; give
            the whole clip's where `waveform` is a part of one.
    """
    with torch.inference_mode():
        samples = torch.from_numpy(np.ascontiguousarray(waveform, np.float32))[None]
        clip_peak = _clip_peak(samples, peak)
        # some seconds at a time: all lags of a long clip would fill the memory
        pieces = _windows(samples, config).split(_FRAMES_AT_ONCE, dim=1)
        found = [_candidates(piece, clip_peak, config) for piece in pieces]
        f0, strength = (
            torch.cat(part, dim=1)[0].double().numpy() for part in zip(*found, strict=True)
        )
    return _best_path(f0, strength, config)


def pitch_candidates(
    waveform: Tensor, config: FeatureConfig, peak: float | None = None
) -> Candidates:
    """The best candidates of each frame by themselves.

    Args:
        waveform: `(batch, samples)`.
        config: as in `estimate_f0`.
        peak: as in `estimate_f0`.
    """
    return _candidates(_windows(waveform, config), _clip_peak(waveform, peak), config)


def _clip_peak(waveform: Tensor, peak: float | None) -> Tensor:
    if peak is not None:
        return waveform.new_tensor(peak)
    return (waveform - waveform.mean(dim=-1, keepdim=True)).abs().amax(dim=-1)[:, None]


def _windows(waveform: Tensor, config: FeatureConfig) -> Tensor:
    """Three longest periods around each frame, `(batch, frames, samples)`: a view, no copy."""
    length = round(3 * config.sample_rate / config.f0_min)
    padded = functional.pad(waveform, (length // 2, length - length // 2))
    return padded.unfold(-1, length, config.hop_length)


def _candidates(windows: Tensor, clip_peak: Tensor, config: FeatureConfig) -> Candidates:
    step = 1 / (_OVERSAMPLING * config.sample_rate)  # seconds between lags
    windows = windows - windows.mean(dim=-1, keepdim=True)
    correlation = _autocorrelation(windows, longest=int(1 / (config.f0_min * step)) + 2)
    lags, heights = _peaks(correlation, shortest=int(1 / (config.f0_max * step)))
    periods = lags.clamp(min=1.0) * step
    # a shorter period explains the same autocorrelation better
    heights = heights - _OCTAVE_COST * torch.log2(periods * config.f0_min)
    none = lags == 0
    strength = heights.masked_fill(none, -math.inf)
    f0 = (1 / periods).masked_fill(none, 0.0)
    loudness = windows.abs().amax(dim=-1) / clip_peak.clamp(min=1e-5)
    quietness = loudness / _SILENCE_THRESHOLD * (1 + _VOICING_THRESHOLD)
    unvoiced = _VOICING_THRESHOLD + (2 - quietness).clamp(min=0.0)[..., None]  # (B, T, 1)
    f0 = torch.cat([torch.zeros_like(unvoiced), f0], dim=-1)
    return Candidates(f0, torch.cat([unvoiced, strength], dim=-1))


def _autocorrelation(windows: Tensor, longest: int) -> Tensor:
    """Normalised autocorrelation `(batch, frames, lags)` of windows `(batch, frames, samples)`.

    Dividing by the taper's own autocorrelation undoes the fading that it gives to long lags.
    """
    length = windows.shape[-1]
    turns = torch.arange(length, device=windows.device) / (length - 1)
    taper = 0.5 - 0.5 * torch.cos(2 * math.pi * turns)  # Hann's
    n_fft = 1 << (2 * length - 1).bit_length()

    def correlate(x: Tensor) -> Tensor:
        """The inverse transform of the power; longer, since that interpolates between the lags.

        Power is real and even, so a forward transform of one half of it does the same.
        """
        spectrum = torch.fft.rfft(x, n_fft)
        power = spectrum.real.square() + spectrum.imag.square()
        twice = torch.fft.rfft(power, _OVERSAMPLING * n_fft).real
        return (2 * twice - power[..., :1])[..., :longest]

    of_window = correlate(taper)
    of_signal = correlate(windows * taper)
    of_signal = of_signal / of_signal[..., :1].clamp(min=1e-12)
    return of_signal * (of_window[0] / of_window)


def _peaks(correlation: Tensor, shortest: int) -> tuple[Tensor, Tensor]:
    """The strongest local maxima of each frame beyond lag `shortest`: lags (0: none), heights."""
    left, middle, right = correlation[..., :-2], correlation[..., 1:-1], correlation[..., 2:]
    is_peak = (middle > left) & (middle >= right) & (middle > 0.5 * _VOICING_THRESHOLD)
    is_peak = is_peak & (torch.arange(middle.shape[-1], device=middle.device) >= shortest - 1)
    count = min(_CANDIDATES, middle.shape[-1])
    heights, best = middle.masked_fill(~is_peak, 0.0).topk(count, dim=-1)
    a, b, c = (neighbour.gather(-1, best) for neighbour in (left, middle, right))
    curvature = (a - 2 * b + c).clamp(max=-1e-12)
    offset = 0.5 * (a - c) / curvature  # of a parabola through the three points
    height = b - 0.25 * (a - c) * offset
    # noise can correlate above 1 where the window's own correlation is small
    height = torch.where(height > 1, 1 / height.clamp(min=1.0), height)
    none = heights == 0
    return (best + 1 + offset).masked_fill(none, 0.0), height.masked_fill(none, 0.0)


def _best_path(
    f0: npt.NDArray[np.float64], strengths: npt.NDArray[np.float64], config: FeatureConfig
) -> FloatArray:
    """F0 along the strongest path with the fewest jumps (Viterbi), `(frames,)`.

    Args:
        f0: `(frames, candidates)`.
        strengths: the same shape.
        config: gives the time between frames.
    """
    voiced = f0 > 0
    log_f0 = np.log2(np.where(voiced, f0, 1.0))
    before, after = (slice(None, -1), slice(None), None), (slice(1, None), None)
    jump = OCTAVE_JUMP_COST * np.abs(log_f0[before] - log_f0[after])
    switch = VOICING_COST * (voiced[before] != voiced[after])
    # (frames - 1, candidates before, candidates after)
    costs = cost_scale(config) * np.where(voiced[before] & voiced[after], jump, switch)
    arrived = np.zeros(f0.shape, dtype=np.intp)
    total = strengths[0]
    for t in range(1, len(f0)):
        reached = total[:, None] - costs[t - 1]
        arrived[t] = reached.argmax(axis=0)
        total = reached.max(axis=0) + strengths[t]
    path = np.empty(len(f0), dtype=np.intp)
    path[-1] = int(total.argmax())
    for t in range(len(f0) - 1, 0, -1):
        path[t - 1] = arrived[t, path[t]]
    return f0[np.arange(len(f0)), path].astype(np.float32)


def cost_scale(config: FeatureConfig) -> float:
    """What the costs of changes between frames are multiplied by."""
    return _REFERENCE_STEP_S * config.frame_rate


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
