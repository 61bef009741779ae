"""Rooms that speech is played in: impulse responses drawn at random, and what is heard there.

Echoes come one by one at first, denser with the square of time, then as noise whose power decays
exponentially, treble faster than bass (Polack's model of late reverberation; Kuttruff, *Room
Acoustics*). Unlike powers that are added up in a mel, they interfere with each other and with the
direct sound.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vc.config import require_interval
from vc.features import LogMel

_DECAY_DB = 60.0  # by which an echo has fallen after the reverberation time
_BAND_EDGES_HZ = (400.0, 1_200.0, 3_000.0)
_TREBLE_SHARE = (0.3, 1.0)  # of the reverberation time, that the highest band has
_FIRST_ECHO_S = (0.001, 0.012)
_DENSE_AFTER_S = 0.05  # no echo is told from another from here on
_EARLY_S = 0.05  # what comes sooner after the direct sound is heard as part of it


@dataclass(frozen=True)
class RoomConfig:
    """What the rooms are like."""

    reverberation_s: tuple[float, ...] = (0.15, 1.2)  # shortest and longest
    echo_db: tuple[float, ...] = (-15.0, 12.0)  # of all echoes together, beside the direct sound

    def __post_init__(self) -> None:
        require_interval(self, "rooms", "reverberation_s", least=0.01)
        require_interval(self, "rooms", "echo_db")


def draw_rooms(count: int, config: RoomConfig, sample_rate: int) -> Tensor:
    """Random impulse responses `(count, samples)`; the direct sound is a 1 at the first sample.

    Args:
        count: of rooms.
        config: what they are like.
        sample_rate: in Hz.
    """
    seconds = torch.arange(round(config.reverberation_s[1] * sample_rate)) / sample_rate
    since_first = seconds - _between(count, _FIRST_ECHO_S)
    density = (since_first / _DENSE_AFTER_S).square().clamp(min=1e-3, max=1)
    arrives = (torch.rand_like(density) < density) & (since_first >= 0)
    bands = _split(torch.randn_like(density) * arrives / density.sqrt(), sample_rate)

    lost = torch.linspace(0, 1, bands.shape[1]) * (1 - _between(count, _TREBLE_SHARE))
    reverberation_s = _between(count, config.reverberation_s) * (1 - lost)  # (count, bands)
    decay_db = _DECAY_DB * seconds / reverberation_s[..., None]
    echoes = (bands * 10 ** (-decay_db / 20)).sum(dim=1)
    energy = 10 ** (_between(count, config.echo_db) / 10)
    echoes = echoes * (energy / echoes.square().sum(dim=-1, keepdim=True)).sqrt()
    echoes[:, 0] = 1
    return echoes


def early_part(response: Tensor, sample_rate: int) -> Tensor:
    """Rooms `(count, samples)` without the echoes that an ear tells from the direct sound."""
    return response[..., : round(_EARLY_S * sample_rate)]


def heard_in_rooms(waveform: Tensor, response: Tensor, log_mel: LogMel) -> Tensor:
    """Log-mels of clips, each played in a room of its own.

    Args:
        waveform: `(batch, frames * hop_length)`, dry.
        response: of the rooms, `(batch, samples)`.
        log_mel: makes the mels.

    Returns:
        `(batch, n_mels, frames)`.
    """
    frames = waveform.shape[-1] // log_mel.config.hop_length
    return log_mel(play(waveform, response.to(waveform.device)))[..., :frames]


def play(waveform: Tensor, response: Tensor) -> Tensor:
    """Waveforms `(batch, samples)` in rooms `(batch, response samples)`, as long as they were."""
    samples = waveform.shape[-1]
    size = 1 << (samples + response.shape[-1] - 2).bit_length()
    spectrum = torch.fft.rfft(waveform, size) * torch.fft.rfft(response, size)
    return torch.fft.irfft(spectrum, size)[..., :samples]


def _split(noise: Tensor, sample_rate: int) -> Tensor:
    """`(count, samples)` -> its bands, from the lowest up, `(count, bands, samples)`."""
    spectrum = torch.fft.rfft(noise)
    hertz = torch.linspace(0, sample_rate / 2, spectrum.shape[-1])
    band = torch.bucketize(hertz, torch.tensor(_BAND_EDGES_HZ))
    chosen = torch.arange(len(_BAND_EDGES_HZ) + 1)[:, None] == band
    return torch.fft.irfft(spectrum[:, None] * chosen, noise.shape[-1])


def _between(count: int, limits: tuple[float, ...]) -> Tensor:
    """A random figure for each room, `(count, 1)`."""
    low, high = limits
    return low + (high - low) * torch.rand(count, 1)
