"""Training task of the unit coder: content of a frozen autoencoder through a few codes."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vc.checkpoint import load_unit_coder, save_checkpoint
from vc.config import (
    DataConfig,
    FeatureConfig,
    OptimizerConfig,
    RunConfig,
    UnitConfig,
    require_not_negative,
)
from vc.errors import ConfigError
from vc.losses import envelope_loss
from vc.model.autoencoder import Latent
from vc.model.unit_coder import UnitCoder
from vc.training.board import Example
from vc.training.data import Segments, SpeechData
from vc.training.loop import autocast, make_optimizer, named_autoencoder, start_from


@dataclass(frozen=True)
class UnitLossConfig:
    """Weights of the losses, and how they are taken."""

    content: float = 1.0  # mean square, beside content of unit variance
    mel: float = 1.0  # what the frozen decoder makes of it, in standard deviations of mels
    commitment: float = 0.25  # what is read stays near the codebooks' entries
    mel_clips: int = 6  # of a batch, that are decoded; decoding costs more than all the rest

    def __post_init__(self) -> None:
        require_not_negative(self, "loss", *vars(self))
        if self.mel_clips < 1:
            raise ConfigError("loss: mel_clips must be at least 1; loss.mel = 0 decodes none")


@dataclass(frozen=True)
class UnitRecipe:
    """Everything that one training run of a unit coder is made of."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    units: UnitConfig = field(default_factory=UnitConfig)
    autoencoder: str = ""  # checkpoint whose content it is; the shipped one by default
    loss: UnitLossConfig = field(default_factory=UnitLossConfig)
    data: DataConfig = field(default_factory=lambda: DataConfig(segment_frames=192))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)


