"""The two sources of the source-filter vocoder: a band-limited pulse train and white noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


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
