"""What lies above the model's band, in files of a higher rate than the model's.

The model speaks below 8 kHz; a recording at 44.1 or 48 kHz has hissing above that, too, and sounds
dull without it. So the conversion's own upper band is copied to where there is nothing, piece by
piece, and given the loudness that the source has there, as spectral band replication does in codecs
(Dietz et al. 2002, "Spectral band replication, a novel approach in audio coding", AES 112).
Loudness is heard beside that of the upper band, since the conversion's is another, and without the
source's steady noise, which the conversion does not have either. Of the source nothing else comes
in: pulses are those of the conversion, and where the source has nothing, nothing is added. Nothing
here is trained.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vc.audio import Waveform
from vc.features import between_bands

_HOP_S = 0.01
_OVERLAP = 2  # windows in which a sample lies
# in shares of the model's band, of whose last twentieth resampling leaves nothing
_BEGINS = 0.95
_COPIED = (0.5, 0.9)  # to above it, again and again
_BESIDE = (0.6, 0.9)  # what loudness is held against
_BAND_HZ = 1000.0
_SPREAD = 6  # bins beside a sound in which it is heard, too
_PIECE_S = 4  # of a clip at a time
_FLOOR = 1e-12  # mean square of a bin: less is silence
_EVEN = 0.03  # beside the upper band: what is copied is not raised from further below
_QUIETEST = 0.1  # share of the frames, whose loudest is noise
_NOISE = 2.0  # times as much power is taken for noise, for it comes and goes
_LEFT = 0.1  # of the power at least, lest what is nearly as loud as noise tinkles
_LEVELS_DB = np.arange(-150.0, 51.0)
_MOST = 10.0  # power: a conversion's upper band may be that much louder than its source's

Hear = Callable[[int, int], np.ndarray]  # rows `start` to `stop` of `HighBandEar.push`


class HighBand:
    """Sizes and arithmetic, for one rate.

    Args:
        model_rate: of conversions, in Hz.
        rate: that they were resampled to, in Hz, and their sources with them.
    """

    def __init__(self, model_rate: int, rate: int) -> None:
        self.hop_length = round(_HOP_S * rate)
        self.n_fft = _OVERLAP * self.hop_length
        self.window = torch.hann_window(self.n_fft).sqrt()  # used twice: squares add up to 1
        places = torch.fft.rfftfreq(self.n_fft, 1 / rate)
        nyquist, width = model_rate / 2, rate / self.n_fft
        # a piece may move by whole turns of the phase between two windows only
        low, high, first = (
            _OVERLAP * round(share * nyquist / width / _OVERLAP) for share in (*_COPIED, _BEGINS)
        )
        self.first = first
        above = places[first:]
        self.copied = low + torch.arange(len(above)) % (high - low)
        self.beside = slice(*(round(share * nyquist / width) for share in _BESIDE))
        self.bands = max(1, round((rate - model_rate) / 2 / _BAND_HZ))
        edges = torch.linspace(nyquist, rate / 2, self.bands + 1)
        self.between = between_bands((edges[1:] + edges[:-1]) / 2, above)  # (bins, bands)
        shares = self.between * (above > nyquist + _SPREAD * width)[:, None]  # not what is below
        self.shares = shares / shares.sum(dim=0)

    @staticmethod
    def is_wanted(model_rate: int, rate: int) -> bool:
        """Whether there is anything between the model's band and that of `rate`."""
        return rate > 1.1 * model_rate

    def heard(self, frames: Tensor) -> Tensor:
        """What a source has there: `(frames, n_fft)` -> power `(frames, 1 + bands)`.

        The first is that of the upper band below.
        """
        # twice windowed, too, or what is below would be heard above
        power = self._power(self._spectrum(frames * self.window))
        return torch.cat([self._upper(power), self._bands(power[:, self.first :])], dim=1)

    def said(self, frames: Tensor, heard: Tensor, noise: Tensor) -> Tensor:
        """What a conversion should have there: `(frames, n_fft)`, twice windowed.

        Args:
            frames: of the conversion.
            heard: of the same frames of its source, `(frames, 1 + bands)`.
            noise: power of the source's, `(1 + bands,)`.
        """
        spectrum = self._spectrum(frames)
        upper = self._upper(self._power(spectrum))
        copied = spectrum[:, self.copied]
        power = self._bands(self._power(copied)) + _EVEN * upper + _FLOOR
        clean = torch.maximum(heard - noise, _LEFT * heard)
        beside = clean[:, 1:] / (heard[:, :1] + _FLOOR)
        gain = (beside.clamp(max=_MOST) * upper / power) @ self.between.T
        made = torch.zeros_like(spectrum)
        made[:, self.first :] = gain.sqrt() * copied
        return torch.fft.irfft(made, self.n_fft) * self.window

    def _spectrum(self, frames: Tensor) -> Tensor:
        return torch.fft.rfft(frames * self.window)

    def _power(self, spectrum: Tensor) -> Tensor:
        return spectrum.abs().square() / self.window.square().sum()

    def _bands(self, power: Tensor) -> Tensor:
        return power @ self.shares

    def _upper(self, power: Tensor) -> Tensor:
        return power[:, self.beside].mean(dim=1, keepdim=True)


