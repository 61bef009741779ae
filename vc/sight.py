"""What the model sees of a clip, as a few numbers for each of several aspects.

How well the autoencoder rebuilds it, how content moves, where the voice lies among known voices,
pitch, rhythm, the lines of the spectrum, and what changes its sign when time is reversed.
`vc.anomaly` tells from these what is normal.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from vc.audio import Waveform, normalize_level, trim_silence
from vc.features import LogMel
from vc.model.autoencoder import Autoencoder, Latent
from vc.model.layers import smooth_bands
from vc.model.speaker_encoder import split_embedding
from vc.pitch import estimate_f0, interpolate_log_f0, pitch_range
from vc.voice import Voice
from vc.voice_prior import VoicePrior, voice_vector

LOOKED_AT_S = 10.0  # of a longer clip, its middle
SHORTEST_S = 1.0  # of speech; less has no statistics

FloatArray = npt.NDArray[np.float64]

_GROUPS = 8  # of mel bands
_CONTENT_LAGS = (1, 2, 4, 8, 16)  # frames
_TIME_BANDS, _TIME_LAGS = 10, (1, 2, 4, 8, 16)
_RHYTHM_HZ = ((0.5, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, 16.0), (16.0, 32.0))
_COEFFICIENTS = 20  # cepstral ones that make the broad shape of a spectrum
_ACTIVE_RANGE = 1.5  # corpus deviations below the loud frames


class Sight(NamedTuple):
    """What the model sees of a clip."""

    aspects: dict[str, FloatArray]  # numbers of each aspect
    correlation: FloatArray  # (content_dim, content_dim), of the content's channels
    order: FloatArray  # (statistics,), each changes its sign when time is reversed
    voiced: float  # share of the loud frames
    one_line: float  # share of power in the strongest line of the spectrum
    bandwidth_hz: float


def look(
    autoencoder: Autoencoder, log_mel: LogMel, prior: VoicePrior, waveform: Waveform
) -> Sight | None:
    """Look at a clip with the model.

    Args:
        autoencoder: the model.
        log_mel: its features.
        prior: of the model's voices.
        waveform: `(samples,)` at the model's rate.

    Returns:
        None if there is too little that is not silence.
    """
    features = autoencoder.features
    rate = features.sample_rate
    waveform = trim_silence(normalize_level(waveform, rate, features.level_db), rate)
    if len(waveform) < SHORTEST_S * rate:
        return None
    samples = round(LOOKED_AT_S * rate)
    first = max(0, (len(waveform) - samples) // 2)
    waveform = np.clip(waveform[first : first + samples], -1, 1)
    f0 = estimate_f0(waveform, features)
    device = autoencoder.get_buffer("mel_mean").device
    with torch.inference_mode():
        spectrum = log_mel.spectrum(torch.from_numpy(waveform)[None].to(device))
        given = log_mel.of_spectrum(spectrum)
        # what happened to a clip shall be seen, not mended
        speaker = autoencoder.encode_speaker(given, repaired=False)
        latent = Latent(autoencoder.encode_content(given), speaker)
        rebuilt, across = _rebuild(autoencoder, given, latent, f0)
        mel = autoencoder.normalize(given)
        broad = smooth_bands(mel, _COEFFICIENTS)
        broad_error = smooth_bands(mel - rebuilt, _COEFFICIENTS)
        parts = split_embedding(latent.speaker_embedding, autoencoder.config)
        power = _array(spectrum.abs().square())
        pieces = [_array(x) for x in (mel, rebuilt, across, broad, broad_error, latent.content)]
    mel_, rebuilt_, across_, broad_, broad_error_, content = pieces
    active = mel_.mean(axis=0)
    active = active >= np.quantile(active, 0.95) - _ACTIVE_RANGE
    error = mel_ - rebuilt_
    errors = [*np.split(error[:, active], _GROUPS), broad_error_[:, active]]
    errors += [(error - broad_error_)[:, active], *np.split(np.diff(error, axis=1), 4)]
    own = [_spread(mel_[:, active]), _spread(broad_[:, active])]
    cross = _log_rms((mel_ - across_)[:, active])
    relative = [_log_rms(error[:, active]) - own[0], _log_rms(broad_error_[:, active]) - own[1]]
    relative += [cross, cross - _log_rms(error[:, active])]
    embedding = latent.speaker_embedding[0].cpu()
    loud = power[:, active]
    strongest = loud.argmax(axis=0)[None] + np.arange(-2, 3)[:, None]
    lines = np.take_along_axis(loud, np.clip(strongest, 0, len(loud) - 1), axis=0)
    voice = [_groups(_array(parts.mean), 16), _groups(_array(parts.log_deviation), 16)]
    aspects = {
        "rebuilding": np.array([*map(_log_rms, errors), *relative]),
        "content": _content_numbers(content),
        "voice": np.concatenate([*voice, _place(Voice(embedding, pitch_range(f0)), prior)]),
        "pitch": _pitch_numbers(f0, active),
        "rhythm": _rhythm_numbers(mel_, active, features.frame_rate),
        "lines": _line_numbers(mel_ - broad_, active),
    }
    return Sight(
        aspects,
        content @ content.T / content.shape[1],
        _order_numbers(mel_),
        float((f0 > 0)[active].mean()),
        float(np.median(lines.sum(axis=0) / np.maximum(loud.sum(axis=0), 1e-12))),
        _bandwidth_hz(loud.mean(axis=1), rate),
    )


def aspects_with(sight: Sight, correlation: FloatArray) -> dict[str, FloatArray]:
    """A clip's aspects and their whole, given the mean correlation of content channels."""
    off = np.log(np.square(sight.correlation - correlation).mean())
    numbers = sight.aspects | {"content": np.append(sight.aspects["content"], off)}
    return numbers | {"whole": np.concatenate(list(numbers.values()))}


