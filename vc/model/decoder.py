"""Decoder: content, speaker and pitch back into a mel-spectrogram."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vc.config import AutoencoderConfig, FeatureConfig
from vc.model.layers import ChannelNorm, ConvNeXtBlock, interleave
from vc.model.speaker_encoder import split_embedding


class PitchEmbedding(nn.Module):
    """Log-F0 as activations of overlapping bells over the F0 range, plus the voicing flag."""

    def __init__(self, bands: int, width: int, features: FeatureConfig) -> None:
        super().__init__()
        low, high = math.log(features.f0_min), math.log(features.f0_max)
        self.register_buffer("centres", torch.linspace(low, high, bands), persistent=False)
        self.band_width = (high - low) / (bands - 1)
        self.project = nn.Conv1d(bands + 1, width, 1)

    def forward(self, log_f0: Tensor, voiced: Tensor) -> Tensor:
        """Map `(batch, frames)` twice to `(batch, width, frames)`."""
        distance = (log_f0.unsqueeze(1) - self.get_buffer("centres")[:, None]) / self.band_width
        bells = torch.exp(-0.5 * distance.square()) * voiced.unsqueeze(1)  # (B, bands, T)
        return self.project(torch.cat([bells, voiced.unsqueeze(1)], dim=1))


class Decoder(nn.Module):
    """Content, speaker, pitch -> normalised mel.

    Content is brought to frame rate, pitch is added, and every block is scaled and shifted by the
    speaker (FiLM): the reverse of the content encoder's instance normalisation. The last of these
    is exact: what comes out deviates from the speaker's own mean spectrum, in units of its spread.
    """

    def __init__(self, config: AutoencoderConfig, features: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        width, kernel = config.width, config.kernel_size
        self.embed = nn.Conv1d(config.content_dim, width * config.content_stride, 3, padding=1)
        self.pitch = PitchEmbedding(config.f0_bands, width, features)
        self.speaker = nn.Sequential(
            nn.Linear(config.embedding_dim, width), nn.GELU(), nn.Linear(width, width), nn.GELU()
        )
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width, config.expansion, kernel, config.decoder_norm, width)
            for _ in range(config.decoder_blocks)
        )
        self.norm = ChannelNorm(width)
        self.project = nn.Conv1d(width, config.n_mels, 3, padding=1)

    def forward(
        self, content: Tensor, speaker_embedding: Tensor, log_f0: Tensor, voiced: Tensor
    ) -> Tensor:
        """Decode.

        Args:
            content: `(batch, content_dim, content_frames)`.
            speaker_embedding: `(batch, embedding_dim)`.
            log_f0: `(batch, frames)`, natural log of Hz.
            voiced: `(batch, frames)`, 1.0 where voiced.

        Returns:
            `(batch, n_mels, frames)`.
        """
        begun = self.begin(content, speaker_embedding, log_f0, voiced)
        return self.end(begun, speaker_embedding)

    def begin(
        self, content: Tensor, speaker_embedding: Tensor, log_f0: Tensor, voiced: Tensor
    ) -> Tensor:
        """The first half, which is the same for a voice that the rest was tuned to.

        Args and shapes as in `forward`; returns `(batch, width, frames)`.
        """
        x = interleave(self.embed(content), self.config.content_stride)[..., : log_f0.shape[-1]]
        if self.config.f0_conditioning:
            x = x + self.pitch(log_f0, voiced)
        condition = self._condition(speaker_embedding)
        for block in list(self.blocks)[: self.first_tuned_block]:
            x = block(x, condition)
        return x

    def end(self, x: Tensor, speaker_embedding: Tensor) -> Tensor:
        """From what `begin` gives, `(batch, width, frames)`, to `(batch, n_mels, frames)`."""
        condition = self._condition(speaker_embedding)
        for block in list(self.blocks)[self.first_tuned_block :]:
            x = block(x, condition)
        deviation = self.project(self.norm(x)).float()
        _, mean, log_deviation = split_embedding(speaker_embedding, self.config)
        return mean.unsqueeze(-1) + log_deviation.exp().unsqueeze(-1) * deviation

    @property
    def first_tuned_block(self) -> int:
        """See `vc.model.tuning`: the second half of the blocks can be tuned to a voice."""
        return len(self.blocks) // 2

    def _condition(self, speaker_embedding: Tensor) -> Tensor:
        """What scales and shifts the blocks, `(batch, width)`."""
        identity, mean, log_deviation = split_embedding(speaker_embedding, self.config)
        # a unit vector of many dimensions has small entries: bring them to about one
        parts = [identity * self.config.speaker_dim**0.5]
        if self.config.speaker_statistics:
            parts += [mean, log_deviation]
        condition: Tensor = self.speaker(torch.cat(parts, dim=-1))
        return condition
