"""Which file of a corpus is whose, and what is said in it.

The layouts of the usual corpora are told apart file by file, from the names of the folders that a
file lies in, so that several corpora can lie side by side. What no layout fits is taken as
`corpus/speaker/utterance`.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from vc.audio import find_audio
from vc.errors import DataError

UNLABELLED = "unlabelled"  # a speaker folder of this name: each clip is a speaker of its own

_LONGEST_PART = 200  # bytes; most file systems allow 255, and a suffix is added
_COMMON_VOICE_TABLES = ("validated.tsv", "train.tsv", "dev.tsv", "test.tsv")
_ARCTIC_FOLDER = re.compile(r"cmu_us_(\w+)_arctic")
_ARCTIC_LINE = re.compile(r'\(\s*(\S+)\s+"(.*)"\s*\)')


@dataclass(frozen=True)
class Clip:
    """One recording of a corpus."""

    file: Path
    corpus: str
    speaker: str
    utterance: str
    text: str = ""

    @property
    def name(self) -> str:
        """What it is called in a cache; unique there."""
        return f"{self.corpus}/{self.speaker}/{self.utterance}"


@dataclass(frozen=True)
class LeftOut:
    """A file that is not used, and why."""

    file: Path
    reason: str

    def __str__(self) -> str:
        """The reason, with the file unless it names it already."""
        return self.reason if str(self.file) in self.reason else f"{self.file}: {self.reason}"


class _Tables:
    """The tables of a corpus, each read once."""

    def __init__(self) -> None:
        self.transcripts = lru_cache(None)(_transcripts)
        self.clients = lru_cache(None)(_clients)
        self.spoken = lru_cache(None)(_spoken)
        self.prompts = lru_cache(None)(_prompts)


def find_clips(corpus: Path) -> Iterator[Clip | LeftOut]:
    """Every recording of a corpus, sorted by file.

    Args:
        corpus: a folder of `speaker/utterance` files, of such folders, or of LibriSpeech,
            LibriTTS, VCTK, CMU Arctic or Common Voice as they are unpacked; or a CSV or TSV file
            with the columns `path` (relative to it) and `speaker`, and perhaps `text` and `corpus`.

    Raises:
        DataError: a table lacks a column, or cannot be read.
    """
    if corpus.is_file():
        yield from _of_table(corpus)
        return
    tables = _Tables()
    for file in find_audio(corpus):
        for layout in (_common_voice, _vctk, _arctic, _librispeech, _plain):
            found = layout(corpus, file, tables)
            if isinstance(found, Clip):
                found = replace(found, utterance=_short(found.utterance))
            if found is not None:
                yield found
                break


def _plain(root: Path, file: Path, tables: _Tables) -> Clip:
    """Corpus, speaker and utterance from the last three parts of the path."""
    parts = file.relative_to(root).with_suffix("").parts
    corpus = parts[-3] if len(parts) >= 3 else root.resolve().name
    speaker = parts[-2] if len(parts) >= 2 else UNLABELLED
    folder = file.parent if len(parts) < 2 else file.parent.parent
    text = tables.transcripts(folder).get((speaker, parts[-1]), "")
    return Clip(file, corpus, speaker, parts[-1], text)


def _librispeech(root: Path, file: Path, tables: _Tables) -> Clip | None:
    """LibriSpeech and LibriTTS: `speaker/chapter/speaker-chapter-number`, or with `_`."""
    chapter, speaker = file.parent.name, file.parent.parent.name
    if not re.fullmatch(rf"{re.escape(speaker)}([-_]){re.escape(chapter)}\1[\d_-]+", file.stem):
        return None
    text = _read(file.with_suffix(".normalized.txt"))
    text = text or tables.spoken(file.parent / f"{speaker}-{chapter}.trans.txt").get(file.stem, "")
    return Clip(file, _name(root, file.parent.parent.parent), speaker, file.stem, text)


def _vctk(root: Path, file: Path, tables: _Tables) -> Clip | LeftOut | None:
    """VCTK: `wav48.../p225/p225_001_mic1.flac` and `txt/p225/p225_001.txt`."""
    top = file.parent.parent
    if not top.name.startswith("wav48"):
        return None
    utterance = re.sub(r"_mic\d$", "", file.stem)
    if file.stem.endswith("_mic2") and file.with_stem(f"{utterance}_mic1").exists():
        return LeftOut(file, "the same words by the other microphone (mic1) are used")
    speaker = file.parent.name
    text = _read(top.parent / "txt" / speaker / f"{utterance}.txt")
    return Clip(file, _name(root, top.parent), speaker, utterance, text)


def _arctic(root: Path, file: Path, tables: _Tables) -> Clip | None:
    """CMU Arctic: `cmu_us_bdl_arctic/wav/arctic_a0001.wav` and `etc/txt.done.data`."""
    folder = file.parent.parent
    named = _ARCTIC_FOLDER.fullmatch(folder.resolve().name)
    if file.parent.name != "wav" or named is None:
        return None
    text = tables.prompts(folder / "etc" / "txt.done.data").get(file.stem, "")
    return Clip(file, "cmu_arctic", named[1], file.stem, text)


def _common_voice(root: Path, file: Path, tables: _Tables) -> Clip | LeftOut | None:
    """Common Voice: `clips/` beside tables that name each clip's client."""
    if file.parent.name != "clips":
        return None
    folder = file.parent.parent
    clients = tables.clients(folder)
    if clients is None:
        return None
    if file.name not in clients:
        return LeftOut(file, "in none of Common Voice's tables of validated clips")
    client, text = clients[file.name]
    return Clip(file, _name(root, folder), client, file.stem, text)


