"""Training task of the vocoder: rebuild real speech from its own mel and pitch."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vc.checkpoint import save_checkpoint
from vc.config import DataConfig, FeatureConfig, OptimizerConfig, RunConfig, VocoderConfig
from vc.features import LogMel
from vc.losses import multi_resolution_stft_loss
from vc.training.data import Segments, SpeechData
from vc.training.loop import apply_gradients, make_optimizer, update_average
from vc.vocoder.source_filter import SourceFilterVocoder

_EDGE_FRAMES = 2  # a segment's ends miss their neighbours: no loss there


@dataclass(frozen=True)
class VocoderLossConfig:
    """Weights of the vocoder's losses."""

    stft: float = 1.0
    mel: float = 1.0


@dataclass(frozen=True)
class VocoderRecipe:
    """Everything that one vocoder training run is made of."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    vocoder: VocoderConfig = field(default_factory=VocoderConfig)
    loss: VocoderLossConfig = field(default_factory=VocoderLossConfig)
    data: DataConfig = field(default_factory=lambda: DataConfig(segment_frames=48, batch_size=24))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)


class VocoderTask:
    """See `vc.training.loop.Task`."""

    def __init__(self, recipe: VocoderRecipe, cache: Path, device: torch.device) -> None:
        self.recipe = recipe
        self.device = device
        torch.manual_seed(recipe.run.seed)
        self.vocoder = SourceFilterVocoder(recipe.vocoder, recipe.features).to(device)
        self.average = copy.deepcopy(self.vocoder).requires_grad_(False)
        self.log_mel = LogMel(recipe.features).to(device)
        self.modules: dict[str, nn.Module] = {"vocoder": self.vocoder, "average": self.average}
        self.optimizers = {"vocoder": make_optimizer(self.vocoder.parameters(), recipe.optimizer)}
        self.train_data = SpeechData(cache, "train", recipe.features, recipe.data, waveforms=True)
        self.validation = SpeechData(
            cache, "validation", recipe.features, recipe.data, waveforms=True
        )

    def train_step(self, step: int, generator: np.random.Generator) -> dict[str, float]:
        """One update on random segments."""
        clips = self.train_data.draw_clips(generator, self.recipe.data.batch_size)
        segments, waveform = self._cut(self.train_data, generator, clips)
        losses = self._losses(self.vocoder, segments, waveform)
        weights = self.recipe.loss
        total = weights.stft * losses["stft/loss"] + weights.mel * losses["mel/loss"]
        total.backward()
        recipe = self.recipe
        norm = apply_gradients(self.optimizers["vocoder"], recipe.optimizer, step, recipe.run.steps)
        update_average(self.average, self.vocoder, recipe.optimizer.ema_decay, step)
        return {**{k: float(v.detach()) for k, v in losses.items()}, "gradient/norm": norm}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The same losses of the averaged weights on fixed segments of held-out speakers."""
        generator = np.random.default_rng(0)
        clips = np.arange(len(self.validation.utterances))[: self.recipe.data.validation_clips]
        segments, waveform = self._cut(self.validation, generator, clips)
        return {k: float(v) for k, v in self._losses(self.average, segments, waveform).items()}

    def export(self, folder: Path, step: int, metrics: dict[str, float]) -> None:
        """Write the averaged weights."""
        save_checkpoint(self.average, folder, step, metrics)

    def _cut(
        self, data: SpeechData, generator: np.random.Generator, clips: np.ndarray
    ) -> tuple[Segments, Tensor]:
        frames = self.recipe.data.segment_frames
        long_enough = clips[data.frames[clips] >= frames + 2]
        segments, waveform = data.cut_with_waveform(generator, long_enough, frames)
        return Segments(*(x.to(self.device) for x in segments)), waveform.to(self.device)

    def _losses(
        self, vocoder: SourceFilterVocoder, segments: Segments, waveform: Tensor
    ) -> dict[str, Tensor]:
        bfloat16 = self.recipe.run.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            rebuilt = vocoder(segments.log_mel, segments.log_f0, segments.voiced)
        edge = _EDGE_FRAMES * self.recipe.features.hop_length
        rebuilt, waveform = rebuilt[:, edge:-edge], waveform[:, edge:-edge]
        mel_distance = (self.log_mel(rebuilt) - self.log_mel(waveform)).abs().mean()
        return {
            "stft/loss": multi_resolution_stft_loss(rebuilt, waveform),
            "mel/loss": mel_distance,
        }
