"""Is a clip the kind of speech that the model knows? One-class detection by the model's own eyes.

An autoencoder rebuilds well what it was trained on, and badly what is strange to it. Beside the
error of rebuilding stand other things that the model sees: how content moves, where the voice
lies among known voices, pitch, rhythm, the lines of the spectrum, the direction of time and how
fast a clip seems to be played. Each of these aspects is a few numbers. A Gaussian over each is
fitted to real speech of training speakers only (`recipes/shipped/check.py`); the Mahalanobis
distance from its centre becomes a p-value by the distances of speech that the Gaussian was not
fitted to. A clip is as strange as its strangest aspect (the smallest of several p-values, Tippett
1931).

No anomaly is needed for this. Two directions are learnt from the same speech played wrongly:
backwards, and too fast or too slowly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vc.audio import Waveform, normalize_level, trim_silence
from vc.errors import CheckpointError
from vc.features import LogMel
from vc.model.autoencoder import Autoencoder, Latent
from vc.model.layers import smooth_bands
from vc.model.speaker_encoder import split_embedding
from vc.pitch import estimate_f0, interpolate_log_f0, pitch_range
from vc.safe_write import write_bytes
from vc.voice import Voice
from vc.voice_prior import VoicePrior, voice_vector

NORMALITY_FILE = "normality.safetensors"
LOOKED_AT_S = 10.0  # of a longer clip, its middle
SHORTEST_S = 1.0  # of speech; less has no statistics
STRANGE_BELOW = 0.01  # share of real clips that are as strange: below it a clip is called strange

FloatArray = npt.NDArray[np.float64]
Kind = Literal[
    "tones", "noise", "music", "reversed", "telephone", "fast", "slow", "unlike the known speech"
]

_GROUPS = 8  # of mel bands
_CONTENT_LAGS = (1, 2, 4, 8, 16)  # frames
_TIME_BANDS, _TIME_LAGS = 10, (1, 2, 4, 8, 16)
_RHYTHM_HZ = ((0.5, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, 16.0), (16.0, 32.0))
_COEFFICIENTS = 20  # cepstral ones that make the broad shape of a spectrum
_ACTIVE_RANGE = 1.5  # corpus deviations below the loud frames
_RIDGE = 0.02
_KNOTS = np.linspace(0, 1, 201)  # of the stored distribution of distances
_TAIL = 0.05  # beyond which distances are taken to fall off exponentially

_NOT_SPEECH_P = 0.001  # of the lines of the spectrum
_VOICED = 0.15
_ONE_LINE = 0.85  # share of a frame's power in its strongest few bins
_BACKWARDS = -0.2  # speech has about 0.8, and is below this in one clip of a thousand
_TELEPHONE_HZ = 4300.0
_SPEED = 0.25  # natural log


class Sight(NamedTuple):
    """What the model sees of a clip."""

    aspects: dict[str, FloatArray]  # numbers of each aspect
    correlation: FloatArray  # (content_dim, content_dim), of the content's channels
    order: FloatArray  # (statistics,), each changes its sign when time is reversed
    voiced: float  # share of the loud frames
    one_line: float  # share of power in the strongest line of the spectrum
    bandwidth_hz: float


class Strangeness(NamedTuple):
    """How strange a clip is to the model."""

    p: float  # share of real clips of speech that look as strange
    aspect: str  # the strangest
    kind: Kind | None  # of strangeness; None for a clip that is not strange
    logs: dict[str, float]  # -log of each aspect's own p-value, for ranking beyond what p resolves

    @property
    def score(self) -> float:
        """Grows with strangeness, without limit."""
        return max(self.logs.values())


@dataclass(frozen=True)
class Gaussian:
    """What is normal for one aspect."""

    centre: FloatArray  # (numbers,)
    precision: FloatArray  # (numbers, numbers), the inverse of the covariance
    distances: FloatArray  # (knots,), quantiles of the distances of clips it was not fitted to
    tail: float  # mean excess of the largest of these

    def distance(self, numbers: FloatArray) -> FloatArray:
        """Mahalanobis distance of `(..., numbers)`."""
        away = numbers - self.centre
        square = np.einsum("...i,ij,...j->...", away, self.precision, away)
        result: FloatArray = np.sqrt(np.maximum(square, 0.0))
        return result

    def minus_log_p(self, distance: float) -> float:
        """-log of the share of real clips that lie as far out."""
        start = float(np.interp(1 - _TAIL, _KNOTS, self.distances))
        if distance > start:
            return -np.log(_TAIL) + (distance - start) / self.tail
        return -np.log(1 - float(np.interp(distance, self.distances, _KNOTS)))


@dataclass(frozen=True)
class Normality:
    """What is known of normal speech, fitted to one model."""

    correlation: FloatArray  # mean of the training clips'
    forward: FloatArray  # (statistics,), weights that tell the direction of time
    speed: FloatArray  # (numbers + 1,), weights of all aspects, then a constant: log of the speed
    aspects: dict[str, Gaussian]
    scores: FloatArray  # (knots,), quantiles of the largest -log p of real clips

    def judge(self, sight: Sight) -> Strangeness:
        """How strange a clip is that was looked at."""
        numbers = self.numbers(sight)
        logs = {
            name: normal.minus_log_p(float(normal.distance(numbers[name])))
            for name, normal in self.aspects.items()
        }
        aspect = max(logs, key=lambda name: logs[name])
        p = self._share_as_strange(logs[aspect])
        # backwards is plain from one number, of which speech is on one side of zero
        strange = p < STRANGE_BELOW or numbers["time"][0] < _BACKWARDS
        kind = self._kind(sight, numbers, logs) if strange else None
        return Strangeness(p, aspect, kind, logs)

    def numbers(self, sight: Sight) -> dict[str, FloatArray]:
        """The numbers of every aspect, those that need what was learnt included."""
        numbers = aspects_with(sight, self.correlation)
        numbers["time"] = np.array([self.forward @ sight.order])
        numbers["speed"] = np.array([self.speed[:-1] @ numbers["whole"] + self.speed[-1]])
        return numbers

    def _share_as_strange(self, score: float) -> float:
        start = float(np.interp(1 - _TAIL, _KNOTS, self.scores))
        if score <= start:
            return float(1 - np.interp(score, self.scores, _KNOTS))
        return float(_TAIL * np.exp(start - score))  # -log p of a real clip is exponential there

    def _kind(self, sight: Sight, numbers: dict[str, FloatArray], logs: dict[str, float]) -> Kind:
        """What a strange clip seems to be, from what is plain of it."""
        if logs["lines"] > -np.log(_NOT_SPEECH_P) or sight.voiced < _VOICED:
            if sight.one_line > _ONE_LINE:
                return "tones"
            return "noise" if sight.voiced < _VOICED else "music"
        if numbers["time"][0] < _BACKWARDS:
            return "reversed"
        if sight.bandwidth_hz < _TELEPHONE_HZ:
            return "telephone"
        if abs(numbers["speed"][0]) > _SPEED:
            return "fast" if numbers["speed"][0] > 0 else "slow"
        return "unlike the known speech"


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
        latent = autoencoder.encode(given)
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
        autoencoder.encode_speaker(log_mel[..., middle:]),
        autoencoder.encode_speaker(log_mel[..., :middle]),
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


def fit_normality(
    sights: list[Sight], altered: list[tuple[Sight, float]], folds: int = 4
) -> Normality:
    """Learn what is normal.

    Distances are calibrated by cross-fitting: each clip's is to a Gaussian that was fitted without
    it.

    Args:
        sights: of clips of real speech.
        altered: of clips played at other speeds, with the natural log of the speed.
        folds: into which `sights` are cut.
    """
    fold = np.arange(len(sights)) % folds
    logs: dict[str, FloatArray] = {}
    distances: dict[str, FloatArray] = {}
    for number in range(folds):
        part = _learn([s for s, f in zip(sights, fold, strict=True) if f != number], altered)
        centres = _fit(part, [s for s, f in zip(sights, fold, strict=True) if f != number])
        held = np.flatnonzero(fold == number)
        numbers = [part.numbers(sights[i]) for i in held]
        for name, gaussian in centres.items():
            values = gaussian.distance(np.stack([row[name] for row in numbers]))
            distances.setdefault(name, np.zeros(len(sights)))[held] = values
    learnt = _learn(sights, altered)
    aspects = {}
    for name, gaussian in _fit(learnt, sights).items():
        knots = np.quantile(distances[name], _KNOTS)
        start = np.quantile(distances[name], 1 - _TAIL)
        tail = float((distances[name][distances[name] > start] - start).mean())
        aspects[name] = Gaussian(gaussian.centre, gaussian.precision, knots, tail)
        logs[name] = np.array([aspects[name].minus_log_p(d) for d in distances[name]])
    scores = np.quantile(np.max(list(logs.values()), axis=0), _KNOTS)
    return Normality(learnt.correlation, learnt.forward, learnt.speed, aspects, scores)


def _learn(sights: list[Sight], altered: list[tuple[Sight, float]]) -> Normality:
    """What comes before the Gaussians: mean correlation, direction of time, speed."""
    correlation = np.mean([sight.correlation for sight in sights], axis=0)
    order = np.stack([sight.order for sight in sights])
    scale = order.std(axis=0) + 1e-9
    # played backwards each row is its negative, so this is regression on 1 forwards, -1 backwards
    forward = _ridge(order / scale, np.ones(len(order)), 0.3) / scale
    rows = np.stack([aspects_with(s, correlation)["whole"] for s, _ in altered])
    targets = np.array([log_speed for _, log_speed in altered])
    centre, scale = rows.mean(axis=0), rows.std(axis=0) + 1e-9
    weights = _ridge((rows - centre) / scale, targets - targets.mean(), 0.1) / scale
    constant = targets.mean() - weights @ centre
    return Normality(correlation, forward, np.append(weights, constant), {}, np.zeros(0))


def _ridge(rows: FloatArray, targets: FloatArray, weight: float) -> FloatArray:
    gram = rows.T @ rows / len(rows) + weight * np.eye(rows.shape[1])
    return np.linalg.solve(gram, rows.T @ targets / len(rows)).astype(np.float64)


def _fit(learnt: Normality, sights: list[Sight]) -> dict[str, Gaussian]:
    """A Gaussian an aspect, not yet calibrated."""
    numbers = [learnt.numbers(sight) for sight in sights]
    gaussians = {}
    for name in numbers[0]:
        rows = np.stack([row[name] for row in numbers])
        covariance: FloatArray = np.atleast_2d(np.cov(rows.T)).astype(float)
        covariance = covariance + np.diag(_RIDGE * np.diag(covariance))
        precision = np.linalg.inv(covariance).astype(np.float64)
        gaussians[name] = Gaussian(np.median(rows, axis=0), precision, np.zeros(0), 0.0)
    return gaussians


def save_normality(path: Path, normality: Normality, model_sha256: str) -> None:
    """Write it beside the model it belongs to, whole or not at all."""
    tensors: dict[str, Any] = {
        name: getattr(normality, name) for name in ("correlation", "forward", "speed", "scores")
    }
    for name, gaussian in normality.aspects.items():
        tensors |= {f"{name}/{field}": value for field, value in vars(gaussian).items()}
    stored = {
        name: np.ascontiguousarray(value, np.float16 if name == "correlation" else np.float32)
        for name, value in tensors.items()
    }
    write_bytes(path, save(stored, {"model": model_sha256}))


def load_normality(path: Path, model_sha256: str) -> Normality | None:
    """Read what is normal to a model; None where nothing was fitted to it.

    Raises:
        CheckpointError: damaged.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            model = (file.metadata() or {}).get("model")
            stored = {n: file.get_tensor(n).astype(float) for n in file.keys()}  # noqa: SIM118
        if model != model_sha256:
            return None  # another model sees other numbers
        aspects = {}
        for name in sorted({key.split("/")[0] for key in stored if "/" in key}):
            fields = ("centre", "precision", "distances")
            rest = {field: stored.pop(f"{name}/{field}") for field in fields}
            aspects[name] = Gaussian(**rest, tail=stored.pop(f"{name}/tail").item())
        return Normality(aspects=aspects, **stored)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged; copy the model again") from error
