"""What happens between two mel frames: converted speech opens and closes as its source does.

A mel frame hears through a window of 64 ms, so a decoder knows neither the burst of a plosive nor
the silence before it, and what is said of its mels opens and closes too softly. Words are
understood by how loudness moves in a few bands (Shannon et al. 1995, "Speech recognition with
primarily temporal cues", Science 270), and that is the same whoever speaks. So the movement of the
source that its mel has not seen, heard through a window that is short but holds two periods of
most voices, takes the place of what the vocoder made of it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from vc.config import FeatureConfig
from vc.features import between_bands

_WINDOW_S = 0.02
_STEPS_A_FRAME = 4
_BANDS = 8
# deeper closures bring no more words, and sound more like the source
_DEEPEST_DB, _HIGHEST_DB = -3.0, 6.0
_FLOOR_DB = -50.0  # beside active speech; what is below does not move


class TemporalEnvelope(nn.Module):
    """Gives converted speech the temporal envelope of its source; nothing in it is trained.

    Args:
        config: of the mels that the speech was made from.
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.n_fft = 2 * round(_WINDOW_S * config.sample_rate / 2)
        self.hop_length = config.hop_length // math.gcd(config.hop_length, _STEPS_A_FRAME)
        with torch.device("cpu"):
            window = torch.hann_window(self.n_fft)
            bands = _bands(self.n_fft // 2 + 1, config.sample_rate)
            blur = _blur(config.win_length, self.hop_length)
        active_speech = 10 ** (config.level_db / 10) * float(window.square().sum())
        self.floor = active_speech * 10 ** (_FLOOR_DB / 10)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("bands", bands, persistent=False)
        self.register_buffer("blur", blur, persistent=False)

    @property
    def context_samples(self) -> int:
        """How far a sample looks to either side."""
        return self.n_fft + self.get_buffer("blur").shape[-1] // 2 * self.hop_length

    def forward(self, spoken: Tensor, source: Tensor) -> Tensor:
        """What the vocoder said, moving as its source does.

        Args:
            spoken: `(batch, frames * hop_length)`, at the level of the features.
            source: the same shape and level.
        """
        spectrum = self._spectrum(spoken)
        gain = self.gain(spectrum.abs().square(), self._spectrum(source).abs().square())
        return torch.istft(
            spectrum * gain,
            self.n_fft,
            self.hop_length,
            window=self.get_buffer("window"),
            length=spoken.shape[-1],
        )

    def gain(self, spoken_power: Tensor, source_power: Tensor) -> Tensor:
        """Power `(batch, bins, frames)` of both -> factors `(batch, bins, frames)`."""
        difference = self._movement(source_power) - self._movement(spoken_power)
        gain_db = self.get_buffer("bands") @ difference.clamp(_DEEPEST_DB, _HIGHEST_DB)
        return 10 ** (gain_db / 20)

    def _movement(self, power: Tensor) -> Tensor:
        """By how much a mel's window blurs each band, `(batch, bands, frames)` in dB."""
        blur = self.get_buffer("blur")
        sharp = self.get_buffer("bands").T @ power
        edge = blur.shape[-1] // 2
        rows = functional.pad(sharp, (edge, edge), mode="replicate").flatten(0, 1)[:, None]
        blurred = functional.conv1d(rows, blur).reshape(sharp.shape)
        return 10 * ((sharp + self.floor) / (blurred + self.floor)).log10()

    def _spectrum(self, signal: Tensor) -> Tensor:
        return torch.stft(
            signal,
            self.n_fft,
            self.hop_length,
            window=self.get_buffer("window"),
            pad_mode="constant",
            return_complex=True,
        )


def _bands(bins: int, sample_rate: int) -> Tensor:
    """Shares of each bin in overlapping bands, `(bins, bands)`, alike in width to the ear."""
    mel = 2595 * (1 + torch.linspace(0, sample_rate / 2, bins) / 700).log10()
    centres = mel[-1] / _BANDS * (torch.arange(_BANDS) + 0.5)
    return between_bands(centres, mel)


def _blur(win_length: int, hop_length: int) -> Tensor:
    """Power of a mel's window at every step, `(1, 1, steps)`, its sum 1."""
    reach = (win_length // 2 - 1) // hop_length
    place = torch.arange(-reach, reach + 1) * hop_length / win_length
    power = (math.pi * place).cos() ** 4
    return (power / power.sum())[None, None]
