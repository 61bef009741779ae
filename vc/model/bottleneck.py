"""Bottlenecks: how much a content frame can carry. One class an idea, one interface."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vc.config import AutoencoderConfig
from vc.model.layers import instance_norm


class NoiseBottleneck(nn.Module):
    """Unit-variance content through an additive white Gaussian noise channel while training.

    Instance normalisation fixes each channel's power at 1 (and takes its clip-wide mean, where
    the speaker hides, away); noise of standard deviation `noise` then caps what a channel can say
    at `0.5 * log2(1 + 1 / noise**2)` bits a frame (Shannon 1948). The decoder learns to rely on
    what survives, the encoder to say what matters most. Without noise (`noise = 0`) only the
    number of channels is a limit. At inference nothing is added.
    """

    def __init__(self, noise: float) -> None:
        super().__init__()
        self.noise = noise

    def forward(self, content: Tensor) -> Tensor:
        """Map `(batch, content_dim, content_frames)` to the same shape."""
        content = instance_norm(content.float())
        if self.training and self.noise > 0:
            content = content + self.noise * torch.randn_like(content)
        return content


def make_bottleneck(config: AutoencoderConfig) -> nn.Module:
    """The bottleneck that a configuration names."""
    return NoiseBottleneck(config.bottleneck_noise if config.bottleneck == "noise" else 0.0)
