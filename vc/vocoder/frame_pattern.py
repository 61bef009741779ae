"""What repeats from mel frame to mel frame in filters is the network's, not the voice's.

A trunk at frame rate says several steps of its filters at once, and each has weights of its own. So
of a sound that does not change, one step is not like the next, in the same way in every frame: the
checkerboard of upsampling networks (Odena et al. 2016, "Deconvolution and Checkerboard Artifacts",
Distill). Where two pulses fall on a frame, each is then unlike its neighbour, and a steady voice is
heard an octave too low.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vc.model.layers import smooth_frames

_FRAMES = 9  # that a pattern is looked for in
_SHARE = 0.5  # of it that is taken out: that is enough for the pitch, and more costs likeness
CONTEXT = _FRAMES // 2 + 1  # frames on either side that a step depends on


def weaken_frame_pattern(columns: Tensor, voiced: Tensor, steps_per_frame: int) -> Tensor:
    """Filters with less of what repeats in them for some frames; what moves on its way is kept.

    Args:
        columns: log-magnitudes or phases, `(batch, bins, frames * steps_per_frame)`.
        voiced: `(batch, frames)`, 1.0 where voiced; elsewhere nothing is looked for, or changed.
        steps_per_frame: columns for each frame.

    Returns:
        As `columns`.
    """
    steps, (batch, bins, count), frames = steps_per_frame, columns.shape, voiced.shape[-1]
    # off the mean over one frame's length about each step, which a slope passes unchanged
    taps = torch.ones(steps + 1 - steps % 2)
    if steps % 2 == 0:
        taps[[0, -1]] = 0.5
    rows = columns.reshape(batch * bins, 1, count)
    padded = functional.pad(rows, (steps // 2, steps // 2), mode="replicate")
    off = rows - functional.conv1d(padded, (taps / steps).to(rows)[None, None])
    off = off.reshape(batch, bins, frames, steps).transpose(2, 3)
    off = off.reshape(batch, bins * steps, frames)
    # only where both neighbours are voiced, too: an onset is no pattern
    inside = (smooth_frames((voiced > 0).to(rows)[:, None], 3) > 0.9).to(rows)
    part = smooth_frames(inside, _FRAMES).clamp(min=1 / _FRAMES)
    pattern, power = (smooth_frames(x * inside, _FRAMES) / part for x in (off, off.square()))
    # the mean of what does not repeat has a power, too: 1 / _FRAMES of its own
    repeats = pattern.square().sum(1, keepdim=True) / power.sum(1, keepdim=True).clamp(min=1e-9)
    repeats = ((_FRAMES * repeats - 1) / (_FRAMES - 1)).clamp(min=0)
    taken = _SHARE * repeats * inside * pattern
    taken = taken.reshape(batch, bins, steps, frames).transpose(2, 3)
    return columns - taken.reshape(batch, bins, count)
