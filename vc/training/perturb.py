"""Perturbations of the mel that content is read from, while the clean mel must be rebuilt.

What a perturbation changes, content cannot be relied on to carry: formants (vertical resize, as
in FreeVC, Li et al. 2022, arXiv:2210.15418), colouration (random equaliser, as in NANSY, Choi et
al. 2021, arXiv:2110.14513), background noise, dropouts. All work on mels, so they cost nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vc.config import require_interval, require_not_negative, require_shares
from vc.errors import ConfigError
from vc.model.layers import read_between_bands


@dataclass(frozen=True)
class PerturbConfig:
    """How strongly content's input is changed in training."""

    resize: float = 0.05  # largest stretch of the mel axis, as a natural logarithm
    equalizer: float = 0.15  # standard deviation of random band gains, natural log (0.115 = 1 dB)
    noise_probability: float = 0.3
    noise_snr_db: tuple[float, ...] = (5.0, 30.0)  # lowest and highest
    mask_probability: float = 0.0  # of hiding one short stretch of frames
    mask_frames: int = 6
    new_voices: float = 0.15  # largest stretch (as `resize`) that makes new voices of speakers

    def __post_init__(self) -> None:
        require_not_negative(self, "perturb", "resize", "equalizer", "new_voices")
        require_shares(self, "perturb", "noise_probability", "mask_probability")
        require_interval(self, "perturb", "noise_snr_db")
        if self.mask_frames < 1:
            raise ConfigError("perturb: mask_frames must be at least 1")


def perturb(
    log_mel: Tensor, config: PerturbConfig, log_floor: float, noise_mel: Tensor | None = None
) -> Tensor:
    """A randomly perturbed copy of `(batch, n_mels, frames)` natural-log mels.

    Args:
        log_mel: clean input.
        config: strengths.
        log_floor: magnitude floor of the mels.
        noise_mel: real noise of the same shape to mix in; made-up coloured noise if None.
    """
    if config.noise_probability > 0:
        log_mel = _add_noise(log_mel, config, noise_mel)
    if config.resize > 0:
        factor = (torch.rand(len(log_mel), device=log_mel.device) * 2 - 1) * config.resize
        log_mel = resize(log_mel, factor.exp())
    if config.equalizer > 0:
        log_mel = log_mel + random_curve(log_mel, config.equalizer)
    log_mel = log_mel.clamp(min=math.log(log_floor))
    if config.mask_probability > 0:
        log_mel = _mask(log_mel, config)
    return log_mel


def resize(log_mel: Tensor, factor: Tensor) -> Tensor:
    """Squeeze the mel axis of each clip by its factor: formants and harmonics move down.

    Args:
        log_mel: `(batch, n_mels, frames)`.
        factor: `(batch,)`; below 1 they move up.
    """
    band = torch.arange(log_mel.shape[1], device=log_mel.device)
    return read_between_bands(log_mel, band * factor.unsqueeze(-1))


def draw_voices(generator: np.random.Generator, count: int, strength: float) -> np.ndarray:
    """Factors for `resize` that make new voices of half of `count` clips; 1.0 for the others.

    A longer or shorter vocal tract and another pitch make another speaker, to all ears but the
    speaker's own (vocal tract length perturbation, Jaitly & Hinton 2013). What is learnt
    for more voices holds better for strangers.
    """
    factor = np.exp(generator.uniform(-strength, strength, count))
    return np.where(generator.random(count) < 0.5, factor, 1.0)


def random_curve(log_mel: Tensor, deviation: float, knots: int = 6) -> Tensor:
    """Smooth random gains over the mel axis, `(batch, n_mels, 1)`."""
    points = torch.randn(log_mel.shape[0], 1, knots, device=log_mel.device) * deviation
    curve = functional.interpolate(points, log_mel.shape[1], mode="linear", align_corners=True)
    return curve.transpose(1, 2)


def between(like: Tensor, limits: tuple[float, ...]) -> Tensor:
    """A random figure for each clip of `(batch, n_mels, frames)`, `(batch, 1, 1)`.

    Args:
        like: the clips.
        limits: lowest and highest.
    """
    low, high = limits
    return low + (high - low) * torch.rand(len(like), 1, 1, device=like.device)


def _add_noise(log_mel: Tensor, config: PerturbConfig, noise_mel: Tensor | None) -> Tensor:
    """Mix in noise at a random ratio."""
    batch = log_mel.shape[0]
    snr_db = between(log_mel, config.noise_snr_db)
    chosen = torch.rand(batch, 1, 1, device=log_mel.device) < config.noise_probability
    if noise_mel is None:
        noise_mel = made_up_noise(log_mel)
    return torch.where(chosen, mix_noise(log_mel, noise_mel, snr_db), log_mel)


def made_up_noise(log_mel: Tensor) -> Tensor:
    """Steady coloured noise of the same shape."""
    return torch.randn_like(log_mel) * 0.3 + random_curve(log_mel, 1.5)


def mix_noise(log_mel: Tensor, noise_mel: Tensor, snr_db: Tensor) -> Tensor:
    """Speech and noise `(batch, n_mels, frames)` together, at `(batch, 1, 1)` dB.

    Powers add on average; where both are as loud, they reinforce or cancel each other.
    """
    speech_power = (2 * log_mel).exp()
    noise_power = (2 * noise_mel).exp()
    ratio = speech_power.mean((1, 2), True) / noise_power.mean((1, 2), True).clamp(min=1e-12)
    noise_power = ratio * 10 ** (-snr_db / 10) * noise_power
    cross_power = 2 * _interference(log_mel) * (speech_power * noise_power).sqrt()
    return 0.5 * (speech_power + noise_power + cross_power).log()


def _interference(log_mel: Tensor) -> Tensor:
    """Cosines between speech and noise `(batch, n_mels, frames)`, as seen by a mel band.

    Wide bands average over more bins, neighbouring windows overlap. Deviation (0.5 in the lowest,
    0.22 in the highest band) and correlation (0.5 from frame to frame) are those of 120 mixtures of
    recordings.
    """
    deviation = torch.linspace(0.5, 0.22, log_mel.shape[1], device=log_mel.device)[:, None]
    drawn = torch.randn(*log_mel.shape[:2], log_mel.shape[2] + 1, device=log_mel.device)
    smooth = (drawn[..., 1:] + drawn[..., :-1]) / math.sqrt(2)
    return (deviation * smooth).clamp(-0.95, 0.95)


def _mask(log_mel: Tensor, config: PerturbConfig) -> Tensor:
    """Replace one stretch of frames by each band's mean, in some of the clips."""
    batch, _, frames = log_mel.shape
    device = log_mel.device
    start = torch.randint(frames, (batch, 1), device=device)
    length = torch.randint(1, config.mask_frames + 1, (batch, 1), device=device)
    length = length * (torch.rand(batch, 1, device=device) < config.mask_probability)
    time = torch.arange(frames, device=device)
    hidden = (time >= start) & (time < start + length)  # (B, T)
    return torch.where(hidden.unsqueeze(1), log_mel.mean(-1, keepdim=True), log_mel)
