"""Content: what is said, one vector every few frames, with the speaker taken out."""

from __future__ import annotations

from torch import Tensor, nn

from vc.config import AutoencoderConfig
from vc.model.layers import ConvNeXtBlock, InstanceNorm, smooth_bands


class ContentEncoder(nn.Module):
    """Normalised mel `(batch, n_mels, frames)` -> `(batch, content_dim, ceil(frames / stride))`.

    Only the broad shape of the spectrum is looked at (`content_coefficients`), without harmonics.
    Instance normalisation over time, of the input and inside each block, removes what is constant
    in a clip (Chou & Lee 2019, arXiv:1904.05742); what varies with the speaker is removed by
    training on perturbed input and by the bottleneck that follows.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.norm = InstanceNorm() if config.input_norm else None
        self.embed = nn.Conv1d(
            config.n_mels,
            config.width,
            config.kernel_size,
            stride=config.content_stride,
            padding=config.kernel_size // 2,
        )
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(config.width, config.expansion, config.content_kernel, config.block_norm)
            for _ in range(config.content_blocks)
        )
        self.project = nn.Conv1d(config.width, config.content_dim, 1)

    def forward(self, mel: Tensor, counted: Tensor | None = None) -> Tensor:
        """See the class.

        Args:
            mel: normalised.
            counted: the frames whose statistics are taken out, `(batch, 1, frames)`, as in
                `time_statistics`; all by default.
        """
        if self.norm is not None:
            mel = self.norm(mel, counted=counted)
        x = self.look(mel)
        if counted is not None:
            counted = counted[..., :: self.config.content_stride]
        for block in self.blocks:
            x = block(x, counted=counted)
        return self.project(x)

    def look(self, mel: Tensor) -> Tensor:
        """The first layer, `(batch, n_mels, frames)` -> `(batch, width, content_frames)`.

        It sees the spectrum without its harmonics: the pitch comes to the decoder by another way,
        and content that knew it would contradict the pitch of a conversion.
        """
        if self.config.content_coefficients:
            mel = smooth_bands(mel, self.config.content_coefficients)
        return self.embed(mel)
