"""`vc embed` and `vc map`: what the model knows of clips, as a table and as a picture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from vc.cli.arguments import (
    EXIT_SOME_FAILED,
    Commands,
    add_checkpoint,
    at_least,
    audio_files,
    progress_bar,
)
from vc.errors import AudioError, DataError, VoiceError

T = TypeVar("T")


def add_embed(commands: Commands) -> None:
    """Describe `vc embed`."""
    embed = commands.add_parser(
        "embed",
        help="write clips' latents and pitch for other uses",
        description="One row a clip: speaker embedding, content (means over slices of time), F0.",
    )
    embed.add_argument("clips", type=Path, nargs="+", help="audio files or folders")
    embed.add_argument(
        "-o", "--output", type=Path, required=True, help="NAME.npz, .safetensors or .csv"
    )
    embed.add_argument(
        "--slices", type=at_least(1), default=4, help="of time that content is averaged over (4)"
    )
    embed.add_argument("--frames", action="store_true", help="content and F0 of every frame, too")
    embed.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    add_checkpoint(embed)
    embed.set_defaults(run=_embed)


def _embed(options: argparse.Namespace) -> int:
    from vc.convert import load
    from vc.embedding import check_table_name, tabulate, write_table

    check_table_name(options.output, options.frames)
    files = audio_files(options.clips)
    converter = load(options.checkpoint, vocoder="griffin-lim")  # nothing is synthesised
    done = _each(files, converter.embed, "embedding", options.quiet)
    table = tabulate([f for f, _ in done], [e for _, e in done], options.slices, options.frames)
    write_table(options.output, table, converter.model_sha256)
    if not options.quiet:
        shapes = ", ".join(
            f"{name} {values.shape[1]}" for name, values in table.items() if values.ndim == 2
        )
        print(f"{options.output}: {len(done)} clips; {shapes}")
    return EXIT_SOME_FAILED if len(done) < len(files) else 0


def add_map(commands: Commands) -> None:
    """Describe `vc map`."""
    maps = commands.add_parser(
        "map",
        help="draw a map of voices",
        description="Clips as points, alike where they are near; a colour is a speaker. Speakers "
        "are found as by vc prepare; .voice files become stars.",
    )
    maps.add_argument("folder", type=Path, help="of speaker/clip files, or a corpus")
    maps.add_argument("-o", "--output", type=Path, required=True, help="NAME.png, .svg or .pdf")
    maps.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    add_checkpoint(maps)
    maps.set_defaults(run=_map)


def _map(options: argparse.Namespace) -> int:
    from vc.convert import load
    from vc.layouts import Clip, find_clips
    from vc.voice import is_voice_file
    from vc.voice_map import INVENTED, Point, check_picture_name, draw_map

    check_picture_name(options.output)
    if not options.folder.is_dir():
        raise DataError(f"{options.folder}: no such folder; name one with clips")
    found = [clip for clip in find_clips(options.folder) if isinstance(clip, Clip)]
    several = len({clip.corpus for clip in found}) > 1
    groups = {c.file: f"{c.corpus}/{c.speaker}" if several else c.speaker for c in found}
    kept = sorted(file for file in options.folder.rglob("*") if is_voice_file(file))
    groups |= dict.fromkeys(kept, INVENTED)
    if not groups:
        raise DataError(f"{options.folder}: no audio files in this folder; name another")
    converter = load(options.checkpoint, vocoder="griffin-lim")  # nothing is synthesised
    listen = partial(converter.voice, learn=False)  # its embedding is all that is drawn
    heard = _each(list(groups), listen, "listening", options.quiet)
    dims = converter.autoencoder.config.speaker_dim
    points = [Point(groups[f], v.speaker_embedding[:dims].numpy()) for f, v in heard]
    draw_map(options.output, points)
    if not options.quiet:
        print(f"{options.output}: {len(points)} voices of {len(set(groups.values()))} groups")
    return EXIT_SOME_FAILED if len(points) < len(groups) else 0


def _each(
    files: Sequence[Path], listen: Callable[[Path], T], what: str, quiet: bool
) -> list[tuple[Path, T]]:
    """What was heard in each file; those that cannot be used are told of and left out.

    Raises:
        AudioError: the only clip, or all of them, cannot be used.
    """
    done: list[tuple[Path, T]] = []
    failures: list[AudioError | VoiceError] = []
    with progress_bar(what, quiet) as show:
        for number, file in enumerate(files, 1):
            try:
                done.append((file, listen(file)))
            except (AudioError, VoiceError) as error:
                failures.append(error)
            show(number / len(files))
    if not done:
        raise failures[0]
    for failure in failures:
        print(f"left out: {failure}", file=sys.stderr)
    return done
