"""Training task of a content encoder that hears through noise, rooms and telephones.

Its teacher is the encoder it starts from: content of a degraded clip shall be what that one reads
from the clean clip (teacher and student, Li et al. 2017, arXiv:1708.05466). Neither decoder nor
speaker encoder is touched, so on clean speech the model stays what it was, nearly.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vc.checkpoint import load_autoencoder, save_checkpoint
from vc.config import DataConfig, FeatureConfig, OptimizerConfig, RunConfig
from vc.model.autoencoder import Autoencoder, Latent
from vc.model.layers import instance_norm
from vc.training.board import Example
from vc.training.data import Segments, SpeechData, cut_noise, load_noise
from vc.training.degrade import DegradeConfig, degrade
from vc.training.loop import autocast, make_optimizer, named_autoencoder, start_from

_TRACTS_DIFFER = 0.06  # stretches of two speakers, natural logarithm


@dataclass(frozen=True)
class ContentLossConfig:
    """Weights of the losses."""

    content: float = 1.0  # mean square, of unit variance
    vocal_tract: float = 0.1  # mean square, in units of what speakers differ by


@dataclass(frozen=True)
class ContentRecipe:
    """Everything that one training run of a content encoder is made of."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    autoencoder: str = ""  # checkpoint to learn from, and to start from; the shipped one by default
    degrade: DegradeConfig = field(default_factory=DegradeConfig)
    loss: ContentLossConfig = field(default_factory=ContentLossConfig)
    data: DataConfig = field(default_factory=lambda: DataConfig(batch_size=24))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)


class _Heard(NamedTuple):
    """What an autoencoder hears of clips, but for who speaks."""

    content: Tensor  # (batch, content_dim, content_frames), of unit variance
    vocal_tract: Tensor | None  # (batch, 3), in units of what speakers differ by


class ContentTask:
    """See `vc.training.loop.Task`."""

    name = "autoencoder"

    def __init__(self, recipe: ContentRecipe, cache: Path, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.teacher = named_autoencoder(recipe.autoencoder).to(device).requires_grad_(False)
        self.model = copy.deepcopy(self.teacher)
        if recipe.run.initial:
            initial = load_autoencoder(Path(recipe.run.initial))
            start_from(self.model, initial, recipe.run.fresh)
        learning: list[nn.Module] = [self.model.content_encoder]
        if self.model.vocal_tract_encoder is not None:
            learning.append(self.model.vocal_tract_encoder)
        parameters = nn.ModuleList(learning).requires_grad_(True).parameters()
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.modules: dict[str, nn.Module] = {"autoencoder": self.model, "average": self.average}
        self.optimizers = {"autoencoder": make_optimizer(parameters, recipe.optimizer)}
        self.train_data = SpeechData(cache, "train", recipe.features, recipe.data)
        self.validation = SpeechData(cache, "validation", recipe.features, recipe.data)
        self.noise = load_noise(cache, recipe.features, recipe.data)

    def add_gradients(self, step: int, generator: np.random.Generator) -> dict[str, float]:
        """Gradients of random segments."""
        clips = self.train_data.draw_clips(generator, self.recipe.data.batch_size)
        clean = self._cut(self.train_data, generator, clips).log_mel
        degraded = self._degrade(clean, self.recipe.degrade, generator)
        with autocast(self.device, self.recipe.run):
            losses = self._losses(self.model, clean, degraded)
        weights = self.recipe.loss
        torch.stack([getattr(weights, k) * v for k, v in losses.items()]).sum().backward()
        return {f"{k}/loss": float(v.detach()) for k, v in losses.items()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Errors on held-out segments: clean ones, and each thing that happens to all of them."""
        never = DegradeConfig(colour=0, room=0, noise=0, hum=0, band=0)
        figures: dict[str, float] = {}
        for name in ("clean", "colour", "room", "noise", "hum", "band"):
            torch.manual_seed(0)
            generator = np.random.default_rng(0)
            clips = np.arange(len(self.validation.utterances))[: self.recipe.data.validation_clips]
            clean = self._cut(self.validation, generator, clips).log_mel
            config = never if name == "clean" else replace(never, **{name: 1.0})  # type: ignore
            losses = self._losses(self.average, clean, self._degrade(clean, config, generator))
            figures |= {f"{k}_{name}": float(v) for k, v in losses.items()}
        return figures

    def error(self, metrics: dict[str, float]) -> float:
        """The sum of the errors of content."""
        return sum(value for name, value in metrics.items() if name.startswith("content_"))

    @torch.no_grad()
    def examples(self) -> list[Example]:
        """A held-out piece, degraded, as it is rebuilt from what teacher and student hear."""
        torch.manual_seed(0)
        generator = np.random.default_rng(0)
        piece = self._cut(self.validation, generator, np.array([0]))
        degraded = self._degrade(piece.log_mel, self.recipe.degrade, generator)
        voice = self.teacher.encode_speaker(piece.log_mel)
        examples = [Example("content/clean", piece.log_mel[0])]
        for name, model in {"teacher": self.teacher, "student": self.average}.items():
            latent = Latent(model.encode_content(degraded), voice)
            mel = self.teacher.decode(latent, piece.log_f0, piece.voiced)
            examples.append(Example(f"content/{name}", mel[0]))
        return examples

    def export(self, folder: Path, step: int, metrics: dict[str, float]) -> None:
        """Write the averaged weights: a whole autoencoder."""
        save_checkpoint(self.average, folder, step, metrics)

    def _losses(self, model: Autoencoder, clean: Tensor, degraded: Tensor) -> dict[str, Tensor]:
        """How far what is heard of a degraded clip is from what the teacher hears of the clean."""
        with torch.no_grad():
            wanted = _hear(self.teacher, clean)
        heard = _hear(model, degraded)
        losses = {"content": (heard.content - wanted.content).square().mean()}
        if heard.vocal_tract is not None and wanted.vocal_tract is not None:
            losses["vocal_tract"] = (heard.vocal_tract - wanted.vocal_tract).square().mean()
        return losses

    def _degrade(
        self, clean: Tensor, config: DegradeConfig, generator: np.random.Generator
    ) -> Tensor:
        noise = cut_noise(self.noise, generator, clean)
        return degrade(clean, config, self.recipe.features, noise)

    def _cut(self, data: SpeechData, generator: np.random.Generator, clips: np.ndarray) -> Segments:
        return data.cut(generator, clips, self.recipe.data.segment_frames).to(self.device)


def _hear(model: Autoencoder, log_mel: Tensor) -> _Heard:
    """Content and vocal tract of `(batch, n_mels, frames)`."""
    tract = None
    if model.vocal_tract_encoder is not None:
        # not by `hear_vocal_tract`, which lets no gradient through
        tract = model.vocal_tract_encoder(model.normalize(log_mel)) / _TRACTS_DIFFER
    return _Heard(instance_norm(model.look_at_content(log_mel).float()), tract)
