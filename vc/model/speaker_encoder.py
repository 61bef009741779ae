"""Speaker: who says it, one vector a clip, with the words averaged out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vc.config import AutoencoderConfig
from vc.model.layers import ConvNeXtBlock, time_statistics
from vc.model.speech_frames import active_frames, frame_levels

# of 300 clips all but one band in a thousand lie within these, and none by far outside
_MEANS = (-2.0, 2.0)
_LOG_DEVIATIONS = (-2.0, 0.5)


class SpeakerParts(NamedTuple):
    """What a speaker embedding is made of."""

    identity: Tensor  # (batch, speaker_dim), unit vectors
    mean: Tensor  # (batch, n_mels), mean of the normalised mel over speech
    log_deviation: Tensor  # (batch, n_mels), log of its standard deviation over speech


class SpectralStatistics(NamedTuple):
    """How a voice fills the spectrum: over the speech frames of a clip, for each mel band."""

    mean: Tensor  # (batch, n_mels)
    log_deviation: Tensor  # (batch, n_mels)


class SpeakerEncoder(nn.Module):
    """Normalised mel `(batch, n_mels, frames)` -> speaker embeddings `(batch, embedding_dim)`.

    The learnt part weighs frames by attention and keeps their weighted mean and standard
    deviation over the clip (attentive statistics pooling, Okabe et al. 2018, arXiv:1803.10963), so
    that the order of sounds is lost; it is a unit vector. Beside it stand two plain statistics,
    mean and spread of each mel band over speech: the very things that instance normalisation takes
    out of content. A vector learnt from few thousand speakers generalises badly to new ones; the
    mean spectrum needs no generalising. What noise, a room or a telephone does to it is guessed
    from the same frames as the learnt part, and taken back (`config.speaker_repair`).
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
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
        self.repair = Repair(4 * width, config.n_mels) if config.speaker_repair else None

    def forward(self, mel: Tensor, repaired: bool = True) -> Tensor:
        """See the class; `repaired` is whether statistics are, if the model can."""
        x = self.embed(mel)
        for block in self.blocks:
            x = block(x)
        frames = functional.gelu(self.frame(x)).float()  # (B, C, T)
        weights = self.attention(x).float().softmax(dim=-1)
        mean = (weights * frames).sum(dim=-1)
        variance = (weights * frames.square()).sum(dim=-1) - mean.square()
        pooled = torch.cat([mean, variance.clamp(min=1e-4).sqrt()], dim=-1)
        identity = functional.normalize(self.project(pooled).float(), dim=-1)
        if not self.config.speaker_statistics:
            return identity
        statistics = torch.cat(spectral_statistics(mel), dim=-1)
        if self.repair is not None and repaired:
            statistics = self.repair(statistics, pooled)
        return torch.cat([identity, statistics], dim=-1)


class Repair(nn.Module):
    """Spectral statistics as they were before noise, a room or a telephone changed them.

    From what the speaker encoder hears it is guessed what they should be. The guess is a rough one,
    so what is heard is kept, but for bands in which it is far from the guess: a voice differs from
    it by a little, and what a telephone has cut off by a lot. No guess lies beyond what speech has:
    of clips unlike any in training (noise louder than the voice) wild ones would be made.

    Args:
        width: of what the speaker encoder hears.
        n_mels: bands; each has two statistics.
    """

    def __init__(self, width: int, n_mels: int) -> None:
        super().__init__()
        size = 2 * n_mels
        self.guess = nn.Linear(width, size)
        self.doubt = nn.Linear(width, size)
        self.steepness = nn.Parameter(torch.full((size,), 4.0))
        for layer, bias in ((self.guess, 0.0), (self.doubt, -6.0)):
            nn.init.zeros_(layer.weight)
            nn.init.constant_(layer.bias, bias)

    def forward(self, statistics: Tensor, pooled: Tensor) -> Tensor:
        """`(batch, 2 * n_mels)` and `(batch, width)` -> `(batch, 2 * n_mels)`."""
        mean, log_deviation = self.guess(pooled).float().chunk(2, dim=-1)
        guess = [mean.clamp(*_MEANS), log_deviation.clamp(*_LOG_DEVIATIONS)]
        off = torch.cat(guess, dim=-1) - statistics
        share = (self.doubt(pooled).float() + self.steepness * off.abs()).sigmoid()
        return statistics + share * off


def spectral_statistics(mel: Tensor) -> SpectralStatistics:
    """Mean and log standard deviation over speech frames of `(batch, n_mels, frames)`."""
    mel = mel.float()
    mean, variance = time_statistics(mel, active_frames(frame_levels(mel)))
    mean, variance = mean.squeeze(-1), variance.squeeze(-1)
    return SpectralStatistics(mean, 0.5 * variance.clamp(min=1e-3).log())


def split_embedding(embedding: Tensor, config: AutoencoderConfig) -> SpeakerParts:
    """Take a speaker embedding `(batch, embedding_dim)` apart; zeros where it has no statistics."""
    identity = embedding[:, : config.speaker_dim]
    if not config.speaker_statistics:
        zeros = embedding.new_zeros(len(embedding), config.n_mels)
        return SpeakerParts(identity, zeros, zeros)
    return SpeakerParts(identity, *embedding[:, config.speaker_dim :].chunk(2, dim=-1))


def average_embeddings(embeddings: Tensor, weights: Tensor, config: AutoencoderConfig) -> Tensor:
    """One voice from several clips, or a blend of voices.

    Args:
        embeddings: `(clips, embedding_dim)`.
        weights: `(clips,)`, positive.
        config: tells the parts of an embedding.

    Returns:
        `(embedding_dim,)`; the learnt part is a unit vector again.
    """
    mean = (embeddings * (weights / weights.sum()).unsqueeze(-1)).sum(dim=0)
    return with_unit_identity(mean, config)


def exaggerate(
    embedding: Tensor, average: Tensor, share: float, config: AutoencoderConfig
) -> Tensor:
    """Embeddings `(batch, embedding_dim)` that lie farther from the average, by `share` as far."""
    return with_unit_identity(embedding + share * (embedding - average), config)


def ask_again(
    asked: Tensor, wanted: Tensor, heard: Tensor, share: float, config: AutoencoderConfig
) -> Tensor:
    """What to ask for next, if one embedding was asked for and another was heard.

    The mean spectrum stays as it was asked for: what is heard of it hangs on what was said.

    Args:
        asked: `(batch, embedding_dim)`.
        wanted: the same shape.
        heard: the same shape.
        share: of what was missing, to ask for in addition.
        config: tells the parts of an embedding.
    """
    identity, _, log_deviation = split_embedding(share * (wanted - heard), config)
    missed = [identity]
    if config.speaker_statistics:
        missed += [torch.zeros_like(log_deviation), log_deviation]
    return with_unit_identity(asked + torch.cat(missed, dim=-1), config)


def with_unit_identity(embedding: Tensor, config: AutoencoderConfig) -> Tensor:
    """`(..., embedding_dim)` with a learnt part of length 1, as the decoder knows it."""
    identity = functional.normalize(embedding[..., : config.speaker_dim], dim=-1)
    return torch.cat([identity, embedding[..., config.speaker_dim :]], dim=-1)
