"""Training task of a decoder that learns voices well, when it comes to learning one.

A decoder is trained to say what it is told of everybody; then, for each voice, its second half
learns from a clip or two (`vc.learn_voice`). Where it had better begin, so that what it learns from
one clip holds for others, is learnt here (model-agnostic meta-learning, first order, Finn et al.
2017, arXiv:1703.03400): it learns a voice from one clip, is asked about another clip of the same
speaker, and the gradient that it meets there is followed from where it began.

Speakers that it was trained on it knows too well to learn much of them. So they are made strangers:
the mel axis of all clips of one is stretched and bent alike.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vc.checkpoint import load_autoencoder, save_checkpoint
from vc.config import (
    DataConfig,
    FeatureConfig,
    OptimizerConfig,
    RunConfig,
    require_interval,
    require_not_negative,
)
from vc.errors import ConfigError
from vc.learn_voice import (
    Exercise,
    Lesson,
    cut_exercises,
    hear_lesson,
    learn_voice,
    lesson_loss,
    make_exercise,
    say_exercise,
)
from vc.model.decoder import Decoder
from vc.model.layers import read_between_bands
from vc.model.tuning import Tuning, tunable, tuned, with_weights
from vc.pitch import moved_f0, pitch_range
from vc.training.board import Example
from vc.training.data import SpeechData
from vc.training.loop import make_optimizer, named_autoencoder, start_from
from vc.voice import Voice

_PIECES = 8  # of a question, for each step


@dataclass(frozen=True)
class StrangerConfig:
    """How speakers are made strangers."""

    stretch: tuple[float, ...] = (0.06, 0.16)  # of the mel axis, natural log; up or down
    bend: float = 2.0  # bands, at most
    bend_centre: tuple[float, ...] = (28.0, 62.0)  # bands
    bend_width: tuple[float, ...] = (7.0, 14.0)  # bands, a standard deviation

    def __post_init__(self) -> None:
        for name in ("stretch", "bend_centre", "bend_width"):
            require_interval(self, "strangers", name)
        require_not_negative(self, "strangers", "bend")


@dataclass(frozen=True)
class QuickLearningRecipe:
    """Everything that one such run is made of."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    autoencoder: str = ""  # checkpoint to start from; the shipped one by default
    strangers: StrangerConfig = field(default_factory=StrangerConfig)
    steps: tuple[int, ...] = (12, 32)  # that a voice is learnt in, fewest and most
    others: int = 4  # voices that a clip is also said in
    listened: float = 0.3  # weight of the loss of a voice that is only listened to
    data: DataConfig = field(
        default_factory=lambda: DataConfig(segment_frames=500, batch_size=4, min_clip_s=2.0)
    )
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        require_interval(self, "recipe", "steps")
        require_not_negative(self, "recipe", "listened")
        if self.others < 1 or self.steps[0] < 1:
            raise ConfigError("recipe: others and steps must be at least 1")


class _Clip(NamedTuple):
    """A piece of speech, of a stranger perhaps."""

    log_mel: Tensor  # (1, n_mels, frames)
    f0: np.ndarray  # (frames,), Hz, 0 where unvoiced


class _Trial(NamedTuple):
    """A voice to learn, and what is asked of whoever has learnt it."""

    embedding: Tensor  # (1, embedding_dim), of the clip that is learnt
    lesson: Lesson
    question: Exercise  # about another clip


