"""Log-mel spectrogram, as a module whose filterbank is a buffer (no module-level caches)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from vc.config import FeatureConfig


class LogMel(nn.Module):
    """Waveform `(batch, samples)` -> log Slaney mel magnitudes `(batch, n_mels, frames)`.

    Frames are centred (reflect padding): frame `t` lies around sample `t * hop_length`. These are
    the numbers of `librosa.feature.melspectrogram(power=1, pad_mode="reflect")`, floored, in
    natural log.
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window", torch.hann_window(config.win_length), persistent=False)
        self.register_buffer("filterbank", mel_filterbank(config), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """See the class."""
        return self.of_spectrum(self.spectrum(waveform))

    def spectrum(self, waveform: Tensor) -> Tensor:
        """Complex short-time spectrum `(batch, bins, frames)` of `(batch, samples)`."""
        config = self.config
        # what is shorter than half a window cannot be reflected
        pad_mode = "reflect" if waveform.shape[-1] > config.n_fft // 2 else "constant"
        return torch.stft(
            waveform,
            config.n_fft,
            config.hop_length,
            config.win_length,
            window=self.get_buffer("window"),
            center=True,
            pad_mode=pad_mode,
            return_complex=True,
        )

    def of_spectrum(self, spectrum: Tensor) -> Tensor:
        """Log-mel of a complex spectrum."""
        mel = self.get_buffer("filterbank") @ spectrum.abs()
        return mel.clamp(min=self.config.log_floor).log()


def mel_filterbank(config: FeatureConfig) -> Tensor:
    """Slaney-scale, area-normalised triangular filters, `(n_mels, n_fft / 2 + 1)`."""
    with torch.device("cpu"):  # numbers, even where a network is built without any to be measured
        filters = melscale_fbanks(
            config.n_fft // 2 + 1,
            config.f_min,
            config.f_max,
            config.n_mels,
            config.sample_rate,
            norm="slaney",
            mel_scale="slaney",
        )
    return filters.T.contiguous()


def mel_centres_hz(config: FeatureConfig) -> Tensor:
    """Middles of the mel bands in Hz, `(n_mels,)`."""
    with torch.device("cpu"):
        filters = mel_filterbank(config)  # (n_mels, n_fft / 2 + 1)
        hertz = torch.linspace(0, config.sample_rate / 2, filters.shape[1])
        return filters @ hertz / filters.sum(dim=1).clamp(min=1e-9)


def between_bands(centres: Tensor, places: Tensor) -> Tensor:
    """Weights `(places, bands)` that interpolate linearly between the middles of bands.

    Args:
        centres: middles of the bands, rising, on any scale.
        places: of bins, on the same scale; beyond the outer middles a band is alone.
    """
    with torch.device("cpu"):
        wanted = places.clamp(float(centres[0]), float(centres[-1]))
        above = torch.searchsorted(centres, wanted).clamp(1, len(centres) - 1)
        low, high = centres[above - 1], centres[above]
        share = ((wanted - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
        weights = torch.zeros(len(places), len(centres))
        weights.scatter_(1, above[:, None], share[:, None])
        weights.scatter_(1, above[:, None] - 1, 1 - share[:, None])
    return weights
