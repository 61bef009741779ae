"""The pitch of somebody who speaks, moved to another voice's range while that is still learnt."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from vc.audio import Waveform
from vc.config import FeatureConfig
from vc.pitch import Pitch, PitchRange, within_range
from vc.streaming.steps import MEMORY_S

_SHIFT_SHARE = 0.19  # of the way that the shift moves in a step
_USUAL_F0_HZ = (120.0, 210.0)  # around these the medians of 3,047 training speakers lie
_USUAL_F0_FRAMES = 30  # how much they count for


class MovedPitch:
    """The source's F0 as it is to be spoken.

    Args:
        wanted: where the wanted voice lies; None leaves the source's range as it is.
        pitch: as in `Converter.convert`.
        features: tell the models' range.
    """

    def __init__(self, wanted: PitchRange | None, pitch: Pitch, features: FeatureConfig) -> None:
        self._wanted = wanted if pitch == "match" else None
        self._features = features
        self._shift: float | None = None  # of log-F0
        if isinstance(pitch, float | int):
            self._shift = float(pitch) / 12 * math.log(2)
        self._heard: deque[float] = deque(maxlen=round(MEMORY_S * 60))
        self._last = wanted.median if wanted else math.log(150.0)

    def learn(self, f0: Waveform) -> None:
        """Hear `(frames,)` in Hz that are given out now."""
        self._heard.extend(np.log(f0[f0 > 0]).tolist())

    def move(self, f0: Waveform) -> Waveform:
        """Log-F0 `(frames,)`: moved, within the models' range, and held where nothing is voiced."""
        voiced = f0 > 0
        if self._wanted is not None:
            heard = [*self._heard, *np.log(f0[voiced]).tolist()]
            if heard:
                target = self._wanted.median - _median_so_far(heard)
                way = 1.0 if self._shift is None else _SHIFT_SHARE
                self._shift = (self._shift or 0.0) + way * (target - (self._shift or 0.0))
        moved = f0
        if self._shift:
            moved = within_range(f0 * math.exp(self._shift), self._features)
        held = np.empty(len(f0), np.float32)
        for frame in range(len(f0)):
            if voiced[frame]:
                self._last = math.log(moved[frame])
            held[frame] = self._last
        return held


def _median_so_far(log_f0: Sequence[float]) -> float:
    """Median log-F0 of a speaker: while little was heard, drawn to the nearer of two usual ones."""
    heard = float(np.median(log_f0))
    usual = min((math.log(f0) for f0 in _USUAL_F0_HZ), key=lambda value: abs(value - heard))
    count = len(log_f0)
    return (count * heard + _USUAL_F0_FRAMES * usual) / (count + _USUAL_F0_FRAMES)