def _rebuild(
    autoencoder: Autoencoder, log_mel: torch.Tensor, latent: Latent, f0: npt.NDArray[np.float32]
) -> tuple[torch.Tensor, torch.Tensor]:
    """A clip, normalised, from its own latent; and each half with the speaker of the other."""
    device = log_mel.device
    log_f0 = torch.from_numpy(interpolate_log_f0(f0))[None].to(device)
    voiced = torch.from_numpy((f0 > 0).astype(np.float32))[None].to(device)
    middle = log_mel.shape[-1] // 2
    speakers = [
        latent.speaker_embedding,
        autoencoder.encode_speaker(log_mel[..., middle:], repaired=False),
        autoencoder.encode_speaker(log_mel[..., :middle], repaired=False),
    ]
    own, first, second = (
        autoencoder.normalize(autoencoder.decode(Latent(latent.content, who), log_f0, voiced))
        for who in speakers
    )
    return own, torch.cat([first[..., :middle], second[..., middle:]], dim=-1)


def _content_numbers(content: FloatArray) -> FloatArray:
    """How fast content moves, and how its values are distributed."""
    near = [(content[:, :-lag] * content[:, lag:]).mean() for lag in _CONTENT_LAGS]
    return np.array([*near, (content**4).mean(), (content**3).mean()])


def _place(voice: Voice, prior: VoicePrior) -> FloatArray:
    """How far a voice lies from known ones, within and beside their space; its pitch."""
    vector = voice_vector(voice)
    if vector is None:  # without a pitch
        vector = np.concatenate([voice.speaker_embedding.numpy(), prior.mean[-2:]])
    standard = (vector - prior.mean) / prior.scale
    inside = prior.components @ standard
    beside = standard - inside @ prior.components
    within = np.log(np.square(inside / prior.deviation).mean())
    return np.array([within, np.log(np.square(beside).mean() + 1e-4), vector[-2]])


