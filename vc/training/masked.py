"""Training task of codes that learn phones: guess the clusters of hidden content."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vc.checkpoint import load_masked_predictor, save_checkpoint
from vc.config import (
    DataConfig,
    FeatureConfig,
    MaskedPredictorConfig,
    OptimizerConfig,
    RunConfig,
)
from vc.errors import ConfigError
from vc.model.bottleneck import VectorQuantizer
from vc.model.masked_predictor import MaskedPredictor
from vc.training.board import Example
from vc.training.data import SpeechData
from vc.training.loop import (
    autocast,
    make_optimizer,
    named_autoencoder,
    require_features,
    start_from,
)

_FITTING_BATCHES = 60  # in which clusters of content are found
_FOLLOWING = 4  # one in so many clips of a batch is shown to the codebook


@dataclass(frozen=True)
class MaskConfig:
    """What is hidden."""

    share: float = 0.5  # of a clip's steps, about
    steps: int = 6  # that are hidden together

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and self.steps >= 1):
            raise ConfigError("mask: share must be between 0 and 1, steps at least 1")


@dataclass(frozen=True)
class MaskedRecipe:
    """Everything that one training run is made of."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    masked_predictor: MaskedPredictorConfig = field(default_factory=MaskedPredictorConfig)
    autoencoder: str = ""  # checkpoint whose content it is; the shipped one by default
    teacher: str = ""  # checkpoint whose codes are guessed; without one, clusters of content
    mask: MaskConfig = field(default_factory=MaskConfig)
    data: DataConfig = field(default_factory=lambda: DataConfig(segment_frames=320, batch_size=32))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)


class MaskedTask:
    """See `vc.training.loop.Task`."""

    name = "masked_predictor"

    def __init__(self, recipe: MaskedRecipe, cache: Path, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        config = recipe.masked_predictor
        self.autoencoder = named_autoencoder(recipe.autoencoder, recipe.features).to(device)
        if self.autoencoder.config.content_dim != config.content_dim:
            raise ConfigError(
                "masked_predictor.content_dim must be the autoencoder's "
                f"{self.autoencoder.config.content_dim}, not {config.content_dim}"
            )
        self.teacher = (
            load_masked_predictor(Path(recipe.teacher)).to(device) if recipe.teacher else None
        )
        if self.teacher is not None:
            require_features(self.teacher, recipe.teacher, recipe.features)
        if self.teacher is not None and (
            self.teacher.config.stride != config.stride
            or self.teacher.config.codebook_size != config.targets
        ):
            raise ConfigError(
                f"{recipe.teacher}: has {self.teacher.config.codebook_size} codes for every "
                f"{self.teacher.config.stride} frames, which masked_predictor.targets and stride "
                "must be"
            )
        self.train_data = SpeechData(cache, "train", recipe.features, recipe.data)
        self.validation = SpeechData(cache, "validation", recipe.features, recipe.data)
        torch.manual_seed(recipe.run.seed)
        self.network = MaskedPredictor(config, recipe.features).to(device)
        if recipe.run.initial:
            initial = load_masked_predictor(Path(recipe.run.initial))
            start_from(self.network, initial, recipe.run.fresh)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.clusters = VectorQuantizer(config.targets, config.content_dim).to(device)
        if self.teacher is None:
            self._find_clusters()
        self.modules: dict[str, nn.Module] = {
            "masked_predictor": self.network,
            "average": self.average,
            "clusters": self.clusters,
        }
        self.optimizers = {
            "masked_predictor": make_optimizer(self.network.parameters(), recipe.optimizer)
        }

    @torch.no_grad()
    def _find_clusters(self) -> None:
        """Clusters of content; entries that few frames choose are moved on the way."""
        generator = np.random.default_rng(self.recipe.run.seed)
        for _ in range(_FITTING_BATCHES):
            self.clusters.train()(self._draw(self.train_data, generator))
        self.clusters.eval()

    def add_gradients(self, step: int, generator: np.random.Generator) -> dict[str, float]:
        """Gradients of the guesses at hidden steps; the codebook follows on the side."""
        network = self.network.train()
        content = self._draw(self.train_data, generator)
        loss, right = self._guess(network, content, generator)
        loss.backward()
        with torch.no_grad(), autocast(self.device, self.recipe.run):
            network.follow(content[: -(-len(content) // _FOLLOWING)])
        return {"prediction/loss": float(loss.detach()), "prediction/accuracy": float(right)}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss and share of right guesses on fixed hidden steps of held-out speakers."""
        generator = np.random.default_rng(0)
        clips = self.validation.first_clips(self.recipe.data.validation_clips)
        content = self._content(self.validation, generator, clips)
        loss, right = self._guess(self.average, content, generator)
        used = self.average.codes(content).unique().numel()
        return {"prediction": float(loss), "accuracy": float(right), "codes_used": float(used)}

    def error(self, metrics: dict[str, float]) -> float:
        """The loss of the guesses."""
        return metrics["prediction"]

    def examples(self) -> list[Example]:
        """Nothing to listen to: codes are not decoded."""
        return []

    def export(self, folder: Path, step: int, metrics: dict[str, float]) -> None:
        """Write the averaged weights."""
        save_checkpoint(self.average, folder, step, metrics)

    def _guess(
        self, network: MaskedPredictor, content: Tensor, generator: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy and share of right guesses, where content is hidden."""
        targets = self._targets(content)
        mask = draw_mask(generator, len(content), targets.shape[-1], self.recipe.mask)
        mask = mask.to(self.device)
        with autocast(self.device, self.recipe.run):
            logits = network(content, mask)
        guesses = logits.transpose(1, 2)[mask]  # (hidden, targets)
        right = (guesses.argmax(dim=-1) == targets[mask]).float().mean()
        return functional.cross_entropy(guesses, targets[mask]), right

    @torch.no_grad()
    def _targets(self, content: Tensor) -> Tensor:
        """The class of each step `(batch, steps)`, read with nothing hidden."""
        if self.teacher is not None:
            with autocast(self.device, self.recipe.run):
                return self.teacher.codes(content)
        codes = self.clusters(content[..., :: self.recipe.masked_predictor.stride]).codes
        assert codes is not None
        return codes

    def _draw(self, data: SpeechData, generator: np.random.Generator) -> Tensor:
        return self._content(
            data, generator, data.draw_clips(generator, self.recipe.data.batch_size)
        )

    @torch.no_grad()
    def _content(
        self, data: SpeechData, generator: np.random.Generator, clips: np.ndarray
    ) -> Tensor:
        segments = data.cut(generator, clips, self.recipe.data.segment_frames).to(self.device)
        with autocast(self.device, self.recipe.run):
            return self.autoencoder.encode_content(segments.log_mel).float()


def draw_mask(generator: np.random.Generator, clips: int, steps: int, config: MaskConfig) -> Tensor:
    """Which steps are hidden, `(clips, steps)`: spans that may overlap, one at least a clip."""
    length = min(config.steps, steps)
    wanted = np.log1p(-config.share) / np.log1p(-length / (steps + 1))  # overlaps counted out
    starts = generator.integers(steps - length + 1, size=(clips, max(1, round(wanted))))
    hidden = starts[..., None] + np.arange(length)  # (clips, spans, length)
    mask = torch.zeros(clips, steps, dtype=torch.bool)
    return mask.scatter_(1, torch.from_numpy(hidden.reshape(clips, -1)), True)