def add_high_band(spoken: Waveform, source: Waveform, model_rate: int, rate: int) -> Waveform:
    """A conversion with what its source has above the model's band.

    Args:
        spoken: the conversion at `rate`, `(samples,)`.
        source: the same length and rate; their levels need not be alike.
        model_rate: that the conversion was made at, in Hz.
        rate: in Hz.
    """
    band = HighBand(model_rate, rate)
    ear, piece = HighBandEar(band), _PIECE_S * rate
    starts = range(0, len(spoken), piece)
    heard = np.concatenate([ear.push(source[at : at + piece], at == starts[-1]) for at in starts])
    mouth = HighBandMouth(band, lambda start, stop: heard[start:stop], ear.noise)
    return np.concatenate([mouth.push(spoken[at : at + piece], at == starts[-1]) for at in starts])


class HighBandEar:
    """Hears what a source has there, in blocks of any size."""

    def __init__(self, band: HighBand) -> None:
        self.band = band
        self._frames = _Frames(band)
        self._counts = np.zeros((1 + band.bands, len(_LEVELS_DB) + 1), int)  # frames of each level

    def push(self, waveform: Waveform, last: bool = False) -> np.ndarray:
        """The next samples `(samples,)` -> what was heard, `(frames, 1 + bands)`."""
        frames = self._frames.push(waveform, last)
        if not len(frames):
            return np.zeros((0, 1 + self.band.bands), np.float32)
        heard = self.band.heard(frames).numpy()
        levels = np.searchsorted(_LEVELS_DB, 10 * np.log10(heard + 1e-20))
        for counts, column in zip(self._counts, levels.T, strict=True):
            counts += np.bincount(column, minlength=len(counts))
        return heard

    @property
    def noise(self) -> Tensor:
        """Power of what the source has there all the time, `(1 + bands,)`; of all so far."""
        shares = self._counts.cumsum(axis=1) / self._counts.sum(axis=1, keepdims=True)
        quietest = np.argmax(shares >= _QUIETEST, axis=1)
        levels_db = np.concatenate([[-np.inf], _LEVELS_DB])[quietest]
        return torch.from_numpy(_NOISE * 10 ** (levels_db / 10)).float()


class HighBandMouth:
    """Adds it to a conversion, in blocks of any size.

    Args:
        band: of the rate that the conversion was resampled to.
        heard: gives rows of what was heard of the source.
        noise: of the source, see `HighBandEar`.
    """

    def __init__(self, band: HighBand, heard: Hear, noise: Tensor) -> None:
        self.band, self._heard, self._noise = band, heard, noise
        self._frames = _Frames(band)
        self._done = 0  # frames
        self._spoken = np.zeros(0, np.float32)  # samples that wait for what lies above them
        self._begun = torch.zeros(_OVERLAP - 1, band.hop_length)
        self._early = band.n_fft // 2  # samples before the first one

    def push(self, waveform: Waveform, last: bool = False) -> Waveform:
        """The next samples of the conversion; gives those that are ready, all with the last."""
        self._spoken = np.concatenate([self._spoken, waveform])
        frames = self._frames.push(waveform, last)
        if not len(frames):
            return np.zeros(0, np.float32)
        heard = torch.from_numpy(self._heard(self._done, self._done + len(frames)).copy())
        frames = frames[: len(heard)]
        self._done += len(frames)
        made = self._overlapped(self.band.said(frames, heard, self._noise)).numpy()
        early = min(self._early, len(made))
        self._early -= early
        made = made[early:]
        ready = len(self._spoken) if last else min(len(made), len(self._spoken))
        result, self._spoken = np.split(self._spoken, [ready])
        result[: len(made)] += made[:ready]
        return result

    def _overlapped(self, frames: Tensor) -> Tensor:
        """Frames `(frames, n_fft)`, added up where they overlap: `(samples,)` that are whole."""
        parts = frames.reshape(len(frames), _OVERLAP, -1)
        total = torch.zeros(len(frames) + _OVERLAP - 1, parts.shape[-1])
        total[: _OVERLAP - 1] += self._begun
        for number in range(_OVERLAP):
            total[number : number + len(frames)] += parts[:, number]
        self._begun = total[len(frames) :].clone()
        return total[: len(frames)].flatten()


class _Frames:
    """A waveform that comes in blocks, as frames; frame `t` lies around sample `t * hop_length`."""

    def __init__(self, band: HighBand) -> None:
        self.n_fft, self.hop_length = band.n_fft, band.hop_length
        self._kept = np.zeros(band.n_fft // 2, np.float32)

    def push(self, waveform: Waveform, last: bool) -> Tensor:
        """The frames that are whole, `(frames, n_fft)`."""
        silence = np.zeros(self.n_fft if last else 0, np.float32)
        self._kept = np.concatenate([self._kept, waveform, silence])
        count = max(0, (len(self._kept) - self.n_fft) // self.hop_length + 1)
        frames = torch.from_numpy(self._kept)
        self._kept = self._kept[count * self.hop_length :]
        if not count:
            return torch.zeros(0, self.n_fft)
        return frames.unfold(0, self.n_fft, self.hop_length)
