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
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vc.errors import CheckpointError
from vc.safe_write import write_bytes
from vc.sight import FloatArray, Sight, aspects_with

NORMALITY_FILE = "normality.safetensors"
STRANGE_BELOW = 0.01  # share of real clips that are as strange: below it a clip is called strange

Kind = Literal[
    "tones", "noise", "music", "reversed", "telephone", "fast", "slow", "unlike the known speech"
]

_RIDGE = 0.02
_KNOTS = np.linspace(0, 1, 201)  # of the stored distribution of distances
_TAIL = 0.05  # beyond which distances are taken to fall off exponentially

_NOT_SPEECH_P = 0.001  # of the lines of the spectrum
_VOICED = 0.15
_ONE_LINE = 0.85  # share of a frame's power in its strongest few bins
_BACKWARDS = -0.2  # speech has about 0.8, and is below this in one clip of a thousand
_TELEPHONE_HZ = 4300.0
_SPEED = 0.25  # natural log


class Example(NamedTuple):
    """A clip to learn from."""

    sight: Sight
    speaker: str
    log_speed: float = 0.0  # natural log of how fast it is played


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
            if sight.voiced < _VOICED:  # rumbling, too, has most of its power in a few bins
                return "noise"
            return "tones" if sight.one_line > _ONE_LINE else "music"
        if numbers["time"][0] < _BACKWARDS:
            return "reversed"
        if sight.bandwidth_hz < _TELEPHONE_HZ:
            return "telephone"
        if abs(numbers["speed"][0]) > _SPEED:
            return "fast" if numbers["speed"][0] > 0 else "slow"
        return "unlike the known speech"


def fit_normality(real: list[Example], altered: list[Example], folds: int = 4) -> Normality:
    """Learn what is normal.

    Distances are calibrated by cross-fitting: each clip's is to a Gaussian that was fitted without
    any clip of its speaker.

    Args:
        real: clips of real speech.
        altered: clips played at other speeds.
        folds: into which the speakers are cut.
    """
    speakers = sorted({example.speaker for example in real})
    fold_of = {speaker: number % folds for number, speaker in enumerate(speakers)}
    logs: dict[str, FloatArray] = {}
    distances: dict[str, list[float]] = {}
    for fold in range(folds):
        others = [example for example in real if fold_of[example.speaker] != fold]
        part = _learn(others, [e for e in altered if fold_of.get(e.speaker) != fold])
        gaussians = _fit(part, others)
        held_out = [part.numbers(e.sight) for e in real if fold_of[e.speaker] == fold]
        for name, gaussian in gaussians.items():
            rows = np.stack([numbers[name] for numbers in held_out])
            distances.setdefault(name, []).extend(gaussian.distance(rows))
    learnt = _learn(real, altered)
    aspects = {}
    for name, gaussian in _fit(learnt, real).items():
        knots = np.quantile(distances[name], _KNOTS)
        start = np.quantile(distances[name], 1 - _TAIL)
        tail = float(np.mean([d - start for d in distances[name] if d > start]))
        aspects[name] = Gaussian(gaussian.centre, gaussian.precision, knots, tail)
        logs[name] = np.array([aspects[name].minus_log_p(d) for d in distances[name]])
    scores = np.quantile(np.max(list(logs.values()), axis=0), _KNOTS)
    return Normality(learnt.correlation, learnt.forward, learnt.speed, aspects, scores)


def _learn(real: list[Example], altered: list[Example]) -> Normality:
    """What comes before the Gaussians: mean correlation, direction of time, speed."""
    correlation = np.mean([example.sight.correlation for example in real], axis=0)
    order = np.stack([example.sight.order for example in real])
    scale = order.std(axis=0) + 1e-9
    # played backwards each row is its negative, so this is regression on 1 forwards, -1 backwards
    forward = _ridge(order / scale, np.ones(len(order)), 0.3) / scale
    played = altered + real[: len(altered)]
    rows = np.stack([aspects_with(e.sight, correlation)["whole"] for e in played])
    targets = np.array([example.log_speed for example in played])
    centre, scale = rows.mean(axis=0), rows.std(axis=0) + 1e-9
    weights = _ridge((rows - centre) / scale, targets - targets.mean(), 0.1) / scale
    constant = targets.mean() - weights @ centre
    return Normality(correlation, forward, np.append(weights, constant), {}, np.zeros(0))


def _ridge(rows: FloatArray, targets: FloatArray, weight: float) -> FloatArray:
    gram = rows.T @ rows / len(rows) + weight * np.eye(rows.shape[1])
    return np.linalg.solve(gram, rows.T @ targets / len(rows)).astype(np.float64)


def _fit(learnt: Normality, real: list[Example]) -> dict[str, Gaussian]:
    """A Gaussian an aspect, not yet calibrated."""
    numbers = [learnt.numbers(example.sight) for example in real]
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
