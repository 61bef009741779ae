"""Griffin-Lim: a waveform from a mel-spectrogram without any weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torchaudio.functional import griffinlim

from vc.config import FeatureConfig
from vc.features import mel_filterbank


def griffin_lim(log_mel: Tensor, config: FeatureConfig, iterations: int = 32) -> Tensor:
    """Find a waveform whose magnitudes fit (Griffin & Lim 1984; fast form, Perraudin et al. 2013).

    Args:
        log_mel: `(batch, n_mels, frames)`.
        config: what the mels are.
        iterations: more sound better and take longer.

    Returns:
        `(batch, (frames - 1) * hop_length)`.
    """
    inverse = torch.linalg.pinv(mel_filterbank(config)).to(log_mel.device)
    magnitude = (inverse @ log_mel.exp()).clamp(min=config.log_floor)
    return griffinlim(
        magnitude,
        window=torch.hann_window(config.win_length, device=log_mel.device),
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        win_length=config.win_length,
        power=1.0,
        n_iter=iterations,
        momentum=0.99,
        length=None,
        rand_init=False,
    )
