"""Content: what is said, one vector every few frames, with the speaker taken out."""

from __future__ import annotations

from torch import Tensor, nn

from vc.config import AutoencoderConfig
from vc.model.layers import ConvNeXtBlock, instance_norm


class ContentEncoder(nn.Module):
    """Normalised mel `(batch, n_mels, frames)` -> `(batch, content_dim, ceil(frames / stride))`.

    Instance normalisation over time, of the input and inside each block, removes what is constant
    in a clip (Chou & Lee 2019, arXiv:1904.05742); what varies with the speaker is removed by
    training on perturbed input and by the bottleneck that follows.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Conv1d(
            config.n_mels,
            config.width,
            config.kernel_size,
            stride=config.content_stride,
            padding=config.kernel_size // 2,
        )
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(config.width, config.expansion, config.kernel_size, config.block_norm)
            for _ in range(config.content_blocks)
        )
        self.project = nn.Conv1d(config.width, config.content_dim, 1)

    def forward(self, mel: Tensor) -> Tensor:
        """See the class."""
        x = self.embed(instance_norm(mel) if self.config.input_norm else mel)
        for block in self.blocks:
            x = block(x)
        return self.project(x)