def _of_table(table: Path) -> Iterator[Clip | LeftOut]:
    separator = "\t" if table.suffix.lower() == ".tsv" else ","
    for number, row in enumerate(read_table(table, separator, ("path", "speaker")), 2):
        path, speaker = row["path"], row["speaker"]
        file = table.parent / path
        if not _is_file(file):
            yield LeftOut(file, f"no such file (line {number} of {table.name})")
            continue
        corpus = _part(row.get("corpus") or table.stem)
        utterance = _part("-".join(Path(path).with_suffix("").parts))
        yield Clip(file, corpus, _part(speaker), utterance, row.get("text") or "")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # too long a name
        return False


def _part(text: str) -> str:
    """A name from a table as one part of a path: it cannot lead elsewhere, nor be too long."""
    part = re.sub(r"[/\x00-\x1f]", "-", text)
    return _short(part if part.strip(".") else f"-{part}")


def _short(part: str) -> str:
    """A part of a path, cut and with its hash in place of the rest where it is too long."""
    coded = os.fsencode(part)
    if len(coded) <= _LONGEST_PART:
        return part
    beginning = coded[: _LONGEST_PART - 20].decode("utf-8", "ignore")
    return f"{beginning}-{hashlib.sha256(coded).hexdigest()[:16]}"


def _name(root: Path, folder: Path) -> str:
    return folder.name if folder.is_relative_to(root) and folder != root else root.resolve().name


def _transcripts(folder: Path) -> dict[tuple[str, str], str]:
    """Of our own `transcripts.tsv` (speaker, utterance, text)."""
    table = folder / "transcripts.tsv"
    if not table.is_file():
        return {}
    rows = read_table(table, "\t", ("speaker", "utterance"))
    return {(row["speaker"], row["utterance"]): row.get("text") or "" for row in rows}


def _clients(folder: Path) -> dict[str, tuple[str, str]] | None:
    """Client and sentence of each file name; None if there is no table."""
    tables = [folder / name for name in _COMMON_VOICE_TABLES if (folder / name).is_file()]
    if not tables:
        return None
    # a client is a hash of 128 digits: 16 tell them apart
    return {
        row["path"]: (_part(row["client_id"][:16]), row.get("sentence") or "")
        for table in tables
        for row in read_table(table, "\t", ("path", "client_id"))
    }


def _spoken(file: Path) -> dict[str, str]:
    """Of a LibriSpeech chapter: `utterance WORDS` a line."""
    lines = (line.partition(" ") for line in _read(file).splitlines())
    return {name: text for name, _, text in lines}


def _prompts(file: Path) -> dict[str, str]:
    """Of Festival's `( utterance "Words." )` lines."""
    return dict(match.groups() for match in _ARCTIC_LINE.finditer(_read(file)))  # type: ignore


def _read(file: Path) -> str:
    if not file.is_file():
        return ""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error


def read_table(table: Path, delimiter: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV or TSV file whose first line names the columns.

    Args:
        table: the file; spreadsheets put a byte order mark before it.
        delimiter: with a tab, quotation marks are part of the text.
        columns: in which every row must have a value.

    Raises:
        DataError: it cannot be read, or a row lacks a value.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            if delimiter == "\t":
                rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
            else:
                rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as a table ({error})") from error
    for number, row in enumerate(rows, 2):
        for column in columns:
            if column not in row:
                raise DataError(f"{table}: needs the columns {' and '.join(columns)}")
            if not row[column]:
                raise DataError(f"{table}, line {number}: needs a value for {column}")
    return rows
