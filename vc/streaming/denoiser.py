"""The denoiser, step by step: the noise floor is that of what was heard so far."""

from __future__ import annotations

import torch
from torch import Tensor

from vc.model.denoiser import Denoiser, noise_floor
from vc.model.stepwise import stepwise
from vc.streaming.steps import STEP

_FLOOR_S = 16.0  # the noise floor is taken over this much
_EVERY_S = 0.7  # and so often anew


class StepwiseDenoiser:
    """`Denoiser` of a clip that goes on.

    Args:
        denoiser: of the stream.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = stepwise(denoiser, STEP)
        rate = denoiser.features.frame_rate
        self._remembered, self._every = round(_FLOOR_S * rate), round(_EVERY_S * rate)
        self._seen = torch.zeros(1, denoiser.features.n_mels, 0)
        self._floor: Tensor | None = None
        self._since = 0  # frames

    def __call__(self, log_mel: Tensor) -> Tensor:
        """The frames of a step, `(1, n_mels, frames)` -> log-gains of the same shape."""
        seen = torch.cat([self._seen.to(log_mel), log_mel[..., : STEP.new]], dim=-1)
        self._seen = seen[..., -self._remembered :]
        if self._floor is None or self._since >= self._every:
            self._floor, self._since = noise_floor(self._seen), 0
        self._since += STEP.new
        gain: Tensor = self._denoiser(log_mel, self._floor)
        return gain
