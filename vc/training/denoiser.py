"""Training task of the denoiser: speech of the cleaner corpora, in rooms, with real noise.

Of a room's echoes those are taken out that are heard as echoes: the early ones stay.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vc.checkpoint import load_denoiser, save_checkpoint
from vc.config import (
    DataConfig,
    DenoiserConfig,
    FeatureConfig,
    OptimizerConfig,
    RunConfig,
    require_fit,
    require_interval,
    require_shares,
)
from vc.features import LogMel
from vc.model.denoiser import Denoiser, denoising_loss
from vc.training.board import Example
from vc.training.data import SpeechData, cut_noise, load_noise
from vc.training.degrade import at_the_level_of, draw_noise
from vc.training.loop import autocast, make_optimizer, start_from
from vc.training.perturb import between, mix_noise
from vc.training.rooms import RoomConfig, draw_rooms, early_part, heard_in_rooms


@dataclass(frozen=True)
class NoiseConfig:
    """What happens to the speech."""

    snr_db: tuple[float, ...] = (-5.0, 35.0)  # lowest and highest
    made_up_share: float = 0.3  # of a batch, with coloured gusts instead of a recording
    babble_share: float = 0.1  # of a batch, with the voices of four other clips
    room_share: float = 0.4  # of a batch, in a room

    def __post_init__(self) -> None:
        require_interval(self, "noise", "snr_db")
        require_shares(self, "noise", "made_up_share", "babble_share", "room_share")


@dataclass(frozen=True)
class DenoiserRecipe:
    """Everything that one denoiser training run is made of."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    rooms: RoomConfig = field(default_factory=RoomConfig)
    data: DataConfig = field(default_factory=lambda: DataConfig(segment_frames=256))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        require_fit(self.denoiser, "denoiser", self.features)


class DenoiserTask:
    """See `vc.training.loop.Task`."""

    name = "denoiser"

    def __init__(self, recipe: DenoiserRecipe, cache: Path, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        torch.manual_seed(recipe.run.seed)
        self.denoiser = Denoiser(recipe.denoiser, recipe.features).to(device)
        if recipe.run.initial:
            initial = load_denoiser(Path(recipe.run.initial))
            start_from(self.denoiser, initial, recipe.run.fresh)
        self.average = copy.deepcopy(self.denoiser).eval().requires_grad_(False)
        self.modules: dict[str, nn.Module] = {"denoiser": self.denoiser, "average": self.average}
        self.optimizers = {"denoiser": make_optimizer(self.denoiser.parameters(), recipe.optimizer)}
        self.train_data, self.validation = (
            SpeechData(cache, split, recipe.features, recipe.data, waveforms=True)
            for split in ("train", "validation")
        )
        self.noise = load_noise(cache, recipe.features, recipe.data)
        self.log_mel = LogMel(recipe.features).to(device)

    def add_gradients(self, step: int, generator: np.random.Generator) -> dict[str, float]:
        """Gradients of random segments."""
        recipe = self.recipe
        clips = self.train_data.draw_clips(generator, recipe.data.batch_size)
        noisy, clean = self._mixed(self.train_data, clips, generator)
        with autocast(self.device, self.recipe.run):
            loss = denoising_loss(self.denoiser(noisy), noisy, clean)
        loss.backward()
        return {"denoising/loss": float(loss.detach())}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The loss on fixed held-out segments, beside that of doing nothing."""
        torch.manual_seed(0)
        generator = np.random.default_rng(0)
        clips = self.validation.first_clips(self.recipe.data.validation_clips)
        noisy, clean = self._mixed(self.validation, clips, generator)
        return {
            "denoising": float(denoising_loss(self.average(noisy), noisy, clean)),
            "untouched": float(denoising_loss(torch.zeros_like(noisy), noisy, clean)),
        }

    def error(self, metrics: dict[str, float]) -> float:
        """The loss."""
        return metrics["denoising"]

    @torch.no_grad()
    def examples(self) -> list[Example]:
        """A held-out piece with noise, without the noise as it was, and as the network hears it."""
        torch.manual_seed(0)
        noisy, clean = self._mixed(self.validation, np.array([0]), np.random.default_rng(0))
        mels = {"noisy": noisy, "clean": clean, "denoised": noisy + self.average(noisy)}
        return [Example(f"denoiser/{name}", mel[0]) for name, mel in mels.items()]

    def export(self, folder: Path, step: int, metrics: dict[str, float]) -> None:
        """Write the averaged weights."""
        save_checkpoint(self.average, folder, step, metrics)

    def _mixed(
        self, data: SpeechData, clips: np.ndarray, generator: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Noisy and clean mels `(batch, n_mels, frames)`, at the level of the noisy ones."""
        config, frames = self.recipe.noise, self.recipe.data.segment_frames
        segments, waveform = data.cut_with_waveform(generator, clips, frames)
        dry, waveform = segments.log_mel.to(self.device), waveform.to(self.device)
        rate = self.recipe.features.sample_rate
        rooms = draw_rooms(len(clips), self.recipe.rooms, rate)
        chosen = torch.rand(len(clips), 1, 1, device=self.device) < config.room_share
        echoing, clean = (
            torch.where(chosen, heard_in_rooms(waveform, response, self.log_mel), dry)
            for response in (rooms, early_part(rooms, rate))
        )
        recorded = cut_noise(self.noise, generator, dry)
        noise = draw_noise(echoing, config.made_up_share, config.babble_share, recorded)
        noisy = mix_noise(echoing, noise, between(dry, config.snr_db))
        # clips are heard at one level, noise and echoes included
        levelled = at_the_level_of(dry, noisy)
        return levelled, clean + (levelled - noisy)
