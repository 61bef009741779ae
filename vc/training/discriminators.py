"""Small discriminators, used in training only."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

_LOUDER = 10.0  # speech is at -26 dBFS


class MelDiscriminator(nn.Module):
    """Tells real mels of a speaker from decoded ones, patch by patch.

    The speaker enters by projection (Miyato & Koyama 2018, arXiv:1802.05637), so that a
    real-looking mel of the wrong speaker is also found out.
    """

    def __init__(self, n_mels: int, speaker_dim: int, channels: int = 32) -> None:
        super().__init__()
        widths = [1, channels, 2 * channels, 3 * channels, 4 * channels]
        strides = [(2, 1), (2, 2), (2, 2), (2, 1)]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 5), stride, (2, 2)))
            for a, b, stride in zip(widths[:-1], widths[1:], strides, strict=True)
        )
        rows = n_mels
        for stride in strides:
            rows = (rows + stride[0] - 1) // stride[0]
        self.judge = weight_norm(nn.Conv1d(widths[-1] * rows, 1, 1))
        self.project = nn.Linear(speaker_dim, widths[-1] * rows, bias=False)

    def forward(self, mel: Tensor, speaker_embedding: Tensor) -> Tensor:
        """Scores `(batch, patches)` of normalised mels `(batch, n_mels, frames)`."""
        x = mel.unsqueeze(1)
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.1)
        x = x.flatten(1, 2)  # (B, C * rows, patches)
        speaker = self.project(speaker_embedding)
        match = torch.einsum("bct,bc->bt", x, speaker) / x.shape[1] ** 0.5
        scores: Tensor = self.judge(x)[:, 0] + match
        return scores


class PeriodDiscriminator(nn.Module):
    """Tells recorded from synthesised waveforms by how they go on from period to period.

    The multi-period discriminator of HiFi-GAN (Kong et al. 2020, arXiv:2010.05646), made small: a
    waveform is folded into rows of so many samples, and each column is looked at by itself.
    """

    def __init__(self, periods: tuple[int, ...] = (2, 3, 5, 7, 11), channels: int = 32) -> None:
        super().__init__()
        self.periods = periods
        widths = [1, channels, 2 * channels, 4 * channels, 4 * channels]
        self.folds = nn.ModuleList(
            nn.ModuleList(
                weight_norm(nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0))) for a, b in pairwise(widths)
            ).append(weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0))))
            for _ in periods
        )

    def forward(self, waveform: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Scores of each period, and all inner features, of `(batch, samples)`."""
        scores: list[Tensor] = []
        features: list[Tensor] = []
        for period, layers in zip(self.periods, self.folds, strict=True):
            x = functional.pad(waveform, (0, -waveform.shape[-1] % period))
            x = _LOUDER * x.reshape(len(x), 1, -1, period)
            *hidden, judge = layers.children()
            for layer in hidden:
                x = functional.leaky_relu(layer(x), 0.1)
                features.append(x)
            scores.append(judge(x))
        return scores, features


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Least squares (Mao et al. 2017, arXiv:1611.04076): real towards 1, fake towards 0."""
    return (real.float() - 1).square().mean() + fake.float().square().mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Least squares: fake towards 1."""
    return (fake.float() - 1).square().mean()


def feature_matching_loss(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Mean distance of a discriminator's inner activations (Larsen et al. 2016)."""
    distances = [
        (a.detach().float() - b.float()).abs().mean() for a, b in zip(real, fake, strict=True)
    ]
    return torch.stack(distances).mean()
