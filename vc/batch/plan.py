"""Which files a batch converts, into which voices, and how each result is called.

Names come from folders and manifests that others may have written: none leads out of the output
folder, and no two results have the same. The same sources get the same names the next time.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from vc.audio import (
    AUDIO_SUFFIXES,
    MIN_REFERENCE_S,
    WRITABLE_SUFFIXES,
    check_speech,
    find_audio,
    read_audio,
)
from vc.batch.tasks import Settings, Task
from vc.config import SHIPPED
from vc.errors import AudioError, DataError, VCError
from vc.json_text import parse_json


def plan(
    sources: Sequence[Path],
    voices: dict[str, tuple[Path, ...]],
    output: Path,
    settings: Settings,
    suffix: str | None = None,
) -> list[Task]:
    """Find the sources and name each result; what cannot be named safely has a `problem`.

    Raises:
        DataError: no audio found, a source that is the output folder, or a manifest that cannot
            be read.
    """
    found = _once(_find(sources, output))
    if not found:
        searched = ", ".join(str(source) for source in sources)
        raise DataError(f"{searched}: no audio files found; name clips, folders or a manifest")
    inputs = {_identity(clip) for clip in chain((p.source for p in found), *voices.values())}
    inputs.discard(None)
    tasks = [
        _task(place.source, clips, output, PurePosixPath(folder) / name, settings, inputs)
        for place, name in zip(found, _names(found, suffix), strict=True)
        for folder, clips in voices.items()  # workers learn different ones, then, to begin with
    ]
    seen: set[str] = set()
    for number, task in enumerate(tasks):
        if task.name.lower() in seen:
            tasks[number] = replace(task, problem="another source has the same output name")
        seen.add(task.name.lower())
    return tasks


def _names(found: Sequence[_Place], suffix: str | None) -> list[PurePosixPath]:
    """Of the results, in each voice's folder; only those that a manifest chose may clash."""
    names = [
        PurePosixPath(place.name) if place.is_chosen else _with_suffix(place.name, suffix)
        for place in found
    ]
    same: dict[str, set[str]] = {}  # result -> sources' names
    for place, name in zip(found, names, strict=True):
        same.setdefault(_folded(name), set()).add(place.name.lower())
    for number, (place, name) in enumerate(zip(found, names, strict=True)):
        if len(same[_folded(name)]) > 1 and not place.is_chosen:
            # a.wav and a.flac become a.wav.flac and a.flac.flac
            names[number] = PurePosixPath(f"{place.name}{name.suffix}")
    count = Counter(map(_folded, names))
    taken = {_folded(n) for n, p in zip(names, found, strict=True) if p.is_chosen}
    taken |= {name for name, times in count.items() if times == 1}
    for number, (place, name) in enumerate(zip(found, names, strict=True)):
        if count[_folded(name)] > 1 and not place.is_chosen and name.name:
            names[number] = _not_taken(name, taken)
            taken.add(_folded(names[number]))
    return names


def _not_taken(name: PurePosixPath, taken: set[str]) -> PurePosixPath:
    """The name, with a number added where it is taken: take1.wav, take1-2.wav, ..."""
    candidate, number = name, 1
    while _folded(candidate) in taken:
        number += 1
        candidate = name.with_name(f"{name.stem}-{number}{name.suffix}")
    return candidate


def _folded(name: PurePosixPath) -> str:
    """What it has in common with names that are the same file on some disks."""
    return str(name).lower()


def _task(
    source: Path,
    clips: tuple[Path, ...],
    output: Path,
    name: PurePosixPath,
    settings: Settings,
    inputs: Set[tuple[int, int] | None],
) -> Task:
    target, problem = output / name, ""
    if name.is_absolute() or ".." in name.parts:
        problem = f"output name {str(name)!r} leaves the output folder"
    elif reason := _why_impossible(target):
        problem = f"output name {str(name)!r} cannot be used ({reason})"
    elif reason := _why_impossible(source):
        problem = f"source {str(source)!r} cannot be a file ({reason})"
    elif not target.parent.resolve().is_relative_to(output):
        problem = f"output name {str(name)!r} leaves the output folder through a symbolic link"
    elif name.suffix.lower() not in WRITABLE_SUFFIXES:
        problem = f"output name {str(name)!r} is of a type that cannot be written"
    elif name.name.startswith("."):
        problem = f"output name {str(name)!r} is hidden"
    elif _identity(target) in inputs:
        problem = f"output name {str(name)!r} is a source or reference, too; name another folder"
    return Task(source.absolute(), clips, target, str(name), settings, problem)


