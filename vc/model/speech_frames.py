"""Which frames of a clip are speech: statistics of a voice or of words are not those of silence."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

_ACTIVE_RANGE = 1.5  # how far below the loud frames a frame still is speech, in corpus deviations
_NEAR_SPEECH = 15  # frames, a quarter of a second: pauses between words belong to what is said


def frame_levels(mel: Tensor) -> Tensor:
    """How loud each frame is: normalised mels `(batch, n_mels, frames)` -> `(batch, frames)`."""
    return mel.mean(dim=1)


def active_frames(levels: Tensor) -> Tensor:
    """Which frames are speech, 1.0 or 0.0: levels `(batch, frames)` -> `(batch, 1, frames)`."""
    active = levels >= _quantile_95(levels.detach()) - _ACTIVE_RANGE
    return active.to(levels.dtype).unsqueeze(1)


def near_speech(levels: Tensor) -> Tensor:
    """Which frames are speech or a short pause in it, 1.0 or 0.0; shapes as `active_frames`.

    Somebody who presses the button early and lets go of it late records seconds of silence. Were
    they counted, instance norms would take the voice for quieter and livelier than it is, and
    words would be lost; were short pauses not counted either, it would be unlike the training.
    """
    reach = 2 * _NEAR_SPEECH + 1
    share = functional.avg_pool1d(active_frames(levels), reach, stride=1, padding=_NEAR_SPEECH)
    return (share > 0).to(levels.dtype)  # a maximum, which cannot be exported itself


def _quantile_95(levels: Tensor) -> Tensor:
    """`torch.quantile` at 0.95 of `(batch, frames)`, `(batch, 1)`; it cannot be exported itself."""
    ordered = levels.sort(dim=-1).values
    place = 19 * (levels.shape[-1] - 1)  # in twentieths of a frame
    below, above = ordered[:, place // 20], ordered[:, -(-place // 20)]
    return below.lerp(above, place % 20 / 20).unsqueeze(-1)
