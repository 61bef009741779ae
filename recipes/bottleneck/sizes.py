"""The sizes of the sweep, and what each reached."""

from __future__ import annotations

import math
from typing import NamedTuple

from recipes.bottleneck.pca import LEVELS, FloatArray
from vc.evaluation.bootstrap import Summary, summarize_values


class Size(NamedTuple):
    """One bottleneck: what passes, how often."""

    name: str
    numbers: int  # a content frame
    stride: int = 1  # mel frames a content frame
    kind: str = "narrow"
    bits: float = 0.0  # a content frame; 0: numbers are rounded for it when scored
    settings: tuple[str, ...] = ()  # of the recipe, besides

    @property
    def overrides(self) -> list[str]:
        """The lines of the recipe that make this size."""
        return [
            f"autoencoder.bottleneck={self.kind}",
            f"autoencoder.content_dim={self.numbers}",
            f"autoencoder.content_stride={self.stride}",
            *self.settings,
        ]

    @property
    def folder(self) -> str:
        """Where its checkpoint lies in the output folder."""
        return self.name.replace(",", "").replace(" ", "_")

    @property
    def bits_a_frame(self) -> float:
        """Of symbols, or of numbers that are rounded."""
        return self.bits or self.numbers * math.log2(LEVELS)


SIZES = (
    *(Size(f"dim {n}", n) for n in (1, 2, 4, 8, 16, 32)),
    *(Size(f"dim 8, stride {s}", 8, s) for s in (2, 4, 8)),
    Size("vq 256", 16, 1, "vq", 8, ("autoencoder.codebook_size=256", "loss.bottleneck=0.02")),
    Size("fsq 8 8 4", 3, 1, "fsq", 8, ("autoencoder.quantizer_levels=[8, 8, 4]",)),
    Size("binary 8", 8, 1, "binary", 8),
    Size("one-hot 256", 256, 1, "one_hot", 8, ("loss.bottleneck=0.1",)),
    Size("binary 32", 32, 1, "binary", 32),
)


class Errors(NamedTuple):
    """Of each validation clip, `(clips,)`."""

    deviations: FloatArray  # mean absolute error, in standard deviations of each band
    db: FloatArray  # root mean square over the bands, mean over frames


class Row(NamedTuple):
    """What one size reached, and PCA of the same size."""

    size: Size
    errors: dict[str, Errors]  # by column

    def difference(self, first: str, second: str) -> Summary:
        """Mean difference in dB, clip by clip, with its interval."""
        summary = summarize_values(self.errors[first].db - self.errors[second].db)
        assert summary is not None
        return summary