def _identity(path: Path) -> tuple[int, int] | None:
    """What all names of one file have in common; None if there is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _why_impossible(path: Path) -> str:
    """Why there can be no file of this name; empty if there can."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:  # too long, or a circle of links
        return error.strerror or type(error).__name__
    except ValueError:
        return "it holds characters that no name may have"
    return ""


class _Place(NamedTuple):
    """A source and where its result goes."""

    source: Path
    name: str  # relative to the voice's folder
    is_chosen: bool = False  # by a manifest, and so kept as it is


def _once(places: Iterator[_Place]) -> list[_Place]:
    """Without sources that are named again, such as a clip beside its folder."""
    return list({(p.source.absolute(), p.name, p.is_chosen): p for p in places}.values())


def _find(sources: Sequence[Path], output: Path) -> Iterator[_Place]:
    folders = [source for source in sources if source.is_dir()]
    names = _unique([folder.resolve().name for folder in folders])
    for source in sources:
        if source.is_dir():
            place = PurePosixPath(names[folders.index(source)] if len(folders) > 1 else "")
            if output == source.resolve():
                raise DataError(f"{source}: is the output folder, too; choose another one with -o")
            inside = output.is_relative_to(source.resolve())
            for file in find_audio(source):
                if not (inside and file.resolve().is_relative_to(output)):
                    yield _Place(file, str(place / file.relative_to(source).as_posix()))
        elif source.suffix.lower() in (".csv", ".jsonl"):
            yield from _read_manifest(source)
        else:
            yield _Place(source, source.name)  # a missing file is reported with the others


def _read_manifest(path: Path) -> Iterator[_Place]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                rows: list[dict[str, Any]] = list(csv.DictReader(file))
            else:
                rows = [parse_json(line) for line in file if line.strip()]
        for row in rows:
            source = str(row["source"])
            leads_out = Path(source).is_absolute() or ".." in Path(source).parts
            relative = Path(source).name if leads_out else source
            chosen = row.get("output")
            yield _Place(path.parent / source, str(chosen or relative), bool(chosen))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the name") from error
    except (KeyError, TypeError, AttributeError, csv.Error, ValueError) as error:
        raise DataError(f"{path}: not a manifest; each row needs a source ({error})") from error


def _with_suffix(name: str, suffix: str | None) -> PurePosixPath:
    path = PurePosixPath(name)
    if not path.name:
        return path
    own = path.suffix.lower()
    if suffix or own not in WRITABLE_SUFFIXES:
        return path.with_suffix(suffix or ".wav")
    return path


def find_voices(
    references: Sequence[Path], checkpoint: Path | None = None
) -> dict[str, tuple[Path, ...]]:
    """Subfolder -> clips of one voice, or its voice file; the only voice has no subfolder.

    Args:
        references: a clip, a folder of clips or a voice file each.
        checkpoint: model that a voice file has to be of; the shipped one if None.

    Raises:
        VCError: no reference is given, or one cannot be used.
    """
    if not references:
        raise VCError("no reference given; name at least one clip or folder")

    @cache
    def model_sha256() -> str:
        from vc.checkpoint import load_autoencoder, weights_sha256

        return weights_sha256(load_autoencoder((checkpoint or SHIPPED) / "autoencoder"))

    voices = []
    for reference in references:
        clips = tuple(find_audio(reference)) if reference.is_dir() else (reference,)
        if not clips:
            raise AudioError(f"{reference}: no audio files found for this voice")
        for clip in clips:
            _check_reference(clip, model_sha256)
        voices.append(tuple(clip.resolve() for clip in clips))
    if len(voices) == 1:
        return {"": voices[0]}
    names = _unique([r.resolve().name if r.is_dir() else r.stem for r in references])
    return dict(zip(names, voices, strict=True))


def _check_reference(clip: Path, model_sha256: Callable[[], str]) -> None:
    if clip.suffix.lower() not in AUDIO_SUFFIXES:
        from vc.voice import is_voice_file, load_voice  # heavy, and seldom needed

        if is_voice_file(clip):
            load_voice(clip, model_sha256())
            return
    check_speech(read_audio(clip), f"reference {clip}", MIN_REFERENCE_S)


def _unique(names: list[str]) -> list[str]:
    """The names, with numbers added where one comes again."""
    taken: set[str] = set()
    result = []
    for name in names:
        candidate, number = name, 1
        while candidate.lower() in taken:
            number += 1
            candidate = f"{name}-{number}"
        taken.add(candidate.lower())
        result.append(candidate)
    return result
