"""The baseline: principal components of the same size, and numbers rounded to a few bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

LEVELS = 16  # a number is rounded to these, evenly spaced over 3 standard deviations either way
SPAN = 3.0

Mel = npt.NDArray[np.float32]  # (n_mels, frames), each band standardised over the corpus
FloatArray = npt.NDArray[np.float64]


class Pca:
    """Principal components (Pearson 1901) of stacks of frames, by decreasing variance.

    Args:
        mels: training clips.
        stack: frames that are coded together.
        centred: each clip's own mean is taken out first, and given back for nothing: what a
            speaker latent may know.
    """

    def __init__(self, mels: list[Mel], stack: int, centred: bool) -> None:
        self.stack, self.centred = stack, centred
        rows = np.concatenate([self._stacks(mel - self._clip_mean(mel)) for mel in mels])
        self.mean = rows.mean(axis=0)
        variances, vectors = np.linalg.eigh(np.cov(rows, rowvar=False))
        self.vectors = vectors[:, ::-1]  # (stack * n_mels, components)
        self.deviations = np.sqrt(np.maximum(variances[::-1], 1e-12))

    def rebuild(self, mel: Mel, numbers: int, rounded: bool = False) -> Mel:
        """A clip from its first `numbers` components a stack; `rounded` to `LEVELS` each."""
        clip_mean = self._clip_mean(mel)
        vectors, deviations = self.vectors[:, :numbers], self.deviations[:numbers]
        coded = (self._stacks(mel - clip_mean) - self.mean) @ vectors
        if rounded:
            coded = round_to_levels(torch.from_numpy(coded / deviations)).numpy() * deviations
        stacks = coded @ vectors.T + self.mean
        frames = stacks.reshape(-1, len(mel))[: mel.shape[1]]
        rebuilt: Mel = frames.T.astype(np.float32) + clip_mean
        return rebuilt

    def _stacks(self, mel: Mel) -> FloatArray:
        """`(n_mels, frames)` -> `(stacks, stack * n_mels)`; the last frame is repeated."""
        missing = -mel.shape[1] % self.stack
        padded = np.pad(mel, ((0, 0), (0, missing)), mode="edge")
        return padded.T.reshape(-1, self.stack * len(mel)).astype(np.float64)

    def _clip_mean(self, mel: Mel) -> Mel:
        mean: Mel = mel.mean(axis=1, keepdims=True) * np.float32(self.centred)
        return mean


def round_to_levels(numbers: torch.Tensor) -> torch.Tensor:
    """Numbers of unit variance, rounded to one of `LEVELS` values."""
    step = 2 * SPAN / (LEVELS - 1)
    places = ((numbers + SPAN) / step).round().clamp(0, LEVELS - 1)
    return places * step - SPAN
