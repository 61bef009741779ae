"""What happens to speech on its way into a file: rooms, noise, mains hum, telephones.

`vc.training.perturb` changes who speaks and how it is coloured; here are the things that people's
recordings suffer from. All but rooms (`vc.training.rooms`) work on mels, so they cost nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vc.config import (
    FeatureConfig,
    require_interval,
    require_not_negative,
    require_shares,
)
from vc.features import mel_centres_hz
from vc.training.perturb import between, made_up_noise, mix_noise, random_curve

_STEEPEST_LOSS = 9.0  # nepers, beyond a telephone's band


@dataclass(frozen=True)
class DegradeConfig:
    """How often each thing happens to a clip, and how strongly."""

    colour: float = 0.3
    colour_deviation: float = 0.5  # of random band gains, natural log
    room: float = 0.25  # which one: see `vc.training.rooms`
    noise: float = 0.5
    noise_snr_db: tuple[float, ...] = (0.0, 30.0)
    made_up_share: float = 0.3  # of the noise: coloured gusts instead of a recording
    babble_share: float = 0.1  # of the noise: four other clips at once
    hum: float = 0.1
    band: float = 0.2  # half of them a telephone's, the others anything above 3 kHz

    def __post_init__(self) -> None:
        happens = ("colour", "room", "noise", "hum", "band")
        require_shares(self, "degrade", *happens, "made_up_share", "babble_share")
        require_not_negative(self, "degrade", "colour_deviation")
        require_interval(self, "degrade", "noise_snr_db")


def degrade(
    log_mel: Tensor,
    config: DegradeConfig,
    features: FeatureConfig,
    noise_mel: Tensor | None,
    in_a_room: Tensor | None = None,
) -> Tensor:
    """A copy of `(batch, n_mels, frames)` natural-log mels as it might have been recorded.

    Args:
        log_mel: clean clips.
        config: what happens to them.
        features: what the mels are.
        noise_mel: recorded noise of the same shape; only made-up noise if None.
        in_a_room: the same clips, each in a room; they stay where they were if None.
    """
    mel = log_mel if in_a_room is None else _sometimes(config.room, in_a_room, log_mel)
    noise = draw_noise(mel, config.made_up_share, config.babble_share, noise_mel)
    snr_db = between(mel, config.noise_snr_db)
    coloured = mel + random_curve(mel, config.colour_deviation)
    mel = _sometimes(config.colour, coloured, mel)
    mel = _sometimes(config.noise, mix_noise(mel, noise, snr_db), mel)
    mel = _sometimes(config.hum, with_hum(mel, features), mel)
    mel = _sometimes(config.band, in_a_band(mel, features), mel)
    return mel.clamp(min=math.log(features.log_floor))


def draw_noise(
    log_mel: Tensor, made_up_share: float, babble_share: float, recorded: Tensor | None
) -> Tensor:
    """Noise for each of the clips `(batch, n_mels, frames)`: recorded, made up, or of other voices.

    Args:
        log_mel: clean clips.
        made_up_share: how many get coloured noise in gusts.
        babble_share: how many get other clips of the batch.
        recorded: for the rest, of the same shape; made-up noise for them too if None.
    """
    noise = made_up_noise(log_mel) + _gusts(log_mel)
    kind = torch.rand(len(log_mel), 1, 1, device=log_mel.device)
    if recorded is not None:
        noise = torch.where(kind < made_up_share, noise, recorded)
    if len(log_mel) < 2:  # nobody else is there
        return noise
    return torch.where(kind > 1 - babble_share, _babble(log_mel), noise)


def at_the_level_of(clean: Tensor, degraded: Tensor) -> Tensor:
    """Degraded clips `(batch, n_mels, frames)` made as loud as the clean ones."""
    level, wanted = ((2 * x).flatten(1).logsumexp(dim=1) for x in (degraded, clean))
    return degraded + 0.5 * (wanted - level)[:, None, None]


def with_hum(log_mel: Tensor, features: FeatureConfig) -> Tensor:
    """Clips with the hum of the mains, 50 or 60 Hz, and its harmonics, some way below the voice."""
    centres = mel_centres_hz(features).to(log_mel.device)[None, :, None]
    mains_hz = 50 + 10 * torch.randint(2, (len(log_mel), 1, 1), device=log_mel.device)
    level = log_mel.amax(dim=(1, 2), keepdim=True) - between(log_mel, (1.5, 4.5))
    fall = between(log_mel, (0.5, 2.0)) * (centres - mains_hz).clamp(min=0) / 100
    return torch.logaddexp(2 * log_mel, 2 * (level - fall)) / 2


def in_a_band(log_mel: Tensor, features: FeatureConfig) -> Tensor:
    """Clips that lack what lies above some frequency, half of them a telephone's 3.4 kHz."""
    centres = mel_centres_hz(features).to(log_mel.device)[None, :, None]
    telephone = between(log_mel, (3_000.0, 3_800.0))
    highest_hz = _sometimes(0.5, telephone, between(log_mel, (3_000.0, 7_500.0)))
    lowest_hz = _sometimes(0.5, between(log_mel, (0.0, 300.0)), torch.zeros_like(highest_hz))
    above = (centres - highest_hz).clamp(min=0) * between(log_mel, (0.004, 0.034))
    below = (lowest_hz - centres).clamp(min=0) * 0.02
    return log_mel - (above + below).clamp(max=_STEEPEST_LOSS)


def _gusts(log_mel: Tensor) -> Tensor:
    """Gains that come and go by some nepers, `(batch, 1, frames)`; hardly any for some clips."""
    strength = torch.rand(len(log_mel), 1, 1, device=log_mel.device)
    points = torch.randn(len(log_mel), 1, log_mel.shape[-1] // 32 + 2, device=log_mel.device)
    return strength * functional.interpolate(points, log_mel.shape[-1], mode="linear")


def _babble(log_mel: Tensor) -> Tensor:
    """Up to four other clips of the batch at once, for each of `(batch, n_mels, frames)`."""
    shifts = range(1, min(5, len(log_mel)))
    others = torch.stack([log_mel.roll(shift, 0) for shift in shifts])
    return 0.5 * (2 * others).logsumexp(dim=0)


def _sometimes(probability: float, changed: Tensor, unchanged: Tensor) -> Tensor:
    """Some of the clips changed."""
    chosen = torch.rand(len(changed), 1, 1, device=changed.device) < probability
    return torch.where(chosen, changed, unchanged)
