"""`vc voice`, `vc adapt` and `vc new-voice`: voices kept in small files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vc.cli.arguments import (
    Commands,
    add_checkpoint,
    add_quick,
    at_least,
    audio_files,
    check_apart,
    progress_bar,
)


def add_voice(commands: Commands) -> None:
    """Describe `vc voice`."""
    voice = commands.add_parser("voice", help="keep the voice of some clips in a small file")
    voice.add_argument(
        "references", type=Path, nargs="+", metavar="reference", help="clips of one speaker"
    )
    voice.add_argument("-o", "--output", type=Path, required=True, help="NAME.voice")
    voice.add_argument("--name", help="what to call the voice; the output's name by default")
    add_quick(voice)
    voice.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    add_checkpoint(voice)
    voice.set_defaults(run=_voice)


def _voice(options: argparse.Namespace) -> None:
    from vc.convert import load
    from vc.voice import check_voice_name, save_voice

    check_voice_name(options.output)
    check_apart(options.output, options.references)
    converter = load(options.checkpoint, vocoder="griffin-lim")  # a voice needs no vocoder
    name = options.name or options.output.stem
    with progress_bar("learning the voice", options.quiet) as show:
        voice = converter.voice(options.references, name, not options.quick, show)
    save_voice(options.output, voice, converter.model_sha256)
    if not options.quiet:
        print(f"{options.output}: the voice '{voice.name}'")


def add_adapt(commands: Commands) -> None:
    """Describe `vc adapt`."""
    adapt = commands.add_parser("adapt", help="learn a voice from minutes of clips, and judge it")
    adapt.add_argument("clips", type=Path, nargs="+", help="folders or files of one speaker")
    adapt.add_argument("-o", "--output", type=Path, required=True, help="NAME.voice")
    adapt.add_argument("--name", help="what to call the voice; the output's name by default")
    adapt.add_argument(
        "--steps", type=at_least(1), help="of learning; by default by how much speech there is"
    )
    adapt.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    add_checkpoint(adapt)
    adapt.set_defaults(run=_adapt)


def _adapt(options: argparse.Namespace) -> None:
    from vc.adapt import MIN_TUNING_S, adapt_voice
    from vc.convert import load
    from vc.voice import check_voice_name, save_voice

    check_voice_name(options.output)
    files = audio_files(options.clips)
    check_apart(options.output, files)
    converter = load(options.checkpoint, vocoder="griffin-lim")  # a voice needs no vocoder
    with progress_bar("learning the voice", options.quiet) as show:
        name = options.name or options.output.stem
        result = adapt_voice(converter, files, name, options.steps, progress=show)
    save_voice(options.output, result.voice, converter.model_sha256)
    if options.quiet:
        return
    for other in result.left_out:
        print(f"left out: {other}", file=sys.stderr)
    print(f"{options.output}: the voice '{result.voice.name}'")
    heard = f"{result.clips} clips, {result.speech_s:.0f} s"
    if result.average_error_db is None or result.tuned_error_db is None:
        how = "learnt" if result.is_tuned else "listened to; this model cannot learn so little"
        print(f"{heard}: {how}; too little to say how well (5 clips, {MIN_TUNING_S:.0f} s)")
        return
    kept = "kept what was learnt" if result.is_tuned else "kept nothing of what was learnt"
    print(
        f"{heard}; held-out clips come back from other voices {result.average_error_db:.2f} dB off "
        f"when the voice is only listened to, {result.tuned_error_db:.2f} dB when it is learnt; "
        f"{kept}"
    )


def add_new_voice(commands: Commands) -> None:
    """Describe `vc new-voice`."""
    invent = commands.add_parser("new-voice", help="invent a voice that belongs to nobody")
    invent.add_argument("--seed", type=int, default=0, help="another number, another voice")
    invent.add_argument(
        "--like", type=Path, nargs="+", metavar="REFERENCE", help="clips or a voice to resemble"
    )
    invent.add_argument("-o", "--output", type=Path, required=True, help="NAME.voice")
    invent.add_argument("--name", help="what to call the voice; the output's name by default")
    add_checkpoint(invent)
    invent.set_defaults(run=_new_voice)


def _new_voice(options: argparse.Namespace) -> None:
    from vc.convert import load
    from vc.voice import check_voice_name, save_voice

    check_voice_name(options.output)
    check_apart(options.output, options.like or [])
    converter = load(options.checkpoint, vocoder="griffin-lim")  # a voice needs no vocoder
    name = options.name or options.output.stem
    voice = converter.new_voice(options.seed, options.like, name)
    save_voice(options.output, voice, converter.model_sha256)
    print(f"{options.output}: the voice '{voice.name}'")
