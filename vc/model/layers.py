"""The one convolutional block that all networks here are made of, and its two conditionings.

Letters in shape comments: B batch, C channels, T frames, S speaker dimensions.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Statistics(NamedTuple):
    """Mean and variance over time of each channel, `(batch, channels, 1)` each."""

    mean: Tensor
    variance: Tensor


def time_statistics(x: Tensor, counted: Tensor | None = None) -> Statistics:
    """Mean and variance over time of each channel of `(batch, channels, frames)`, in float32.

    Args:
        x: a clip.
        counted: which frames count, 1.0 or 0.0, `(batch, 1, frames)`, one in each clip at least;
            all by default.
    """
    wide = x.float()
    if counted is None:
        mean = wide.mean(dim=-1, keepdim=True)
        return Statistics(mean, wide.var(dim=-1, keepdim=True, unbiased=False))
    share = counted / counted.sum(dim=-1, keepdim=True)
    mean = (share * wide).sum(dim=-1, keepdim=True)
    return Statistics(mean, (share * (wide - mean).square()).sum(dim=-1, keepdim=True))


def instance_norm(x: Tensor, eps: float = 1e-5, statistics: Statistics | None = None) -> Tensor:
    """Zero mean and unit variance over time for each channel of `(batch, channels, frames)`.

    What this removes is what stays the same throughout a clip: timbre and recording channel
    (Chou & Lee 2019, arXiv:1904.05742). Computed in float32 whatever the input's precision.

    Args:
        x: a clip, or a part of one.
        eps: added to the variance.
        statistics: to take out instead of those of `x`: of the frames that count, or of the whole
            clip where `x` is only a part of it.
    """
    mean, variance = time_statistics(x) if statistics is None else statistics
    return ((x.float() - mean) * torch.rsqrt(variance + eps)).to(x.dtype)


def smooth_bands(log_mel: Tensor, coefficients: int) -> Tensor:
    """The broad shape of `(batch, n_mels, frames)`: what its first cepstral coefficients tell.

    The harmonics of the voice and the chance in noise are finer than the formants that tell one
    sound from another. What is left without them hardly knows the pitch, and loses few words.

    Args:
        log_mel: mels, or a difference of mels.
        coefficients: of the discrete cosine transform over the bands, that are kept.
    """
    n_mels = log_mel.shape[1]
    band = torch.arange(n_mels, device=log_mel.device, dtype=torch.float32) + 0.5
    order = torch.arange(coefficients, device=log_mel.device, dtype=torch.float32)
    basis = torch.cos(math.pi / n_mels * order[:, None] * band)  # (coefficients, n_mels)
    basis = functional.normalize(basis, dim=-1)
    return (basis.T @ basis).to(log_mel.dtype) @ log_mel


def smooth_frames(x: Tensor, frames: int) -> Tensor:
    """The mean of so many frames about each, an odd number; at the ends, of those that there are.

    Args:
        x: `(batch, channels, frames)`.
        frames: that the mean is taken over.
    """
    return functional.avg_pool1d(x, frames, 1, frames // 2, count_include_pad=False)


def read_between_bands(log_mel: Tensor, position: Tensor) -> Tensor:
    """Each clip as it is at other places of the mel axis, linear between bands.

    Args:
        log_mel: `(batch, n_mels, frames)`.
        position: `(batch, n_mels)`, in bands; beyond the last band is that band.
    """
    last = log_mel.shape[1] - 1
    position = position.clamp(max=last)
    low = position.floor().long().clamp(max=last - 1)
    share = (position - low).unsqueeze(-1)
    at = low.unsqueeze(-1).expand(-1, -1, log_mel.shape[-1])  # (B, M, T)
    below, above = log_mel.gather(1, at), log_mel.gather(1, at + 1)
    return below + share * (above - below)


def interleave(x: Tensor, stride: int) -> Tensor:
    """`(batch, channels * stride, frames)` -> `(batch, channels, frames * stride)`.

    The sub-pixel convolution of Shi et al. 2016 (arXiv:1609.05158): each mel frame has weights of
    its own. Were all frames of a content frame given the same, none could be told from the next,
    and onsets would blur.
    """
    batch, channels, frames = x.shape
    parts = x.reshape(batch, channels // stride, stride, frames).transpose(2, 3)
    return parts.reshape(batch, channels // stride, frames * stride)


class MelNetwork(nn.Module):
    """A network of log-mels that it standardises by the statistics of the corpus.

    Args:
        n_mels: bands.
    """

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        self.register_buffer("mel_mean", torch.full((n_mels,), -5.0))
        self.register_buffer("mel_scale", torch.full((n_mels,), 2.0))

    def set_statistics(self, mean: Tensor, scale: Tensor) -> None:
        """Set the mel mean and standard deviation of each band, `(n_mels,)`, of the corpus."""
        self.get_buffer("mel_mean").copy_(mean)
        self.get_buffer("mel_scale").copy_(scale)

    def normalize(self, log_mel: Tensor) -> Tensor:
        """Standardise each band of `(batch, n_mels, frames)` by the corpus statistics."""
        mean, scale = self.get_buffer("mel_mean"), self.get_buffer("mel_scale")
        return (log_mel - mean[:, None]) / scale[:, None]

    def denormalize(self, normalized: Tensor) -> Tensor:
        """The reverse of `normalize`, for what a network makes."""
        mean, scale = self.get_buffer("mel_mean"), self.get_buffer("mel_scale")
        return normalized * scale[:, None] + mean[:, None]


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of `(batch, channels, frames)`."""

    def __init__(self, channels: int, affine: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, elementwise_affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.norm(x.transpose(1, 2)).transpose(1, 2)  # (B, C, T) -> (B, T, C) and back


class InstanceNorm(nn.Module):
    """`instance_norm` as a module, without learnt scale: nothing puts the timbre back."""

    def forward(
        self, x: Tensor, statistics: Statistics | None = None, counted: Tensor | None = None
    ) -> Tensor:
        """As `instance_norm`, or by the statistics of the frames that are `counted`."""
        return instance_norm(x, statistics=statistics or time_statistics(x, counted))


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a two-layer perceptron a frame, with a residual.

    The one-dimensional form of Liu et al. 2022 (arXiv:2201.03545), as in Vocos (Siuzdak 2023).
    With `condition_dim`, normalised activations are scaled and shifted by a linear function of a
    vector a clip (FiLM, Perez et al. 2018; with instance norm it is AdaIN).

    Args:
        channels: width of input and output.
        expansion: inner width in multiples of `channels`.
        kernel_size: frames seen, odd.
        norm: over time ("instance") or over channels ("layer").
        condition_dim: size of the conditioning vector; 0 for none.
        layer_scale: initial size of the residual branch.
    """

    def __init__(
        self,
        channels: int,
        expansion: int,
        kernel_size: int,
        norm: Literal["instance", "layer"] = "layer",
        condition_dim: int = 0,
        layer_scale: float = 0.3,
    ) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels
        )
        affine = condition_dim == 0
        self.norm = InstanceNorm() if norm == "instance" else ChannelNorm(channels, affine)
        self.expand = nn.Linear(channels, expansion * channels)
        self.contract = nn.Linear(expansion * channels, channels)
        self.layer_scale = nn.Parameter(torch.full((channels,), layer_scale))
        self.film = nn.Linear(condition_dim, 2 * channels) if condition_dim else None

    def forward(
        self,
        x: Tensor,
        condition: Tensor | None = None,
        statistics: Statistics | None = None,
        counted: Tensor | None = None,
    ) -> Tensor:
        """Map `(batch, channels, frames)` to the same shape.

        Args:
            x: a clip, or a part of one.
            condition: `(batch, condition_dim)`.
            statistics: what an instance norm takes from the whole clip where `x` is a part of it.
            counted: frames whose statistics an instance norm takes, as in `time_statistics`.
        """
        y = self.depthwise(x)
        if isinstance(self.norm, InstanceNorm):
            y = self.norm(y, statistics, counted)
        else:
            y = self.norm(y)
        if self.film is not None:
            assert condition is not None
            scale, shift = self.film(condition).unsqueeze(-1).chunk(2, dim=1)  # (B, C, 1) each
            y = y * (1 + scale) + shift
        y = y.transpose(1, 2)  # (B, C, T) -> (B, T, C)
        y = self.contract(functional.gelu(self.expand(y))) * self.layer_scale
        return x + y.transpose(1, 2)  # (B, T, C) -> (B, C, T)