class UnitTask:
    """See `vc.training.loop.Task`."""

    name = "units"

    def __init__(self, recipe: UnitRecipe, cache: Path, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.autoencoder = named_autoencoder(recipe.autoencoder, recipe.features).to(device)
        config = self.autoencoder.config
        if config.content_dim != recipe.units.content_dim:
            raise ConfigError(
                f"units.content_dim must be the autoencoder's {config.content_dim}, "
                f"not {recipe.units.content_dim}"
            )
        self.train_data = SpeechData(cache, "train", recipe.features, recipe.data)
        self.validation = SpeechData(cache, "validation", recipe.features, recipe.data)
        torch.manual_seed(recipe.run.seed)
        self.coder = UnitCoder(recipe.units, recipe.features).to(device)
        if recipe.run.initial:
            start_from(self.coder, load_unit_coder(Path(recipe.run.initial)), recipe.run.fresh)
        else:
            self._start_codebooks()
        self.average = copy.deepcopy(self.coder).eval().requires_grad_(False)
        self.modules: dict[str, nn.Module] = {"units": self.coder, "average": self.average}
        self.optimizers = {"units": make_optimizer(self.coder.parameters(), recipe.optimizer)}

    def _start_codebooks(self) -> None:
        config, data = self.recipe.units, self.recipe.data
        units = data.segment_frames // self.autoencoder.config.content_stride // config.stride
        generator = np.random.default_rng(self.recipe.run.seed)
        clips = self.train_data.draw_clips(generator, 1 + 2 * config.codebook_size // units)
        segments = self._cut(self.train_data, generator, clips)
        with torch.no_grad():
            self.coder.start_codebooks(self.autoencoder.encode_content(segments.log_mel))

    def add_gradients(self, step: int, generator: np.random.Generator) -> dict[str, float]:
        """Gradients of random segments, each with some of the codebooks."""
        weights, coder = self.recipe.loss, self.coder.train()
        clips = self.train_data.draw_clips(generator, self.recipe.data.batch_size)
        segments = self._cut(self.train_data, generator, clips)
        with autocast(self.device, self.recipe.run), torch.no_grad():
            content = self.autoencoder.encode_content(segments.log_mel).float()
        with autocast(self.device, self.recipe.run):
            read = coder.read(content)
        added, _, commitment = coder.quantize(read, coder.config.stages)
        used = torch.from_numpy(draw_stages(generator, len(clips), coder.config.stages))
        use = torch.arange(coder.config.stages) < used[:, None]  # (B, S)
        quantized = (added * use[..., None, None].to(added)).sum(dim=1)
        quantized = read + (quantized - read).detach()  # gradients pass straight through
        with autocast(self.device, self.recipe.run):
            restored = coder.restore(quantized)[..., : content.shape[-1]]
            losses = {
                "content": (restored.float() - content).square().mean(),
                "commitment": commitment,
            }
            if weights.mel:
                few = slice(weights.mel_clips)
                wanted, decoded = (self._decode(c[few], segments, few) for c in (content, restored))
                difference = (decoded - wanted).float()
                losses["mel"] = difference.abs().mean() + envelope_loss(difference)
        total = torch.stack([getattr(weights, k) * v for k, v in losses.items()]).sum()
        total.backward()
        return {f"{k}/loss": float(v.detach()) for k, v in losses.items()}

    def _decode(self, content: Tensor, segments: Segments, few: slice) -> Tensor:
        """Normalised mel that the frozen decoder makes of content, in the clips' own voices."""
        with torch.no_grad():
            speaker = self.autoencoder.encode_speaker(segments.log_mel[few])
        latent = Latent(content, speaker)
        mel = self.autoencoder.decode(latent, segments.log_f0[few], segments.voiced[few])
        return self.autoencoder.normalize(mel)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Errors of content and of decoded mels on held-out segments, by number of codebooks."""
        coder, data = self.average, self.validation
        clips = data.first_clips(self.recipe.data.validation_clips)
        segments = self._cut(data, np.random.default_rng(0), clips)
        content = self.autoencoder.encode_content(segments.log_mel)
        every = slice(None)
        wanted = self._decode(content, segments, every)
        codes = coder.encode(content, coder.config.stages)
        figures = {}
        for stages in sorted({1, 3, 6, coder.config.stages}):
            if 1 <= stages <= coder.config.stages:
                restored = coder.decode(codes[:, :stages])[..., : content.shape[-1]]
                decoded = self._decode(restored, segments, every)
                figures[f"content_{stages}"] = float((restored - content).square().mean())
                figures[f"mel_{stages}"] = float((decoded - wanted).abs().mean())
        return figures

    def error(self, metrics: dict[str, float]) -> float:
        """The sum of the mels' errors."""
        return sum(value for name, value in metrics.items() if name.startswith("mel_"))

    @torch.no_grad()
    def examples(self) -> list[Example]:
        """A held-out piece as decoded from its content, and from its units alone."""
        segments = self._cut(self.validation, np.random.default_rng(0), np.array([0]))
        content = self.autoencoder.encode_content(segments.log_mel)
        restored = self.average.decode(self.average.encode(content, 1))[..., : content.shape[-1]]
        speaker = self.autoencoder.encode_speaker(segments.log_mel)
        return [
            Example(
                f"units/{name}",
                self.autoencoder.decode(Latent(c, speaker), segments.log_f0, segments.voiced)[0],
            )
            for name, c in {"content": content, "units": restored}.items()
        ]

    def export(self, folder: Path, step: int, metrics: dict[str, float]) -> None:
        """Write the averaged weights."""
        save_checkpoint(self.average, folder, step, metrics)

    def _cut(self, data: SpeechData, generator: np.random.Generator, clips: np.ndarray) -> Segments:
        return data.cut(generator, clips, self.recipe.data.segment_frames).to(self.device)


def draw_stages(generator: np.random.Generator, count: int, stages: int) -> np.ndarray:
    """How many codebooks each of `count` clips may use, `(count,)`.

    A third use one, since units have to do with it; the others any number, few more often than
    many: the logarithm is evenly distributed.
    """
    drawn = np.floor(np.exp(generator.random(count) * np.log(stages + 1))).astype(int)
    return np.where(generator.random(count) < 1 / 3, 1, drawn.clip(1, stages))
