"""Fundamental frequency: estimate it, make it continuous, move it to another speaker's range.

Candidates come from normalised cross-correlation (Atal 1968; as in RAPT, Talkin 1995, "A robust
algorithm for pitch tracking"): a stretch of one longest period is compared with later ones, so a
voice that creaks or glides is followed where autocorrelation, which needs three periods, blurs it.
The path through them is that of Boersma (1993, "Accurate short-term analysis of the fundamental
frequency", IFA Proceedings 17). `benchmarks/pitch.py` compares trackers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from vc.audio import Waveform
from vc.config import FeatureConfig

FloatArray = npt.NDArray[np.float32]
Pitch = Literal["match", "keep"] | float  # the reference's range, the source's, or semitones

# Boersma's own settings, but for the octaves' cost (his is 0.01); costs are a 10 ms step
_SILENCE_THRESHOLD = 0.03  # of the clip's peak
_VOICING_THRESHOLD = 0.45
_OCTAVE_COST = 0.02
OCTAVE_JUMP_COST = 0.35
VOICING_COST = 0.14
_SLOWER = (0.25, 0.5, 0.75)  # of the lowest F0
_REFERENCE_STEP_S = 0.01
_STEPS_A_FRAME = 2  # a path of smaller steps jumps less
_CANDIDATES = 8
_OVERSAMPLING = 2
_WINDOWS_AT_ONCE = 512
# how near a pitch that was moved comes to the ends of the models' range, and where it slows down
_NEAREST, _SLOWED_FROM = math.log(1.08), math.log(1.5)


class PitchRange(NamedTuple):
    """Where a speaker's voice lies: median and spread of log-F0 (natural logarithm of Hz)."""

    median: float
    spread: float


class Candidates(NamedTuple):
    """What F0 may be at each step; the first candidate is "unvoiced".

    There are `steps_a_frame` steps for each mel frame, and the first is the frame's own.
    """

    f0: Tensor  # (batch, steps, candidates) in Hz, 0 for unvoiced and for none
    strength: Tensor  # (batch, steps, candidates), -inf for none


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
        pieces = _windows(samples, config).split(_WINDOWS_AT_ONCE, dim=1)
        found = [_candidates(piece, clip_peak, config) for piece in pieces]
        return best_path(join_candidates(found), config)


