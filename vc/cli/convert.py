"""`vc convert` and `vc denoise`: one clip in, one clip out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vc.cli.arguments import (
    DENOISE,
    EXIT_INTERRUPTED,
    Commands,
    add_checkpoint,
    add_loudness,
    add_quick,
    check_apart,
    pitch,
    progress_bar,
    sample_rate,
    share,
    write_clip,
)


def add_convert(commands: Commands) -> None:
    """Describe `vc convert`."""
    convert = commands.add_parser("convert", help="say one clip's words in another's voice")
    convert.add_argument("source", type=Path, help="clip whose words are kept")
    convert.add_argument(
        "references",
        type=Path,
        nargs="+",
        metavar="reference",
        help="clips of the wanted voice, or a voice that `vc voice` kept (.voice)",
    )
    convert.add_argument("-o", "--output", type=Path, required=True, help="WAV, FLAC, Ogg, ...")
    convert.add_argument(
        "--pitch",
        type=pitch,
        default="match",
        help="match the reference (default), keep the source's, or shift by semitones, e.g. +3",
    )
    add_loudness(convert)
    convert.add_argument(
        "--strength",
        type=share,
        default=1.0,
        help="from 0, the source's own voice, to 1, the reference's (default)",
    )
    convert.add_argument("--denoise", action="store_true", help=DENOISE)
    add_quick(convert)
    convert.add_argument(
        "--sample-rate", type=sample_rate, help="of the output in Hz; the source's own"
    )
    convert.add_argument("--vocoder", choices=["neural", "griffin-lim"], default="neural")
    convert.add_argument(
        "--keep-partial", action="store_true", help="on Ctrl-C keep what was converted until then"
    )
    convert.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    add_checkpoint(convert)
    convert.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> int:
    from vc.audio import check_writable
    from vc.blockwise import convert_file
    from vc.convert import load

    check_writable(options.output)
    check_apart(options.output, [options.source, *options.references])
    with progress_bar("converting", options.quiet) as show:
        converter = load(options.checkpoint, vocoder=options.vocoder)
        done = convert_file(
            converter,
            options.source,
            options.references,
            options.output,
            options.pitch,
            options.sample_rate,
            show,
            options.keep_partial,
            options.strength,
            options.denoise,
            not options.quick,
            options.loudness,
        )
    if done.is_partial:
        print(
            f"vc convert: interrupted; {done.path} holds the first {done.duration_s:.1f} s "
            f"of {done.source_s:.1f} s",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    if not options.quiet:
        print(f"{options.output}: {done.duration_s:.2f} s at {done.sample_rate} Hz")
    return 0


def add_denoise(commands: Commands) -> None:
    """Describe `vc denoise`."""
    denoise = commands.add_parser("denoise", help="take background noise and echoes out of a clip")
    denoise.add_argument("source", type=Path, help="the clip")
    denoise.add_argument("-o", "--output", type=Path, required=True, help="WAV, FLAC, Ogg, ...")
    add_checkpoint(denoise)
    denoise.set_defaults(run=_denoise)


def _denoise(options: argparse.Namespace) -> None:
    from vc.audio import check_writable
    from vc.convert import load

    check_writable(options.output)
    check_apart(options.output, [options.source])
    converter = load(options.checkpoint, vocoder="griffin-lim")  # nothing is synthesised
    cleaned = converter.denoise(options.source)
    write_clip(options.output, cleaned)
