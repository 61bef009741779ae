"""Streams of visitors who speak: samples in, converted ones out, a few streams at once.

A stream costs a good part of a core for as long as it lasts, whether its visitor speaks or not. So
there are only as many as leave cores for conversions, and one for a visitor. One that nobody feeds
gives its place to the next; one that has lasted long enough ends, whether somebody waits or not.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch

from vc.audio import Waveform
from vc.convert import Converter, Reference
from vc.errors import VCError
from vc.pitch import Pitch
from vc.streaming.stream import Stream

MAX_STREAMS = max(1, (os.cpu_count() or 1) // 2)
IDLE_S = 10.0  # without a block, after which a stream counts as left
LONGEST_S = 600.0
MAX_BLOCK_S = 2.0
RATES_HZ = (8_000, 96_000)

BUSY = "Somebody else is speaking live at the moment; please try again in a few minutes."
ENDED = "The stream has ended; press Start to begin anew."
LASTED = f"The stream has ended, as each does after {LONGEST_S / 60:g} minutes; press Start again."


@dataclass
class _Place:
    """One visitor's stream."""

    visit: str
    stream: Stream | None = None  # None: its voice is being learnt
    begun: float = 0.0  # when the stream was there
    fed: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


class LiveStreams:
    """The streams that are open now, by tickets that cannot be guessed.

    Args:
        converter: of every stream.
        clock: seconds that only go forward.
        slot: what a voice is learnt within; it waits until that may be.
    """

    def __init__(
        self,
        converter: Converter,
        clock: Callable[[], float] = time.monotonic,
        slot: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self.converter = converter
        self.clock = clock
        self.slot = slot
        self._places: dict[str, _Place] = {}
        self._lock = threading.Lock()
        self._workers = _single_threaded(MAX_STREAMS)

    def open(
        self,
        visit: str | None,
        references: Sequence[Reference],
        pitch: Pitch,
        sample_rate: int,
        denoise: bool = False,
    ) -> tuple[str, float]:
        """Begin a stream; return its ticket, and by how many seconds it lags.

        A visitor's earlier stream ends.

        Raises:
            VCError: no place is free, or no stream can be made of this.
        """
        if not RATES_HZ[0] <= sample_rate <= RATES_HZ[1]:
            raise VCError(f"The microphone runs at {sample_rate} Hz, which cannot be converted.")
        ticket, now = secrets.token_hex(16), self.clock()
        with self._lock:
            self._end(lambda place: bool(visit) and place.visit == visit)
            self._end(lambda place: self._is_over(place, now))
            if len(self._places) >= MAX_STREAMS:
                raise VCError(BUSY)
            place = self._places[ticket] = _Place(visit or "")
        try:
            with self.slot():
                voice = self.converter.voice(references)
            stream = Stream(self.converter, voice, pitch, sample_rate, denoise=denoise)
        except BaseException:
            self.close(ticket)
            raise
        place.begun = place.fed = self.clock()
        place.stream = stream
        return ticket, stream.latency_s

    def push(self, ticket: str, waveform: Waveform) -> Waveform:
        """Take a stream's next samples, `(samples,)`; give as many converted ones.

        Raises:
            VCError: there is no such stream any more, or the block is too long.
        """
        with self._lock:
            place = self._places.get(ticket)
            if place is None or place.stream is None:
                raise VCError(ENDED)
            if self.clock() - place.begun > LONGEST_S:
                del self._places[ticket]
                raise VCError(LASTED)
        if len(waveform) > MAX_BLOCK_S * place.stream.sample_rate:
            raise VCError(f"A block may have {MAX_BLOCK_S:g} s.")
        with place.lock:  # blocks are converted one after the other
            place.fed = self.clock()
            return self._workers.submit(place.stream.push, waveform).result()

    def close(self, ticket: str) -> None:
        """End a stream; nothing happens if it has ended."""
        with self._lock:
            self._places.pop(ticket, None)

    def end(self, visit: str | None) -> None:
        """End a visitor's stream."""
        with self._lock:
            self._end(lambda place: bool(visit) and place.visit == visit)

    @staticmethod
    def _is_over(place: _Place, now: float) -> bool:
        """Left, or long enough; one whose voice is still being learnt is neither."""
        if place.stream is None:
            return False
        return now - place.fed > IDLE_S or now - place.begun > LONGEST_S

    def _end(self, over: Callable[[_Place], bool]) -> None:
        for ticket in [ticket for ticket, place in self._places.items() if over(place)]:
            del self._places[ticket]


def _single_threaded(count: int) -> ThreadPoolExecutor:
    """Threads in which torch computes with one thread each.

    Steps of a stream are too small to be shared; where the other core is busy, sharing them makes
    them late.
    """
    threads = torch.get_num_threads()
    begun = threading.Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # a thread takes the usual number when it first needs one: now
        torch.set_num_threads(1)
        begun.wait()

    workers = ThreadPoolExecutor(count, "vc-stream", begin)
    for _ in range(count):
        workers.submit(int)
    begun.wait()
    torch.set_num_threads(threads)  # of this thread, and of those that begin later
    return workers