class QuickLearningTask:
    """See `vc.training.loop.Task`."""

    name = "autoencoder"

    def __init__(self, recipe: QuickLearningRecipe, cache: Path, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.teacher = (
            named_autoencoder(recipe.autoencoder, recipe.features).to(device).eval()
        ).requires_grad_(False)
        self.model = copy.deepcopy(self.teacher)
        if recipe.run.initial:
            initial = load_autoencoder(Path(recipe.run.initial))
            start_from(self.model, initial, recipe.run.fresh)
        self.average = copy.deepcopy(self.model)
        learning = [parameter for _, parameter in tunable(self.model.decoder)]
        self.modules: dict[str, nn.Module] = {"autoencoder": self.model, "average": self.average}
        self.optimizers = {"autoencoder": make_optimizer(iter(learning), recipe.optimizer)}
        self.train_data, self.validation = (
            SpeechData(cache, split, recipe.features, recipe.data)
            for split in ("train", "validation")
        )

    def add_gradients(self, step: int, generator: np.random.Generator) -> dict[str, float]:
        """Gradients of a few voices."""
        recipe, losses = self.recipe, {"learnt/loss": 0.0, "listened/loss": 0.0}
        fewest, most = recipe.steps
        clips = self.train_data.draw_clips(generator, recipe.data.batch_size)
        for clip in clips:
            trial = self._trial(self.train_data, generator, int(clip), are_strangers=True)
            steps = int(generator.integers(fewest, most, endpoint=True))
            tuning = learn_voice(self.model, [trial.lesson], trial.embedding[0], steps)
            stride = self.model.config.content_stride
            cut = cut_exercises([trial.question] * _PIECES, generator, stride)
            for name, learnt, weight in (
                ("learnt/loss", tuning, 1.0),
                ("listened/loss", None, recipe.listened),
            ):
                losses[name] += self._follow(trial.embedding, cut, learnt, weight / len(clips))
        return {name: loss / len(clips) for name, loss in losses.items()}

    def _follow(
        self, embedding: Tensor, cut: Exercise, tuning: Tuning | None, weight: float
    ) -> float:
        """Add the gradient of a loss where learning has led to; returns the loss."""
        decoder = self.model.decoder
        learnt = tuned(decoder, tuning) if tuning else decoder
        weights = {k: v.detach().requires_grad_(True) for k, v in tunable(learnt)}
        said = say_exercise(self.model, with_weights(decoder, weights), cut, embedding)
        loss = lesson_loss(said, cut)
        gradients = torch.autograd.grad(weight * loss, list(weights.values()))
        for (_, parameter), gradient in zip(tunable(decoder), gradients, strict=True):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad += gradient
        return float(loss.detach())

    def _trial(
        self, data: SpeechData, generator: np.random.Generator, clip: int, are_strangers: bool
    ) -> _Trial:
        """One clip of a speaker to learn from, and another to be asked about."""
        partner = data.draw_partner(generator, clip)
        if partner == clip:  # the only one: it is cut in two
            whole = self._piece(data, generator, clip, 2 * self.recipe.data.segment_frames)
            half = len(whole.f0) // 2
            given = _Clip(whole.log_mel[..., :half], whole.f0[:half])
            asked = _Clip(whole.log_mel[..., half:], whole.f0[half:])
        else:
            frames = self.recipe.data.segment_frames
            given, asked = (self._piece(data, generator, i, frames) for i in (clip, partner))
        if are_strangers:
            features = self.recipe.features
            band, factor = draw_stranger(self.recipe.strangers, generator, features.n_mels)
            given, asked = (_moved(piece, band, factor, features) for piece in (given, asked))
        others = [
            self._voice(self._piece(data, generator, int(i), self.recipe.data.segment_frames))
            for i in data.draw_clips(generator, self.recipe.others)
        ]
        embedding, lesson = self._hear(given, others)
        _, question = self._hear(asked, others)
        return _Trial(embedding.clone(), lesson, make_exercise(self.teacher, question, embedding))

    def _piece(
        self, data: SpeechData, generator: np.random.Generator, clip: int, most_frames: int
    ) -> _Clip:
        """A clip, or as many frames of it."""
        frames = min(int(data.frames[clip]), most_frames)
        piece = data.cut(generator, np.array([clip]), frames).to(self.device)
        f0 = (piece.log_f0.exp() * piece.voiced)[0].cpu().numpy()
        return _Clip(piece.log_mel, f0)

    @torch.inference_mode()
    def _voice(self, piece: _Clip) -> Voice:
        return Voice(self.teacher.encode_speaker(piece.log_mel)[0], pitch_range(piece.f0))

    @torch.inference_mode()
    def _hear(self, piece: _Clip, others: Sequence[Voice]) -> tuple[Tensor, Lesson]:
        """The embedding of a clip, `(1, embedding_dim)`, and what others make of it."""
        embedding = self.teacher.encode_speaker(piece.log_mel)
        repaired = self.teacher.repair(piece.log_mel, embedding)
        return embedding, hear_lesson(self.teacher, repaired, piece.f0, others)

    @cached_property
    def _held_out(self) -> list[_Trial]:
        """Of each of the first validation clips, without strangers; heard once."""
        generator = np.random.default_rng(0)
        clips = range(len(self.validation.utterances))[: self.recipe.data.validation_clips]
        return [self._trial(self.validation, generator, i, are_strangers=False) for i in clips]

    def validate(self) -> dict[str, float]:
        """Errors about other clips of held-out speakers, listened to and learnt."""
        errors = []
        for trial in self._held_out:
            with torch.no_grad():
                said = [
                    say_exercise(self.average, decoder, trial.question, trial.embedding)
                    for decoder in self._before_and_after(trial)
                ]
                errors.append([float(lesson_loss(x, trial.question)) for x in said])
        listened, learnt = np.mean(errors, axis=0)
        return {"listened": float(listened), "learnt": float(learnt)}

    def _before_and_after(self, trial: _Trial) -> tuple[Decoder, Decoder]:
        """The average of the decoders, as it is, and once it has learnt a voice."""
        tuning = learn_voice(self.average, [trial.lesson], trial.embedding[0])
        return self.average.decoder, tuned(self.average.decoder, tuning)

    def error(self, metrics: dict[str, float]) -> float:
        """That of voices that were learnt."""
        return metrics["learnt"]

    def examples(self) -> list[Example]:
        """A held-out clip as it should be said, listened to and learnt."""
        trial = self._held_out[0]
        mels = {"wanted": trial.question.wanted[0]}
        with torch.no_grad():
            for name, decoder in zip(
                ("listened", "learnt"), self._before_and_after(trial), strict=True
            ):
                said = say_exercise(self.average, decoder, trial.question, trial.embedding)
                mels[name] = said[0]
        return [Example(f"quick_learning/{name}", mel) for name, mel in mels.items()]

    def export(self, folder: Path, step: int, metrics: dict[str, float]) -> None:
        """Write the averaged weights: a whole autoencoder."""
        save_checkpoint(self.average, folder, step, metrics)


def draw_stranger(
    config: StrangerConfig, generator: np.random.Generator, n_mels: int
) -> tuple[np.ndarray, float]:
    """Where on the mel axis a stranger's bands are read, and how many times lower his pitch is.

    Returns:
        `(n_mels,)` in bands, rising; and a factor.
    """

    def draw(limits: tuple[float, ...]) -> float:
        low, high = limits
        return float(generator.uniform(low, high))

    factor = float(np.exp(generator.choice([-1, 1]) * draw(config.stretch)))
    band = np.arange(n_mels, dtype=float)
    distance = (band - draw(config.bend_centre)) / draw(config.bend_width)
    bend = draw((-config.bend, config.bend)) * np.exp(-0.5 * distance**2)
    return np.maximum.accumulate(np.clip(band * factor + bend, 0, n_mels - 1)), factor


def _moved(piece: _Clip, band: np.ndarray, factor: float, features: FeatureConfig) -> _Clip:
    position = torch.from_numpy(band).to(piece.log_mel)[None]
    f0 = moved_f0(piece.f0, None, -12 * math.log2(factor), features)
    return _Clip(read_between_bands(piece.log_mel, position), f0)
