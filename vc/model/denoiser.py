"""The denoiser: how far each mel band of each frame must be turned down to leave the speech.

The denoising autoencoder's task (Vincent et al. 2008): corrupt the input, rebuild the clean. What
is rebuilt is a gain that is laid over the noisy recording, so that clean input passes as it is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from vc.config import DenoiserConfig, FeatureConfig
from vc.model.layers import ChannelNorm, ConvNeXtBlock

_LOG_MEL_CENTRE, _LOG_MEL_SCALE = -5.0, 2.0
_FLOOR_QUANTILE = 0.1  # the quietest tenth of a band is taken for its noise


class Denoiser(nn.Module):
    """Log-mel `(batch, n_mels, frames)` of noisy speech -> log-gains of the same shape, at most 0.

    Beside the frames it sees the noise floor of each band over the whole stretch, as spectral
    subtraction does (Boll 1979): what stands there all the time is not speech.
    """

    def __init__(self, config: DenoiserConfig, features: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.features = features
        self.log_gain_min = -config.max_reduction_db * math.log(10) / 20
        self.embed = nn.Conv1d(
            2 * config.n_mels, config.width, config.kernel_size, padding=config.kernel_size // 2
        )
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(config.width, config.expansion, config.block_kernel)
            for _ in range(config.blocks)
        )
        self.norm = ChannelNorm(config.width)
        self.project = nn.Conv1d(config.width, config.n_mels, 1)

    def forward(self, log_mel: Tensor, floor: Tensor | None = None) -> Tensor:
        """See the class; `floor` is `noise_floor` of the stretch, where only a part is given."""
        mel = _normalize(log_mel)
        floor = noise_floor(mel) if floor is None else _normalize(floor)
        x = self.embed(torch.cat([mel, floor.expand_as(mel)], dim=1))
        for block in self.blocks:
            x = block(x)
        return self.log_gain_min * torch.sigmoid(self.project(self.norm(x)).float() - 2)

    @property
    def context_frames(self) -> int:
        """Frames on either side that a frame's gain depends on, but for the noise floor."""
        config = self.config
        return config.kernel_size // 2 + config.blocks * (config.block_kernel // 2)


def _normalize(log_mel: Tensor) -> Tensor:
    return (log_mel - _LOG_MEL_CENTRE) / _LOG_MEL_SCALE


def noise_floor(log_mel: Tensor) -> Tensor:
    """Of each band of a stretch `(batch, n_mels, frames)`, `(batch, n_mels, 1)`."""
    return log_mel.quantile(_FLOOR_QUANTILE, dim=-1, keepdim=True)


def denoising_loss(log_gain: Tensor, noisy: Tensor, clean: Tensor, exponent: float = 0.3) -> Tensor:
    """Distance of the turned-down mel from the clean one, magnitudes raised to `exponent`.

    The compression lets quiet consonants count beside loud vowels, but not silence beside speech.

    Args:
        log_gain: `(batch, n_mels, frames)`.
        noisy: log-mel of the same shape.
        clean: log-mel of the same shape.
        exponent: of magnitudes.
    """
    return functional.l1_loss((exponent * (noisy + log_gain)).exp(), (exponent * clean).exp())
