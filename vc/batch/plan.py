"""Which files a batch converts, into which voices, and how each result is called.

Names come from folders and manifests that others may have written: none leads out of the output
folder, and no two results have the same.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
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
        DataError: no audio found, or a manifest that cannot be read.
    """
    found = list(_find(sources, output))
    if not found:
        searched = ", ".join(str(source) for source in sources)
        raise DataError(f"{searched}: no audio files found; name clips, folders or a manifest")
    names = [
        PurePosixPath(place.name) if place.is_chosen else _with_suffix(place.name, suffix)
        for place in found
    ]
    count = Counter(str(name).lower() for name in names)
    tasks: list[Task] = []
    for folder, clips in voices.items():
        for place, name in zip(found, names, strict=True):
            if count[str(name).lower()] > 1 and not place.is_chosen:
                # a.wav and a.flac become a.wav.flac and a.flac.flac
                name = PurePosixPath(f"{place.name}{name.suffix}")
            tasks.append(_task(place.source, clips, output, PurePosixPath(folder) / name, settings))
    seen: set[str] = set()
    for number, task in enumerate(tasks):
        if task.name.lower() in seen:
            tasks[number] = replace(task, problem="another source has the same output name")
        seen.add(task.name.lower())
    return tasks


def _task(
    source: Path, clips: tuple[Path, ...], output: Path, name: PurePosixPath, settings: Settings
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
    return Task(source.absolute(), clips, target, str(name), settings, problem)


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


def _find(sources: Sequence[Path], output: Path) -> Iterator[_Place]:
    folders = [source for source in sources if source.is_dir()]
    names = _unique([folder.resolve().name for folder in folders])
    for source in sources:
        if source.is_dir():
            place = PurePosixPath(names[folders.index(source)] if len(folders) > 1 else "")
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
            relative = source if not Path(source).is_absolute() else Path(source).name
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


def find_voices(references: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    """Subfolder -> clips of one voice; the only voice has no subfolder.

    Raises:
        VCError: no reference is given, or one cannot be used.
    """
    if not references:
        raise VCError("no reference given; name at least one clip or folder")
    voices = []
    for reference in references:
        clips = tuple(find_audio(reference)) if reference.is_dir() else (reference,)
        if not clips:
            raise AudioError(f"{reference}: no audio files found for this voice")
        for clip in clips:
            if clip.suffix.lower() in AUDIO_SUFFIXES or not clip.exists():
                check_speech(read_audio(clip), f"reference {clip}", MIN_REFERENCE_S)
        voices.append(tuple(clip.resolve() for clip in clips))
    if len(voices) == 1:
        return {"": voices[0]}
    names = _unique([r.resolve().name if r.is_dir() else r.stem for r in references])
    return dict(zip(names, voices, strict=True))


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
