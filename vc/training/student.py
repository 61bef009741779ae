"""Encoders that hear through noise, rooms and telephones: what such trainings share.

The teacher is the encoder as it was: of a degraded clip the student shall say what the teacher says
of the clean one (teacher and student, Li et al. 2017, arXiv:1708.05466). This needs neither
transcripts nor a decoder, and the rest of the autoencoder stands still.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vc.checkpoint import load_autoencoder, save_checkpoint
from vc.config import AutoencoderConfig, DataConfig, FeatureConfig, OptimizerConfig, RunConfig
from vc.features import LogMel
from vc.model.autoencoder import Autoencoder, Latent
from vc.training.board import Example
from vc.training.data import Segments, SpeechData, cut_noise, load_noise
from vc.training.degrade import DegradeConfig, at_the_level_of, degrade
from vc.training.loop import autocast, make_optimizer, named_autoencoder, start_from
from vc.training.rooms import RoomConfig, draw_rooms, heard_in_rooms

_NEVER = DegradeConfig(colour=0, room=0, noise=0, hum=0, band=0)


@dataclass(frozen=True)
class StudentRecipe:
    """What every training run of a student is made of."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    autoencoder: str = ""  # checkpoint to learn from, and to start from; the shipped one by default
    degrade: DegradeConfig = field(default_factory=DegradeConfig)
    rooms: RoomConfig = field(default_factory=RoomConfig)
    data: DataConfig = field(default_factory=lambda: DataConfig(batch_size=24))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)


