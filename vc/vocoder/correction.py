"""The vocoder listens to itself, and turns bands up or down where its mel is not the wanted one.

A network's filters are right on average only, and the noise that goes through them has its own
ups and downs. Both are heard in the mel of what came out, and the mel that should have come out is
known. This is analysis by synthesis (Bell et al. 1961, JASA 33, "Reduction of speech spectra by
analysis-by-synthesis techniques"). True mels are to be met; decoded ones are smoother than speech
can be, so the network says how far each band of a frame is to be trusted. And what lies below a
voice is a room: it moves slowly, and so does its correction.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vc.config import FeatureConfig
from vc.features import between_bands, mel_centres_hz
from vc.model.layers import smooth_frames

RUMBLE_FRAMES = 25  # that a room is heard for, half of them before and half after

_LARGEST = 2.0  # natural log: what is further off than 17 dB is not the filters' fault


class Shares(NamedTuple):
    """How much of what is missing in the mel is given back; above 1, more than that."""

    at_once: Tensor  # frame by frame, `(batch, n_mels, frames)`
    slowly: Tensor  # of its mean over `RUMBLE_FRAMES`, alike


class MelCorrection(nn.Module):
    """Log-mel wanted, and log-mel heard -> gains for the spectrum that the latter comes from.

    Args:
        features: what the mels are.
        bins: of the spectrum, from 0 Hz to half the sample rate.
        steps_per_frame: columns of the spectrum for each frame of the mel.
    """

    def __init__(self, features: FeatureConfig, bins: int, steps_per_frame: int) -> None:
        super().__init__()
        self.steps_per_frame = steps_per_frame
        centres = mel_centres_hz(features)
        with torch.device("cpu"):
            hertz = torch.linspace(0, features.sample_rate / 2, bins)
        self.register_buffer("centres", centres, persistent=False)  # Hz
        self.register_buffer("between_bands", between_bands(centres, hertz), persistent=False)

    def forward(self, wanted: Tensor, heard: Tensor, shares: Shares) -> Tensor:
        """Gains `(batch, bins, frames * steps_per_frame)`, 1 where nothing is to be changed.

        Args:
            wanted: log-mel `(batch, n_mels, frames)`.
            heard: that of what was synthesised, alike.
            shares: of what is missing.
        """
        missing = (wanted.float() - heard).clamp(-_LARGEST, _LARGEST)
        steady = smooth_frames(missing, RUMBLE_FRAMES)
        given = shares.at_once * (missing - steady) + shares.slowly * steady
        log_gain = self.get_buffer("between_bands") @ torch.cat([given, given[..., -1:]], -1)
        columns = wanted.shape[-1] * self.steps_per_frame
        between_frames = functional.interpolate(
            log_gain, size=columns + 1, mode="linear", align_corners=True
        )
        return between_frames[..., :columns].exp()
