"""What the commands share: exit statuses, kinds of arguments, the progress bar."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from vc.errors import DataError

if TYPE_CHECKING:
    from vc.audio import Audio
    from vc.pitch import Pitch

EXIT_SOME_FAILED, EXIT_USER_ERROR, EXIT_INTERRUPTED = 1, 2, 130
DENOISE = "take background noise and echoes out of the source first"

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """The option that names another model than the shipped one."""
    parser.add_argument("--checkpoint", type=Path, help="model folder; the shipped one by default")


def add_quick(parser: argparse.ArgumentParser) -> None:
    """The option that leaves out what takes longest."""
    parser.add_argument(
        "--quick",
        action="store_true",
        help="only listen to the clips of the voice instead of learning it: seconds faster for "
        "each new voice, but less like it",
    )


def add_loudness(parser: argparse.ArgumentParser) -> None:
    """The option that says how loud the result is."""
    parser.add_argument(
        "--loudness",
        choices=["match", "keep"],
        default="match",
        help="as loud as the reference (default), or keep the source's",
    )


def pitch(text: str) -> Pitch:
    """Match, keep, or semitones from -36 to 36."""
    if text in ("match", "keep"):
        return text  # type: ignore[return-value]
    try:
        semitones = float(text)
    except ValueError:
        semitones = float("nan")
    if not -36 <= semitones <= 36:
        raise argparse.ArgumentTypeError(f"{text!r}: use match, keep, or -36 to +36 semitones")
    return semitones


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        share = float(text)
    except ValueError:
        share = float("nan")
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: use a number from 0 to 1")
    return share


def above_zero(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: use a number above 0")
    return value


def sample_rate(text: str) -> int:
    """A rate in Hz that speech can have."""
    if text.isascii() and text.isdigit() and 4_000 <= int(text[:9]) <= 400_000:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: use a rate from 4000 to 400000 Hz")


def at_least(least: int) -> Callable[[str], int]:
    """A kind of argument: a whole number that is not smaller."""

    def number(text: str) -> int:
        if text.isascii() and text.isdigit() and int(text[:9]) >= least:
            return int(text[:9])
        raise argparse.ArgumentTypeError(f"{text!r}: use a whole number from {least}")

    return number


def port(text: str) -> int:
    """A port that a server can have."""
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 65_535:
        return int(text[:9])
    raise argparse.ArgumentTypeError(f"{text!r}: use a whole number from 1 to 65535")


def audio_files(places: Iterable[Path]) -> list[Path]:
    """Files as they are named, and every audio file below folders.

    Raises:
        DataError: a folder without audio.
    """
    from vc.audio import find_audio

    files: list[Path] = []
    for place in places:
        found = find_audio(place) if place.is_dir() else [place]
        if not found:
            raise DataError(f"{place}: no audio files in this folder; name another")
        files += found
    return files


def check_apart(output: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output that would take the place of what it is made from.

    Raises:
        DataError: it is one of the inputs.
    """
    for path in inputs:
        if _same_file(output, path):
            raise DataError(f"{output}: is an input as well; choose another name for the output")


def write_clip(path: Path, audio: Audio, comment: str = "") -> None:
    """Write a clip, and tell what became of it: not every format has every rate."""
    from vc.audio import writable_rate, write_audio

    write_audio(path, audio, comment)
    print(f"{path}: {audio.duration_s:.2f} s at {writable_rate(path, audio.sample_rate)} Hz")


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):  # one that is missing is told of when it is read
        return False


@contextmanager
def progress_bar(what: str, quiet: bool) -> Iterator[Callable[[float], None]]:
    """Show the share done, 0 to 1, that is passed to what this yields."""
    from tqdm import tqdm

    with tqdm(total=100, desc=what, unit="%", disable=quiet, leave=False) as bar:

        def show(share: float) -> None:
            bar.update(round(100 * share) - bar.n)

        yield show
