"""Content as symbols: a few codes for every few frames, and content rebuilt from them.

The autoencoder stays as it is. Its content is read by a small network at a lower rate, rounded to
the entries of codebooks, one after the other (residual quantisation: each codes what those before
it have left), and rebuilt by another small network: the scheme of SoundStream (Zeghidour et al.
2021, arXiv:2107.03312) on content instead of waveforms. While training, each clip may use only its
first few codebooks, so that one network serves all bit rates: the codes of the first alone are the
units of `vc.units`, the first few those of `vc.compress`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vc.config import FeatureConfig, UnitConfig
from vc.model.bottleneck import VectorQuantizer
from vc.model.layers import ChannelNorm, ConvNeXtBlock, interleave


class UnitCoder(nn.Module):
    """Content `(batch, content_dim, content_frames)` -> codes -> content.

    Letters in shape comments: B batch, S stages (codebooks in use), U units (frames at the lower
    rate).

    Args:
        config: sizes.
        features: what the content was read from; travels with the weights.
    """

    def __init__(self, config: UnitConfig, features: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.features = features
        width, stride = config.width, config.stride

        def blocks(count: int) -> nn.ModuleList:
            return nn.ModuleList(
                ConvNeXtBlock(width, config.expansion, config.kernel_size) for _ in range(count)
            )

        self.embed = nn.Conv1d(config.content_dim, width, 3 * stride, stride, padding=stride)
        self.blocks = blocks(config.encoder_blocks)
        self.project = nn.Sequential(ChannelNorm(width), nn.Conv1d(width, config.code_dim, 1))
        self.quantizers = nn.ModuleList(
            VectorQuantizer(config.codebook_size, config.code_dim) for _ in range(config.stages)
        )
        self.restore_embed = nn.Conv1d(config.code_dim, width, 3, padding=1)
        self.restore_blocks = blocks(config.decoder_blocks)
        self.restore_project = nn.Sequential(
            ChannelNorm(width), nn.Conv1d(width, config.content_dim * stride, 3, padding=1)
        )

    @property
    def codebooks(self) -> list[VectorQuantizer]:
        """One a stage."""
        return [q for q in self.quantizers if isinstance(q, VectorQuantizer)]

    def encode(self, content: Tensor, stages: int) -> Tensor:
        """Codes `(batch, stages, units)` of content; the last unit may reach past its end."""
        return self.quantize(self.read(content), stages)[1]

    def decode(self, codes: Tensor) -> Tensor:
        """Content `(batch, content_dim, units * stride)` of codes `(batch, stages, units)`."""
        return self.restore(self.look_up(codes))

    def read(self, content: Tensor) -> Tensor:
        """Content -> what is to be quantised, `(batch, code_dim, units)`."""
        missing = -content.shape[-1] % self.config.stride
        x = self.embed(functional.pad(content, (0, missing)))
        for block in self.blocks:
            x = block(x)
        return self.project(x).float()

    def quantize(self, read: Tensor, stages: int) -> tuple[Tensor, Tensor, Tensor]:
        """Round what was read, codebook by codebook.

        Returns:
            What each codebook adds, `(batch, stages, code_dim, units)`; their codes
            `(batch, stages, units)`; how far each stage's input is from its entry, to be trained.
        """
        added, codes, losses = [], [], []
        for quantizer in self.codebooks[:stages]:
            chosen = quantizer(read)
            added.append(quantizer.look_up(chosen.codes))
            codes.append(chosen.codes)
            losses.append(chosen.loss)
            read = read - added[-1]
        return torch.stack(added, dim=1), torch.stack(codes, dim=1), torch.stack(losses).mean()

    def look_up(self, codes: Tensor) -> Tensor:
        """Codes `(batch, stages, units)` -> `(batch, code_dim, units)`."""
        stages = zip(self.codebooks, codes.unbind(dim=1), strict=False)
        return torch.stack([quantizer.look_up(chosen) for quantizer, chosen in stages]).sum(dim=0)

    def restore(self, quantized: Tensor) -> Tensor:
        """`(batch, code_dim, units)` -> content `(batch, content_dim, units * stride)`."""
        x = self.restore_embed(quantized)
        for block in self.restore_blocks:
            x = block(x)
        return interleave(self.restore_project(x).float(), self.config.stride)

    @torch.no_grad()
    def start_codebooks(self, content: Tensor) -> None:
        """Put the codebooks' entries where content is, before training.

        Args:
            content: at least `codebook_size` units of it, `(batch, content_dim, content_frames)`.
        """
        read = self.read(content)
        for quantizer in self.codebooks:
            frames = read.transpose(1, 2).flatten(0, 1)  # (B, C, U) -> (B * U, C)
            picks = torch.randperm(len(frames))[: self.config.codebook_size]
            quantizer.start(frames[picks])
            codes = torch.cdist(read.transpose(1, 2), quantizer.get_buffer("codebook")).argmin(-1)
            read = read - quantizer.look_up(codes)
