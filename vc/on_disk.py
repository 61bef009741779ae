"""Numbers that are too many for memory: rows in an unnamed temporary file, and levels over them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from vc.audio import GATES_DB, SILENCE_DB, TRIM_DB, Waveform, frame_levels_db, level_frame
from vc.errors import AudioError

_PIECE = 1 << 16  # rows at a time


class Rows:
    """Rows of equal width on disk: appended in order, read anywhere.

    The file has no name (where the system can do that), so that nothing is left of it whatever
    happens to the process.

    Args:
        folder: where there is room; None for the system's temporary folder.
        width: numbers in a row.
        dtype: of the numbers.
    """

    def __init__(self, folder: Path | None, width: int = 1, dtype: type = np.float32) -> None:
        self.width, self.dtype = width, np.dtype(dtype)
        self._folder = folder
        try:
            self._file = tempfile.TemporaryFile(  # noqa: SIM115 - closed by `close`
                dir=folder, prefix=".vc-", buffering=0
            )
        except OSError as error:
            place = folder or tempfile.gettempdir()
            raise AudioError(f"{place}: no scratch file there ({error.strerror})") from error
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def __enter__(self) -> Rows:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Add `(count, width)`, or `(count,)` where rows are single numbers.

        Raises:
            AudioError: the disk is full.
        """
        data = memoryview(np.ascontiguousarray(rows, dtype=self.dtype).tobytes())
        try:
            self._file.seek(0, os.SEEK_END)
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            place = self._folder or tempfile.gettempdir()
            raise AudioError(f"{place}: no room for scratch data ({error.strerror})") from error
        self._rows += rows.size // self.width

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows `start` to `stop`, `(count, width)`, or `(count,)` of single numbers."""
        size = self.width * self.dtype.itemsize
        self._file.seek(start * size)
        wanted = (min(stop, self._rows) - start) * size
        data = bytearray()
        while len(data) < wanted:
            data += self._file.read(wanted - len(data))
        values = np.frombuffer(data, self.dtype)
        return values if self.width == 1 else values.reshape(-1, self.width)


class LevelMeter:
    """`active_level_db` and the extent of speech, for a waveform that comes in blocks.

    Args:
        sample_rate: of the waveform, in Hz.
        folder: for scratch data, see `Rows`.
    """

    def __init__(self, sample_rate: int, folder: Path | None) -> None:
        self.sample_rate = sample_rate
        self.samples = 0
        self.loudest_db = -np.inf
        self._length, self._hop = level_frame(sample_rate)
        self._levels = Rows(folder, dtype=np.float64)
        self._rest = np.zeros(0, np.float32)

    def push(self, waveform: Waveform) -> None:
        """Take the next samples, `(samples,)`."""
        self.samples += len(waveform)
        waveform = np.concatenate([self._rest, waveform])
        frames = (len(waveform) - self._length) // self._hop + 1
        if frames > 0:
            levels = frame_levels_db(waveform, self.sample_rate)
            self.loudest_db = max(self.loudest_db, float(levels.max()))
            self._levels.append(levels)
            waveform = waveform[frames * self._hop :]
        self._rest = waveform

    def active_level_db(self) -> float:
        """See `vc.audio.active_level_db`; of everything so far."""
        if self.loudest_db < SILENCE_DB:
            return -np.inf
        threshold = self.loudest_db - GATES_DB[0]
        return self._mean_above(max(threshold, self._mean_above(threshold) - GATES_DB[1]))

    def speech_s(self) -> float:
        """Seconds between leading and trailing silence, see `vc.audio.trim_silence`."""
        threshold = self.active_level_db() - TRIM_DB
        first, last = -1, -1
        for start, levels in self._pieces():
            active = np.flatnonzero(levels > threshold)
            if active.size:
                first = start + int(active[0]) if first < 0 else first
                last = start + int(active[-1])
        return ((last - first) * self._hop + self._length) / self.sample_rate

    def close(self) -> None:
        """Give the disk space back."""
        self._levels.close()

    def _mean_above(self, threshold: float) -> float:
        energy, count = 0.0, 0
        for _, levels in self._pieces():
            loud = levels[levels > threshold]
            energy, count = energy + float(np.sum(10 ** (loud / 10))), count + loud.size
        return float(10 * np.log10(energy / count)) if count else -np.inf

    def _pieces(self) -> Any:
        for start in range(0, len(self._levels), _PIECE):
            yield start, self._levels.read(start, start + _PIECE)