def pitch_candidates(
    waveform: Tensor, config: FeatureConfig, peak: float | None = None
) -> Candidates:
    """The best candidates of each step by themselves.

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


def steps_a_frame(config: FeatureConfig) -> int:
    """Steps that the path takes from one mel frame to the next."""
    return math.gcd(config.hop_length, _STEPS_A_FRAME)


def _windows(waveform: Tensor, config: FeatureConfig) -> Tensor:
    """Two longest periods around each step, `(batch, steps, samples)`: a view, no copy."""
    length = 2 * math.ceil(config.sample_rate / config.f0_min) + 4  # and room for neighbouring lags
    padded = functional.pad(waveform, (length // 2, length - length // 2))
    return padded.unfold(-1, length, config.hop_length // steps_a_frame(config))


def _candidates(windows: Tensor, clip_peak: Tensor, config: FeatureConfig) -> Candidates:
    step = 1 / (_OVERSAMPLING * config.sample_rate)  # seconds between lags
    windows = windows - windows.mean(dim=-1, keepdim=True)
    correlation = _cross_correlation(windows, lags=int(1 / (config.f0_min * step)) + 2)
    lags, heights = _peaks(correlation, shortest=int(1 / (config.f0_max * step)))
    periods = lags.clamp(min=1.0) * step
    # a shorter period explains the same correlation better
    heights = heights - _OCTAVE_COST * torch.log2(periods * config.f0_min)
    none = lags == 0
    strength = heights.masked_fill(none, -math.inf)
    f0 = (1 / periods).masked_fill(none, 0.0)
    outer = windows.shape[-1] // 4
    hum = _slow_waves(windows.shape[-1], config).to(windows)
    faster = windows - windows @ hum @ hum.T  # or mains hum would be heard where nobody speaks
    loudness = faster[..., outer:-outer].abs().amax(dim=-1) / clip_peak.clamp(min=1e-5)
    above_silence = loudness / _SILENCE_THRESHOLD * (1 + _VOICING_THRESHOLD)
    unvoiced = _VOICING_THRESHOLD + (2 - above_silence).clamp(min=0.0)[..., None]  # (B, steps, 1)
    f0 = torch.cat([torch.zeros_like(unvoiced), f0], dim=-1)
    return Candidates(f0, torch.cat([unvoiced, strength], dim=-1))


def _slow_waves(length: int, config: FeatureConfig) -> Tensor:
    """What is slower than any voice: an orthonormal basis of it, `(length, waves)`."""
    turns = np.arange(length) * config.f0_min / config.sample_rate
    angles = [2 * np.pi * share * turns for share in _SLOWER]
    waves = np.stack([f(angle) for angle in angles for f in (np.cos, np.sin)], axis=1)
    return torch.from_numpy(np.linalg.qr(waves)[0].astype(np.float32))


def _cross_correlation(windows: Tensor, lags: int) -> Tensor:
    """How alike the first stretch of each window is to later ones, `(batch, steps, lags)`, -1 to 1.

    The stretch is all of the window `(batch, steps, samples)` that the longest lag leaves. Lags go
    from 0 on, `_OVERSAMPLING` to a sample.
    """
    length = windows.shape[-1]
    stretch = length - math.ceil(lags / _OVERSAMPLING) - 1
    n_fft = 1 << (length - 1).bit_length()
    spectrum = torch.fft.rfft(windows, n_fft)
    cross = spectrum * torch.fft.rfft(windows[..., :stretch], n_fft).conj()
    # the inverse transform, longer, since that interpolates between lags; what comes out is real,
    # so forward transforms of one half of either part do the same
    even = torch.fft.rfft(cross.real, _OVERSAMPLING * n_fft).real
    odd = torch.fft.rfft(cross.imag, _OVERSAMPLING * n_fft).imag
    products = (2 * (even + odd) - cross.real[..., :1])[..., :lags] / n_fft
    power = functional.pad(windows.square().cumsum(dim=-1), (1, 0))
    power = power[..., stretch:] - power[..., :-stretch]  # of the stretch at each whole lag
    shares = torch.arange(_OVERSAMPLING, device=windows.device) / _OVERSAMPLING
    between = torch.lerp(power[..., :-1, None], power[..., 1:, None], shares)
    power_there = between.flatten(-2)[..., :lags]
    return products / (power[..., :1] * power_there).clamp(min=1e-12).sqrt()


def _peaks(correlation: Tensor, shortest: int) -> tuple[Tensor, Tensor]:
    """The strongest local maxima of each step beyond lag `shortest`: lags (0: none), heights."""
    left, middle, right = correlation[..., :-2], correlation[..., 1:-1], correlation[..., 2:]
    is_peak = (middle > left) & (middle >= right) & (middle > 0.5 * _VOICING_THRESHOLD)
    is_peak = is_peak & (torch.arange(middle.shape[-1], device=middle.device) >= shortest - 1)
    count = min(_CANDIDATES, middle.shape[-1])
    heights, best = middle.masked_fill(~is_peak, 0.0).topk(count, dim=-1)
    a, b, c = (neighbour.gather(-1, best) for neighbour in (left, middle, right))
    curvature = (a - 2 * b + c).clamp(max=-1e-12)
    offset = 0.5 * (a - c) / curvature  # of a parabola through the three points
    height = b - 0.25 * (a - c) * offset
    # interpolation can overshoot
    height = torch.where(height > 1, 1 / height.clamp(min=1.0), height)
    none = heights == 0
    return (best + 1 + offset).masked_fill(none, 0.0), height.masked_fill(none, 0.0)


def join_candidates(parts: Sequence[Candidates]) -> Candidates:
    """One stretch of time after the other."""
    return Candidates(*(torch.cat(part, dim=1) for part in zip(*parts, strict=True)))


def best_path(candidates: Candidates, config: FeatureConfig) -> FloatArray:
    """F0 along the strongest path with the fewest jumps (Viterbi), `(frames,)`; 0 where unvoiced.

    Args:
        candidates: of one clip, or a part of one.
        config: gives the time between steps.
    """
    f0, strengths = (part[0].double().numpy() for part in candidates)  # (steps, candidates) each
    voiced = f0 > 0
    log_f0 = np.log2(np.where(voiced, f0, 1.0))
    before, after = (slice(None, -1), slice(None), None), (slice(1, None), None)
    jump = OCTAVE_JUMP_COST * np.abs(log_f0[before] - log_f0[after])
    switch = VOICING_COST * (voiced[before] != voiced[after])
    # (steps - 1, candidates before, candidates after)
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
    track = f0[np.arange(len(f0)), path].astype(np.float32)
    return track[:: steps_a_frame(config)].copy()  # caches are written from contiguous arrays only


def cost_scale(config: FeatureConfig) -> float:
    """What the costs of changes from step to step are multiplied by."""
    return _REFERENCE_STEP_S * config.frame_rate * steps_a_frame(config)


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


def within_range(f0: FloatArray, config: FeatureConfig) -> FloatArray:
    """Hold F0 in Hz where models have heard speech, `f0_min` to `f0_max`; unvoiced stays 0.

    Towards either end it comes to a halt gradually, and before it: a melody stays one, and at the
    very end of their range neither models nor listeners follow.
    """
    log_f0 = np.log(np.where(f0 > 0, f0, 1.0))
    held = log_f0.clip(
        math.log(config.f0_min) + _SLOWED_FROM, math.log(config.f0_max) - _SLOWED_FROM
    )
    way = _SLOWED_FROM - _NEAREST  # that is left of what lies beyond
    held += way * np.tanh((log_f0 - held) / way)
    return np.where(f0 > 0, np.exp(held), 0.0).astype(np.float32)


def moved_f0(
    f0: FloatArray, wanted: PitchRange | None, pitch: Pitch, config: FeatureConfig
) -> FloatArray:
    """A source's F0 track `(frames,)` in Hz, as it is to be spoken in a voice of range `wanted`.

    Creak, or a frame that was tracked an octave off, can land where no model has heard a voice; it
    is held within the range of `config`, or it would chirp. What does not move stays as it is.
    """
    if pitch == "keep":
        return f0
    if pitch == "match":
        moved = match_range(f0, pitch_range(f0), wanted)
    else:
        moved = shift_semitones(f0, float(pitch))
    return f0 if np.array_equal(moved, f0) else within_range(moved, config)


def match_range(
    f0: FloatArray, source: PitchRange | None, reference: PitchRange | None
) -> FloatArray:
    """Move F0 so that its median is the reference's; intonation (in semitones) stays the source's.

    Without a known range on either side F0 is returned unchanged.
    """
    if source is None or reference is None:
        return f0
    return shift_semitones(f0, 12 * (reference.median - source.median) / np.log(2))