def _pitch_numbers(f0: npt.NDArray[np.float32], active: npt.NDArray[np.bool_]) -> FloatArray:
    """How much is voiced, in how long runs, and how pitch moves."""
    voiced = f0 > 0
    steps = np.abs(np.diff(np.log(np.where(voiced, f0, 1.0))))[voiced[1:] & voiced[:-1]]
    steps = steps if len(steps) else np.zeros(1)
    turns = np.flatnonzero(np.diff(np.concatenate([[0], voiced, [0]]).astype(int)))
    run = (turns[1::2] - turns[::2]).mean() if len(turns) else 1.0
    place = pitch_range(f0)
    median, spread = place if place is not None else (5.0, 0.0)
    outside = voiced[~active].mean() if not active.all() else 0.0
    moves = [np.log(steps.mean() + 0.002), (steps < 0.006).mean(), (steps > 0.1).mean()]
    return np.array(
        [voiced[active].mean(), outside, median, np.log(spread + 0.01), *moves, np.log(run)]
    )


def _rhythm_numbers(
    mel: FloatArray, active: npt.NDArray[np.bool_], frame_rate: float
) -> FloatArray:
    """Where the power of the level's modulation lies, over all bands and in four groups."""
    level = mel.mean(axis=0)
    numbers = [active.mean(), _log_rms(level - level.mean())]
    for bands in (mel, *np.split(mel, 4)):
        envelope = bands.mean(axis=0)
        envelope = (envelope - envelope.mean()) * np.hanning(len(envelope))
        points = max(256, len(envelope))
        power = np.abs(np.fft.rfft(envelope, points)) ** 2
        frequency = np.fft.rfftfreq(points, 1 / frame_rate)
        total = power[frequency > _RHYTHM_HZ[0][0]].sum() + 1e-6
        for low, high in _RHYTHM_HZ:
            share = power[(frequency > low) & (frequency <= high)].sum() / total
            numbers.append(np.log(share + 1e-4))
    return np.array(numbers)


def _line_numbers(detail: FloatArray, active: npt.NDArray[np.bool_]) -> FloatArray:
    """How strong the fine lines of the spectrum are, and how long they stay.

    Lines that never change, such as hum and what a microphone adds, are left out.
    """
    detail = detail - detail.mean(axis=1, keepdims=True)
    power = np.square(detail).mean() + 1e-6
    stay = [(detail[:, :-lag] * detail[:, lag:]).mean() / power for lag in (1, 4, 16)]
    thirds = [_log_rms(third) for third in np.array_split(detail[:, active], 3)]
    return np.array([*stay, *thirds])


def _order_numbers(mel: FloatArray) -> FloatArray:
    """Statistics that only change their sign when a clip is played backwards.

    Which band leads which, and whether rises are steeper than falls: speech sets in faster than
    it fades.
    """
    bands = _groups_of_frames(mel, _TIME_BANDS)
    bands = bands - bands.mean(axis=1, keepdims=True)
    bands = bands / (bands.std() + 1e-3)
    pairs = np.triu_indices(_TIME_BANDS, 1)
    numbers = []
    for lag in _TIME_LAGS:
        before, after = bands[:, :-lag], bands[:, lag:]
        covariance = before @ after.T / before.shape[1]
        numbers.append((covariance - covariance.T)[pairs])
        numbers.append(((after - before) ** 3).mean(axis=1))
        numbers.append((before**2 * after - before * after**2).mean(axis=1))
    return np.concatenate(numbers)


def _bandwidth_hz(power: FloatArray, sample_rate: int) -> float:
    """The frequency above which there is next to nothing of a mean spectrum `(bins,)`."""
    above = np.cumsum(power[::-1])[::-1] / max(power.sum(), 1e-12)
    edge = int(np.flatnonzero(above > 3e-5)[-1]) if power.sum() > 0 else 0
    return edge * sample_rate / 2 / (len(power) - 1)


def _groups(values: FloatArray, count: int) -> FloatArray:
    return values.reshape(count, -1).mean(axis=1)


def _groups_of_frames(mel: FloatArray, count: int) -> FloatArray:
    return mel.reshape(count, -1, mel.shape[1]).mean(axis=1)


def _spread(values: FloatArray) -> float:
    return _log_rms(values - values.mean(axis=1, keepdims=True))


def _log_rms(values: FloatArray) -> float:
    return float(0.5 * np.log(np.square(values).mean() + 1e-4))


def _array(tensor: torch.Tensor) -> FloatArray:
    """The first of a batch."""
    return tensor[0].double().cpu().numpy()
