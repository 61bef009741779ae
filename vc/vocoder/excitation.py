"""The two sources of the source-filter vocoder: a band-limited pulse train and white noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from vc.config import FeatureConfig


def upsample_log_f0(log_f0: Tensor, hop_length: int, samples: int) -> Tensor:
    """Interpolate log-F0 linearly from frame centres to samples.

    Args:
        log_f0: `(batch, frames)`, natural log of Hz; frame `t` is centred on `t * hop_length`.
        hop_length: samples between frames.
        samples: how many to return.

    Returns:
        `(batch, samples)`.
    """
    padded = torch.cat([log_f0, log_f0[:, -1:]], dim=1).unsqueeze(1)  # (B, 1, T + 1)
    dense = functional.interpolate(
        padded, size=log_f0.shape[1] * hop_length + 1, mode="linear", align_corners=True
    )
    return dense[:, 0, :samples]


def pulse_train(f0: Tensor, sample_rate: int, start_cycles: float = 0.0) -> Tensor:
    """Sum of all harmonics of F0 below half the sample rate, in cosine phase, at unit power.

    Uses the closed form of the sum of cosines (the Dirichlet kernel), so its cost does not depend
    on the number of harmonics and it never aliases.

    Args:
        f0: `(batch, samples)` in Hz, positive.
        sample_rate: Hz.
        start_cycles: periods that went before, where `f0` is the continuation of a track.

    Returns:
        `(batch, samples)`.
    """
    cycles = start_cycles + torch.cumsum(f0.double() / sample_rate, dim=-1)
    phase = 2 * math.pi * (cycles - cycles.round()).float()  # in [-pi, pi]: precise for hours
    harmonics = torch.ceil(0.5 * sample_rate / f0) - 1  # strictly below half the rate
    half = torch.sin(phase / 2)
    safe = torch.where(half.abs() < 1e-4, torch.ones_like(half), half)
    kernel = 0.5 * torch.sin((harmonics + 0.5) * phase) / safe - 0.5
    kernel = torch.where(half.abs() < 1e-4, harmonics, kernel)
    return kernel * torch.sqrt(2 / harmonics)


def periods(log_f0: Tensor, features: FeatureConfig) -> float:
    """Periods of F0 between the first and the last of some frames, `(1, frames)`."""
    hop_length = features.hop_length
    samples = (log_f0.shape[-1] - 1) * hop_length
    if samples < 1:
        return 0.0
    dense = upsample_log_f0(log_f0, hop_length, samples)
    return float((dense.exp().double() / features.sample_rate).sum())


class WhiteNoise:
    """White noise of unit variance, read on frame by frame without its beginning.

    It is the same each time, and what `Converter.synthesize` draws for a whole clip.

    Args:
        hop_length: samples in a frame.
    """

    def __init__(self, hop_length: int) -> None:
        self._hop = hop_length
        self._generator = torch.Generator().manual_seed(0)
        self._first, self._kept = 0, torch.zeros(0)

    def read(self, low: int, high: int) -> Tensor:
        """Noise `(1, samples)` of frames `low` to `high`; `low` must not go back."""
        self._kept = self._kept[(low - self._first) * self._hop :]
        self._first = low
        missing = (high - low) * self._hop - len(self._kept)
        if missing > 0:
            # drawn in multiples of 16, torch's normal numbers do not depend on how many are drawn
            self._kept = torch.cat([self._kept, torch.randn(missing, generator=self._generator)])
        return self._kept[None, : (high - low) * self._hop]
