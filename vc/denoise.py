"""Take noise and echoes out of a waveform: gains over its short-time spectrum, phase kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from vc.audio import Waveform
from vc.features import LogMel
from vc.model.denoiser import Denoiser

BLOCK_S = 16.0  # the noise floor is taken over this much
# what noise is left of a reference is said with every sound, so rather too much is taken out
REFERENCE_EXPONENT = 1.25


def clean_blocks(
    denoiser: Denoiser,
    read: Callable[[int, int], Waveform],
    samples: int,
    exponent: float = 1.0,
) -> Iterator[Waveform]:
    """Denoise a waveform block by block, in constant memory.

    Blocks overlap by what a frame's gain depends on; only their noise floors differ, and one fades
    into the next over a window.

    Args:
        denoiser: in evaluation mode.
        read: returns `(stop - start,)` samples at the model's rate and level; bounds lie within
            `samples`.
        samples: how many there are.
        exponent: of the gains; above 1 more is taken out than is right on average.

    Yields:
        All samples, in order.
    """
    hop = denoiser.features.hop_length
    block = round(BLOCK_S * denoiser.features.frame_rate) * hop
    overlap = (denoiser.context_frames + denoiser.features.n_fft // hop) * hop
    before = np.zeros(0, np.float32)  # what the block before says of this one's beginning
    for start in range(0, samples, block):
        stop = min(start + block, samples)
        # the last one goes back as far as it needs to be as long as any, for its noise floor
        low = max(0, min(start - overlap, (samples - block) // hop * hop))
        cleaned = clean_waveform(denoiser, read(low, min(stop + overlap, samples)), exponent)
        part = cleaned[start - low : stop - low].copy()
        faded = min(len(before), len(part))
        share = np.linspace(0, 1, faded, dtype=np.float32)
        part[:faded] += (1 - share) * (before[:faded] - part[:faded])
        before = cleaned[stop - low : stop - low + denoiser.features.n_fft]
        yield part


def clean_waveform(denoiser: Denoiser, waveform: Waveform, exponent: float = 1.0) -> Waveform:
    """Denoise `(samples,)` at the model's rate and level, all at once; see `clean_blocks`."""
    features = denoiser.features
    device = denoiser.embed.weight.device
    signal = torch.from_numpy(waveform)[None].to(device)
    log_mel = LogMel(features).to(device)
    with torch.inference_mode():
        spectrum = log_mel.spectrum(signal)
        log_gain = exponent * denoiser(log_mel.of_spectrum(spectrum))
        cleaned = turned_down(spectrum, log_gain, log_mel, signal.shape[-1])
    return cleaned[0].cpu().numpy()


def turned_down(spectrum: Tensor, log_gain: Tensor, log_mel: LogMel, samples: int) -> Tensor:
    """A waveform whose mel bands are turned down, `(batch, samples)`.

    Args:
        spectrum: `(batch, bins, frames)`, as of `LogMel.spectrum`.
        log_gain: `(batch, n_mels, frames)`.
        log_mel: what the spectrum is of.
        samples: from the middle of the first frame on.
    """
    features = log_mel.config
    return torch.istft(
        spectrum * _to_bins(log_gain.exp(), log_mel.get_buffer("filterbank")),
        features.n_fft,
        features.hop_length,
        features.win_length,
        window=log_mel.get_buffer("window"),
        length=samples,
    )


def _to_bins(gain: Tensor, filterbank: Tensor) -> Tensor:
    """Gains of mel bands -> of bins, each the mean of the bands that it lies in (0: in none)."""
    share = filterbank.T / filterbank.sum(dim=0).clamp(min=1e-9)[:, None]  # (bins, n_mels)
    return share @ gain
