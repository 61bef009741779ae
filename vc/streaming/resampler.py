"""Resampling of a waveform that comes in blocks, with a delay of two milliseconds.

A library's streaming resampler (soxr's) holds back 20 to 40 ms; here each sample is given out as
soon as the filter has seen what it needs.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torchaudio.transforms import Resample

from vc.audio import Waveform
from vc.errors import AudioError

_ZERO_CROSSINGS = 24  # of the windowed sine cardinal, on each side
_ROLLOFF = 0.95  # cut-off, in shares of the lower Nyquist frequency
_SMALLEST_DIVISOR = 25  # Hz, that both rates share: else the filter has too many phases


class BlockResampler:
    """Resample blocks of any size; together they are what the whole waveform would become.

    Args:
        from_rate: Hz.
        to_rate: Hz.

    Raises:
        AudioError: the rates have no common divisor of at least 25 Hz, or one is below that.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        divisor = math.gcd(from_rate, to_rate)
        if min(divisor, from_rate, to_rate) < _SMALLEST_DIVISOR:
            raise AudioError(f"{from_rate} Hz cannot be streamed; use 16000, 44100 or 48000 Hz")
        self.from_rate, self.to_rate = from_rate, to_rate
        self._from, self._to = from_rate // divisor, to_rate // divisor
        self._context = math.ceil(_ZERO_CROSSINGS * from_rate / min(from_rate, to_rate) / _ROLLOFF)
        self._resample = Resample(
            from_rate, to_rate, lowpass_filter_width=_ZERO_CROSSINGS, rolloff=_ROLLOFF
        )
        self._first = 0  # position of the first sample that is kept, a multiple of `_from`
        self._kept = np.zeros(0, np.float32)
        self._given = 0  # samples given out so far

    @property
    def delay_s(self) -> float:
        """How much later than it was pushed a sample comes out at most, seconds."""
        return 0.0 if self._is_idle else (self._context + 1) / self.from_rate + 1 / self.to_rate

    @property
    def _is_idle(self) -> bool:
        return self.from_rate == self.to_rate

    def push(self, waveform: Waveform) -> Waveform:
        """Take the next samples, `(samples,)`, and give those that are ready."""
        if self._is_idle:
            return waveform
        self._kept = np.concatenate([self._kept, waveform])
        ready = (self._first + len(self._kept) - self._context) * self._to // self._from
        if ready <= self._given:
            return np.zeros(0, np.float32)
        resampled = self._resample(torch.from_numpy(self._kept)).numpy()
        before = self._first // self._from * self._to  # samples that the kept ones begin after
        result = resampled[self._given - before : ready - before]
        self._given = ready
        needed = ready * self._from // self._to - self._context
        dropped = max(0, needed // self._from * self._from - self._first)
        self._kept, self._first = self._kept[dropped:], self._first + dropped
        return result
