"""`vc live`: the microphone, in another voice."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vc.cli.arguments import (
    DENOISE,
    Commands,
    add_checkpoint,
    add_quick,
    check_apart,
    pitch,
    sample_rate,
    write_clip,
)
from vc.errors import VCError

if TYPE_CHECKING:
    from vc.streaming.stream import Stream


def add_live(commands: Commands) -> None:
    """Describe `vc live`."""
    live = commands.add_parser("live", help="speak in another voice: microphone to loudspeaker")
    live.add_argument(
        "references", type=Path, nargs="*", metavar="reference", help="as in vc convert"
    )
    live.add_argument(
        "--source", type=Path, help="a clip of who is going to speak: settles at once"
    )
    live.add_argument("--pitch", type=pitch, default="match", help="as in vc convert")
    live.add_argument("--denoise", action="store_true", help=DENOISE)
    add_quick(live)
    live.add_argument(
        "--sample-rate", type=sample_rate, default=48_000, help="of the sound card (48000)"
    )
    live.add_argument("--microphone", type=_device, help="name or number; the system's own")
    live.add_argument("--loudspeaker", type=_device, help="name or number; the system's own")
    live.add_argument("--list", action="store_true", help="name the sound devices, and end")
    live.add_argument(
        "--from-file", type=Path, metavar="CLIP", help="hear a file instead of the microphone"
    )
    live.add_argument(
        "--to-file", type=Path, metavar="OUTPUT", help="and write what would be played"
    )
    add_checkpoint(live)
    live.set_defaults(run=_live)


def _device(text: str) -> str | int:
    return int(text) if text.isdigit() else text


def _live(options: argparse.Namespace) -> None:
    import signal
    import threading

    from vc.streaming.live import BLOCK_S, SystemSoundCard, list_devices, run_live

    if options.list:
        print(list_devices())
        return
    if not options.references:
        raise VCError("name at least one reference clip or voice")
    if (options.from_file is None) != (options.to_file is None):
        raise VCError("--from-file and --to-file belong together")
    if options.from_file is not None:
        _from_file(options)
        return
    card = SystemSoundCard(options.microphone, options.loudspeaker)
    stream = _stream(options, options.sample_rate)
    block = round(BLOCK_S * stream.sample_rate)
    print(f"speak (use headphones; Ctrl-C ends it); {1e3 * stream.latency_s:.0f} ms behind, and")
    print(f"{2e3 * BLOCK_S:.0f} ms or more of buffers and what the sound card takes come to it")
    ended = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: ended.set())
    try:
        report = run_live(stream, card, ended, block)
    finally:
        signal.signal(signal.SIGINT, before)
    print(f"ended; {report.late} of {report.blocks} blocks came too late, and were left silent")


def _stream(options: argparse.Namespace, sample_rate: int) -> Stream:
    import torch

    from vc.convert import load
    from vc.streaming.stream import Stream

    stream = Stream(
        load(options.checkpoint),
        options.references,
        options.pitch,
        sample_rate,
        options.source,
        options.denoise,
        not options.quick,
    )
    torch.set_num_threads(1)  # steps are too small to be shared
    return stream


def _from_file(options: argparse.Namespace) -> None:
    from vc.audio import check_writable, read_audio
    from vc.convert import COMMENT
    from vc.streaming.stream import stream_clip

    check_writable(options.to_file)
    known = [] if options.source is None else [options.source]
    check_apart(options.to_file, [options.from_file, *options.references, *known])
    audio = read_audio(options.from_file)
    stream = _stream(options, audio.sample_rate)
    write_clip(options.to_file, stream_clip(stream, audio), COMMENT)
