"""Codes that learn phones: what is hidden is guessed from what is around it.

Content is read with spans of it masked, as BERT does with words; a network guesses the cluster that
each hidden frame belongs to. A cluster of sounds that is to be guessed from its neighbours must be
one that language knows, so inside the network frames are nearer to phones than content is, and its
own codebook, which follows those inner frames, is a better alphabet. That alphabet may be what the
next network guesses. This is HuBERT (Hsu et al. 2021, arXiv:2106.07447) on the content of the
autoencoder instead of waveforms, with convolutions for attention, and small.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vc.config import FeatureConfig, MaskedPredictorConfig
from vc.model.bottleneck import VectorQuantizer
from vc.model.layers import ChannelNorm, ConvNeXtBlock


class MaskedPredictor(nn.Module):
    """Content `(batch, content_dim, content_frames)` -> codes, and guesses at what is hidden.

    Args:
        config: sizes.
        features: what the content was read from; travels with the weights.
    """

    def __init__(self, config: MaskedPredictorConfig, features: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.features = features
        width, stride = config.width, config.stride
        self.embed = nn.Conv1d(config.content_dim, width, 3 * stride, stride, padding=stride)
        self.hidden = nn.Parameter(torch.zeros(width))  # stands for every masked step
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width, config.expansion, config.kernel_size) for _ in range(config.blocks)
        )
        self.inner_norm = ChannelNorm(width, affine=False)
        self.codebook = VectorQuantizer(config.codebook_size, width)
        self.head = nn.Sequential(ChannelNorm(width), nn.Conv1d(width, config.targets, 1))

    def forward(self, content: Tensor, mask: Tensor | None = None) -> Tensor:
        """Guess every step, which is `stride` content frames: logits `(batch, targets, steps)`.

        Args:
            content: `(batch, content_dim, content_frames)`.
            mask: `(batch, steps)`, true where the network may not look.
        """
        x = self._read(content, mask)
        for block in self.blocks[self.config.code_block :]:
            x = block(x)
        return self.head(x).float()

    def _read(self, content: Tensor, mask: Tensor | None = None) -> Tensor:
        """As far as the codebook reads, `(batch, width, steps)`."""
        missing = -content.shape[-1] % self.config.stride
        x = self.embed(functional.pad(content, (0, missing)))
        if mask is not None:
            x = torch.where(mask[:, None], self.hidden[:, None].to(x.dtype), x)
        for block in self.blocks[: self.config.code_block]:
            x = block(x)
        return x

    def inner(self, content: Tensor) -> Tensor:
        """What the codebook is of, `(batch, width, steps)`."""
        return self.inner_norm(self._read(content).float())

    def codes(self, content: Tensor) -> Tensor:
        """The code of each step, `(batch, steps)`."""
        codes = self.codebook(self.inner(content)).codes
        assert codes is not None
        return codes

    def follow(self, content: Tensor) -> None:
        """While training: let the codebook follow what the network makes of content."""
        self.codebook(self.inner(content))
