"""Training task of a speaker encoder that hears through noise, rooms and telephones.

References are denoised before they are listened to (`vc.convert`), so the student listens to
denoised clips too, and learns what that leaves. How a recording is coloured it cannot tell from how
a voice is, so that is no part of it. See `vc.training.student`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vc.checkpoint import load_denoiser
from vc.config import SHIPPED, AutoencoderConfig, require_not_negative
from vc.denoise import REFERENCE_EXPONENT
from vc.model.autoencoder import Autoencoder, Latent
from vc.model.speaker_encoder import split_embedding
from vc.training.data import Segments
from vc.training.degrade import DegradeConfig, at_the_level_of
from vc.training.loop import require_features
from vc.training.student import StudentRecipe, StudentTask


@dataclass(frozen=True)
class SpeakerLossConfig:
    """Weights of the losses."""

    identity: float = 1.0  # one minus the cosine of the learnt parts
    mean: float = 1.0  # mean square; of bands that have unit variance over the corpus
    deviation: float = 1.0  # mean square of the logarithms

    def __post_init__(self) -> None:
        require_not_negative(self, "loss", *vars(self))


@dataclass(frozen=True)
class SpeakerRecipe(StudentRecipe):
    """Everything that one training run of a speaker encoder is made of."""

    denoiser: str = ""  # checkpoint; the shipped one by default
    degrade: DegradeConfig = field(default_factory=lambda: DegradeConfig(colour=0))
    loss: SpeakerLossConfig = field(default_factory=SpeakerLossConfig)


class SpeakerTask(StudentTask):
    """See `vc.training.student`."""

    kind = "speaker"
    happens = ("room", "noise", "hum", "band")

    def __init__(self, recipe: SpeakerRecipe, cache: Path, device: torch.device) -> None:
        folder = Path(recipe.denoiser) if recipe.denoiser else SHIPPED / "denoiser"
        self.denoiser = load_denoiser(folder).to(device).requires_grad_(False)
        require_features(self.denoiser, str(folder), recipe.features)
        super().__init__(recipe, cache, device)

    def student_config(self) -> AutoencoderConfig:
        """The teacher's, and the repair of mean and spread."""
        repairs = self.teacher.config.speaker_statistics
        return replace(self.teacher.config, speaker_repair=repairs)

    def learning(self, model: Autoencoder) -> list[nn.Module]:
        """The speaker encoder."""
        return [model.speaker_encoder]

    @torch.no_grad()
    def degrade(
        self, clean: Tensor, waveform: Tensor, config: DegradeConfig, generator: np.random.Generator
    ) -> Tensor:
        """Degraded clips as `vc.convert` prepares references: denoised, and levelled again."""
        degraded = super().degrade(clean, waveform, config, generator)
        denoised = degraded + REFERENCE_EXPONENT * self.denoiser(degraded)
        levelled = at_the_level_of(clean, denoised)
        return levelled.clamp(min=math.log(self.recipe.features.log_floor))

    def losses(self, model: Autoencoder, clean: Segments, degraded: Tensor) -> dict[str, Tensor]:
        """Differences of each part of the embeddings; see `StudentTask.losses`."""
        with torch.no_grad():
            said = self.teacher.encode_speaker(clean.log_mel)
            wanted = split_embedding(said, self.teacher.config)
        heard = split_embedding(model.encode_speaker(degraded), model.config)
        return {
            "identity": 1 - (heard.identity * wanted.identity).sum(dim=-1).mean(),
            "mean": (heard.mean - wanted.mean).square().mean(),
            "deviation": (heard.log_deviation - wanted.log_deviation).square().mean(),
        }

    def latent(self, model: Autoencoder, clean: Tensor, degraded: Tensor) -> Latent:
        """Voices of the degraded clips, content of the clean ones."""
        return Latent(
            self.teacher.encode_content(clean),
            model.encode_speaker(degraded),
        )