class StudentTask(ABC):
    """See `vc.training.loop.Task`.

    A kind of student says which parts learn, and what is compared.
    """

    name = "autoencoder"
    kind: str  # of student
    # to clips, one by one, in validation
    happens: tuple[str, ...] = ("colour", "room", "noise", "hum", "band")

    def __init__(self, recipe: Any, cache: Path, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.teacher = (
            named_autoencoder(recipe.autoencoder, recipe.features).to(device).requires_grad_(False)
        )
        self.model = self.make_student()
        if recipe.run.initial:
            initial = load_autoencoder(Path(recipe.run.initial))
            start_from(self.model, initial, recipe.run.fresh)
        parameters = nn.ModuleList(self.learning(self.model)).requires_grad_(True).parameters()
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.modules: dict[str, nn.Module] = {"autoencoder": self.model, "average": self.average}
        self.optimizers = {"autoencoder": make_optimizer(parameters, recipe.optimizer)}
        self.train_data, self.validation = (
            SpeechData(cache, split, recipe.features, recipe.data, waveforms=True)
            for split in ("train", "validation")
        )
        self.noise = load_noise(cache, recipe.features, recipe.data)
        self.log_mel = LogMel(recipe.features).to(device)

    def make_student(self) -> Autoencoder:
        """The teacher's twin, with what it has more than the teacher; no part of it learns yet.

        Wider kernels begin as the teacher's with zeros around them.
        """
        student = Autoencoder(self.student_config(), self.teacher.features).to(self.device).eval()
        ours = student.state_dict()
        for name, value in self.teacher.state_dict().items():
            beside = (ours[name].shape[-1] - value.shape[-1]) // 2 if value.dim() else 0
            ours[name].copy_(functional.pad(value, (beside, beside)) if beside else value)
        return student.requires_grad_(False)

    @abstractmethod
    def student_config(self) -> AutoencoderConfig:
        """The teacher's sizes, and what the student has more."""

    @abstractmethod
    def learning(self, model: Autoencoder) -> list[nn.Module]:
        """The parts that learn."""

    @abstractmethod
    def losses(self, model: Autoencoder, clean: Segments, degraded: Tensor) -> dict[str, Tensor]:
        """How far what `model` hears of degraded clips is from what the teacher hears of clean.

        Args:
            model: the student, or the average of its weights.
            clean: the clips.
            degraded: their mels, `(batch, n_mels, frames)`.
        """

    @abstractmethod
    def latent(self, model: Autoencoder, clean: Tensor, degraded: Tensor) -> Latent:
        """What is decoded for an example: the student's part of degraded clips, the rest clean."""

    def degrade(
        self, clean: Tensor, waveform: Tensor, config: DegradeConfig, generator: np.random.Generator
    ) -> Tensor:
        """Clips as the student is given them, at one level, as in `vc.convert`.

        Args:
            clean: `(batch, n_mels, frames)`.
            waveform: of the same clips, `(batch, frames * hop_length)`.
            config: what happens to them.
            generator: picks the noise.

        Returns:
            `(batch, n_mels, frames)`.
        """
        noise = cut_noise(self.noise, generator, clean)
        echoing = None
        if config.room > 0:
            rate = self.recipe.features.sample_rate
            rooms = draw_rooms(len(waveform), self.recipe.rooms, rate)
            echoing = heard_in_rooms(waveform, rooms, self.log_mel)
        heard = degrade(clean, config, self.recipe.features, noise, echoing)
        return at_the_level_of(clean, heard)

    def add_gradients(self, step: int, generator: np.random.Generator) -> dict[str, float]:
        """Gradients of random segments."""
        clips = self.train_data.draw_clips(generator, self.recipe.data.batch_size)
        piece, waveform = self._cut(self.train_data, generator, clips)
        degraded = self.degrade(piece.log_mel, waveform, self.recipe.degrade, generator)
        with autocast(self.device, self.recipe.run):
            losses = self.losses(self.model, piece, degraded)
        weights = self.recipe.loss
        torch.stack([getattr(weights, k) * v for k, v in losses.items()]).sum().backward()
        return {f"{k}/loss": float(v.detach()) for k, v in losses.items()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Errors on held-out segments: clean ones, and each thing that happens to all of them."""
        figures: dict[str, float] = {}
        for name, config in self._trials():
            torch.manual_seed(0)
            generator = np.random.default_rng(0)
            clips = self.validation.first_clips(self.recipe.data.validation_clips)
            piece, waveform = self._cut(self.validation, generator, clips)
            degraded = self.degrade(piece.log_mel, waveform, config, generator)
            losses = self.losses(self.average, piece, degraded)
            figures |= {f"{k}_{name}": float(v) for k, v in losses.items()}
        return figures

    def error(self, metrics: dict[str, float]) -> float:
        """The weighted sum of all errors."""
        weights = vars(self.recipe.loss)
        return sum(weights[name.rsplit("_", 1)[0]] * value for name, value in metrics.items())

    @torch.no_grad()
    def examples(self) -> list[Example]:
        """A held-out piece, degraded, as it is rebuilt from what teacher and student hear."""
        torch.manual_seed(0)
        generator = np.random.default_rng(0)
        piece, waveform = self._cut(self.validation, generator, np.array([0]))
        degraded = self.degrade(piece.log_mel, waveform, self.recipe.degrade, generator)
        examples = [Example(f"{self.kind}/clean", piece.log_mel[0])]
        for name, model in {"teacher": self.teacher, "student": self.average}.items():
            latent = self.latent(model, piece.log_mel, degraded)
            mel = self.teacher.decode(latent, piece.log_f0, piece.voiced)
            examples.append(Example(f"{self.kind}/{name}", mel[0]))
        return examples

    def export(self, folder: Path, step: int, metrics: dict[str, float]) -> None:
        """Write the averaged weights: a whole autoencoder."""
        save_checkpoint(self.average, folder, step, metrics)

    def _trials(self) -> Iterator[tuple[str, DegradeConfig]]:
        yield "clean", _NEVER
        for name in self.happens:
            yield name, replace(_NEVER, **{name: 1.0})  # type: ignore[arg-type]

    def _cut(
        self, data: SpeechData, generator: np.random.Generator, clips: np.ndarray
    ) -> tuple[Segments, Tensor]:
        frames = self.recipe.data.segment_frames
        segments, waveform = data.cut_with_waveform(generator, clips, frames)
        return segments.to(self.device), waveform.to(self.device)
