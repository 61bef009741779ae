"""From the microphone to the loudspeaker: a `Stream` between the two ends of a sound card.

The sound card calls back in a thread of its own and must never wait. So samples go to a worker
through one queue and come back through another; where the worker is late, silence is played, and
counted, and more is kept ready from then on.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vc.audio import Waveform
from vc.errors import VCError
from vc.streaming.stream import Stream

BLOCK_S = 0.032  # that the sound card takes and gives at once
_MOST_SPARE = 4  # blocks kept ready to be played, where the worker is late now and then

Exchange = Callable[[Waveform], Waveform]  # heard samples -> as many to play


class SoundCard(Protocol):
    """Whatever calls `exchange` with what it hears and plays what it is given."""

    def run(
        self, exchange: Exchange, sample_rate: int, block: int
    ) -> contextlib.AbstractContextManager[None]:
        """Play and record while the context lasts."""
        ...


@dataclass
class LiveReport:
    """How it went."""

    blocks: int = 0
    late: int = 0  # of these, that were played as silence
    spare: int = 1  # blocks kept ready to be played: one more each time that one is late


def run_live(
    stream: Stream, card: SoundCard, until: threading.Event, block: int | None = None
) -> LiveReport:
    """Convert what a sound card hears, until an event is set.

    Args:
        stream: at the rate that the card shall run at.
        card: see `SystemSoundCard`.
        until: ends it.
        block: samples at once; `BLOCK_S` by default.

    Raises:
        VCError: the card cannot be used; or whatever the stream raised.
    """
    block = block or round(BLOCK_S * stream.sample_rate)
    report = LiveReport()
    heard: queue.SimpleQueue[Waveform | None] = queue.SimpleQueue()
    spoken: queue.SimpleQueue[Waveform] = queue.SimpleQueue()
    failure: list[Exception] = []
    left_out = 0
    for _ in range(report.spare):
        spoken.put(np.zeros(block, np.float32))

    def work() -> None:
        try:
            while (waveform := heard.get()) is not None:
                spoken.put(stream.push(waveform))
        except Exception as error:  # noqa: BLE001 - told by the thread that waits
            failure.append(error)
            until.set()

    def exchange(waveform: Waveform) -> Waveform:
        nonlocal left_out
        heard.put(waveform)
        report.blocks += 1
        # what was too late to be played is left out, or the delay would grow
        while report.late > left_out and spoken.qsize() > report.spare:
            spoken.get_nowait()
            left_out += 1
        try:
            return spoken.get_nowait()
        except queue.Empty:
            report.late += 1
            report.spare = min(report.spare + 1, _MOST_SPARE)
            return np.zeros(len(waveform), np.float32)

    worker = threading.Thread(target=work, name="vc-live", daemon=True)
    worker.start()
    try:
        with card.run(exchange, stream.sample_rate, block):
            while not until.wait(0.1):  # a bounded wait, so that Ctrl-C is seen on every system
                pass
    finally:
        heard.put(None)
        worker.join(timeout=5.0)
    if failure:
        raise failure[0]
    return report


class SystemSoundCard:
    """The microphone and loudspeaker of this computer, by sounddevice (PortAudio).

    Args:
        microphone: name or number; the system's own choice by default.
        loudspeaker: the same.

    Raises:
        VCError: sounddevice is not installed.
    """

    def __init__(
        self, microphone: str | int | None = None, loudspeaker: str | int | None = None
    ) -> None:
        self._sounddevice = _sounddevice()
        self.devices = (microphone, loudspeaker)

    @contextlib.contextmanager
    def run(self, exchange: Exchange, sample_rate: int, block: int) -> Iterator[None]:
        """See `SoundCard`."""

        def callback(heard: Any, played: Any, frames: int, time: Any, status: Any) -> None:
            played[:, 0] = exchange(heard[:, 0].copy())

        with contextlib.ExitStack() as opened:
            try:
                stream = self._sounddevice.Stream(
                    samplerate=sample_rate,
                    blocksize=block,
                    device=self.devices,
                    channels=1,
                    dtype="float32",
                    latency="low",
                    callback=callback,
                )
                opened.enter_context(stream)  # starts it
            except (self._sounddevice.PortAudioError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise VCError(
                    f"microphone or loudspeaker cannot be used ({reason}); `vc live --list` names "
                    "them"
                ) from error
            yield


def list_devices() -> str:
    """The sound devices of this computer, a line each.

    Raises:
        VCError: sounddevice is not installed, or there is no device.
    """
    devices = str(_sounddevice().query_devices())
    if not devices.strip():
        raise VCError("no microphone or loudspeaker was found")
    return devices


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise VCError(
            "live conversion needs sounddevice; install it with: pip install 'vc[live]'"
        ) from error
    except OSError as error:
        raise VCError(
            f"live conversion needs the PortAudio library ({error}); on Debian and Ubuntu: "
            "apt install libportaudio2"
        ) from error
    return sounddevice
