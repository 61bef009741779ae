"""Vocal tract: how long the speaker's is, and the clip as the average one would have said it.

A longer tract moves all formants down, which makes one vowel of one speaker look like another of
another. Speech recognition has long stretched each speaker's spectrum to undo it (Lee & Rose 1996,
"Speaker normalization using efficient frequency warping procedures"). Here the stretch is not
searched for but heard, by a small network that learns without labels: a clip that is bent by a
known amount must sound bent by just that, and two clips of one speaker alike. How much longer one
speaker's tract is than another's is then told in the same units. Content that is read from the
straightened clip does not carry the tract; the decoder takes it from the speaker embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vc.config import AutoencoderConfig
from vc.model.layers import (
    ConvNeXtBlock,
    Statistics,
    read_between_bands,
    smooth_bands,
    time_statistics,
)

TRACT_DEVIATION = 0.06  # of the stretches of speakers, natural log
STRIDE = 2  # frames; a tract does not change from frame to frame
_PLACES = (0.1, 0.35, 0.65)  # of the mel axis: about the first, second and third formant
_COEFFICIENTS = 14  # cepstral: formants, not harmonics, or it would listen to the pitch
_UNIT = 0.1  # of the network's output, natural log: what `draw_stretches` bends clips by, about


class VocalTractEncoder(nn.Module):
    """Normalised mel `(batch, n_mels, frames)` -> stretch of its formants `(batch, 3)`.

    Natural logarithms, for low, middle and high formants, against the average of the speakers of
    the training: above 0, they lie lower. `bend` by its negative straightens the clip.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        width, kernel = config.tract_width, config.kernel_size
        self.embed = nn.Conv1d(config.n_mels, width, kernel, stride=STRIDE, padding=kernel // 2)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width, 2, kernel) for _ in range(config.tract_blocks)
        )
        self.project = nn.Sequential(
            nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, len(_PLACES))
        )

    def forward(self, mel: Tensor, counted: Tensor | None = None) -> Tensor:
        """See the class; `counted` frames as in `time_statistics`, `(batch, 1, frames)`."""
        if counted is not None:
            counted = counted[..., ::STRIDE]
        return self.tell(time_statistics(self.look(mel), counted))

    def look(self, mel: Tensor) -> Tensor:
        """All but the last layers, to `(batch, tract_width, ceil(frames / STRIDE))`."""
        x = self.embed(smooth_bands(mel, _COEFFICIENTS))
        for block in self.blocks:
            x = block(x)
        return x

    def tell(self, statistics: Statistics) -> Tensor:
        """The stretch, `(batch, 3)`, from the statistics over a whole clip of what `look` gave."""
        mean, variance = (x.squeeze(-1) for x in statistics)
        pooled = torch.cat([mean, variance.clamp(min=1e-4).sqrt()], dim=-1)
        return _UNIT * self.project(pooled).float()


def bend(log_mel: Tensor, stretch: Tensor) -> Tensor:
    """Stretch the mel axis of each clip, by an amount that changes along it.

    Args:
        log_mel: `(batch, n_mels, frames)`.
        stretch: `(batch, 3)`, natural logarithms; above 0, formants move down.
    """
    n_mels = log_mel.shape[1]
    band = torch.arange(n_mels, device=log_mel.device)
    # not a matrix product, which autocast would round: half a band is much
    factor = (stretch.float()[..., None] * _hats(n_mels, log_mel.device)).sum(1).exp()  # (B, M)
    return read_between_bands(log_mel, band * factor)


def draw_stretches(count: int, device: torch.device) -> Tensor:
    """Random stretches `(count, 3)` as wide as, and a little wider than, tracts differ."""
    whole = torch.rand(count, 1, device=device) * 2 - 1
    parts = torch.rand(count, len(_PLACES), device=device) * 2 - 1
    return 0.15 * whole + 0.08 * parts


def _hats(n_mels: int, device: torch.device) -> Tensor:
    """How much each place counts at each band, `(3, n_mels)`: linear between places."""
    band = torch.arange(n_mels, device=device, dtype=torch.float32)
    places = [place * n_mels for place in _PLACES]
    rows = []
    for number, place in enumerate(places):
        row = torch.ones_like(band)
        if number > 0:
            before = places[number - 1]
            row = torch.minimum(row, (band - before) / (place - before))
        if number + 1 < len(places):
            after = places[number + 1]
            row = torch.minimum(row, (after - band) / (after - place))
        rows.append(row.clamp(min=0))
    return torch.stack(rows)
