"""Speaker: who says it, one vector a clip, with the words averaged out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vc.config import AutoencoderConfig
from vc.model.layers import ConvNeXtBlock


class SpeakerEncoder(nn.Module):
    """Normalised mel `(batch, n_mels, frames)` -> unit vectors `(batch, speaker_dim)`.

    Frames are weighed by attention, and their weighted mean and standard deviation over the clip
    (attentive statistics pooling, Okabe et al. 2018, arXiv:1803.10963) are all that is kept, so
    that the order of sounds is lost.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        width, kernel = config.speaker_width, config.kernel_size
        # half the frame rate is enough: a voice does not change from frame to frame
        self.embed = nn.Conv1d(config.n_mels, width, kernel, stride=2, padding=kernel // 2)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width, config.expansion, kernel) for _ in range(config.speaker_blocks)
        )
        self.frame = nn.Conv1d(width, 2 * width, 1)
        self.attention = nn.Sequential(
            nn.Conv1d(width, width // 2, 1), nn.Tanh(), nn.Conv1d(width // 2, 2 * width, 1)
        )
        self.project = nn.Linear(4 * width, config.speaker_dim)

    def forward(self, mel: Tensor) -> Tensor:
        """See the class."""
        x = self.embed(mel)
        for block in self.blocks:
            x = block(x)
        frames = functional.gelu(self.frame(x)).float()  # (B, C, T)
        weights = self.attention(x).float().softmax(dim=-1)
        mean = (weights * frames).sum(dim=-1)
        variance = (weights * frames.square()).sum(dim=-1) - mean.square()
        statistics = torch.cat([mean, variance.clamp(min=1e-4).sqrt()], dim=-1)
        return functional.normalize(self.project(statistics).float(), dim=-1)
