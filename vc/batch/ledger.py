"""What was done from which content, so that nothing is done twice and nothing is lost.

A ledger of JSON Lines beside the results: a file is skipped when source, references, settings and
model are those of the record and the result is still there, whatever the files are called. A line
is also written before a result is begun, so that a batch that was killed at any moment knows its
own unfinished work from files that are not its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import IO

from vc.batch.tasks import Task
from vc.config import SHIPPED, model_part
from vc.errors import CheckpointError, DataError
from vc.json_text import json_lines, parse_json

LEDGER = ".vc-batch.jsonl"

_NOTHING = {"key": "", "sha256": ""}  # the record of what was never written


class Ledger:
    """What earlier batches into a folder did; one batch at a time may hold it.

    Args:
        path: JSON Lines; a last line that was cut off by a kill is passed over.

    Raises:
        DataError: another batch is running.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, dict[str, str]] = {}  # output name -> key and sha256 when done
        self._before: dict[str, dict[str, str]] = {}  # records of what is being done again
        self._file: IO[str]

    def __enter__(self) -> Ledger:
        try:
            # a name that is not UTF-8 is written with backslashes, which JSON reads back
            self._file = self.path.open("a+", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror})") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise DataError(f"{self.path.parent}: another batch is writing there") from error
        self._file.seek(0)
        text = self._file.read()
        for line in json_lines(text):
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                record = parse_json(line)
                self.records[record.pop("output")] = record
        if text and not text.endswith("\n"):
            self._file.write("\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def started(self, task: Task) -> None:
        """Record that a result is about to be written."""
        self._before[task.name] = self.records.get(task.name, _NOTHING)
        self._append(task.name, {})

    def done(self, task: Task, key: str) -> None:
        """Record a finished result."""
        self._before.pop(task.name, None)
        self._append(task.name, {"key": key, "sha256": hash_or_none(task.output) or ""})

    def failed(self, task: Task) -> None:
        """Record that nothing was written after all."""
        before = self._before.pop(task.name)
        # a mark of a batch that was killed, too, is of no file that comes later
        self._append(task.name, before if os.path.lexists(task.output) else _NOTHING)

    def interrupted(self, task: Task) -> None:
        """Record, of a result that was begun, that nothing was written, where that is sure."""
        before = self._before[task.name].get("sha256")
        if not os.path.lexists(task.output) or hash_or_none(task.output) == before:
            self.failed(task)

    def _append(self, name: str, record: dict[str, str]) -> None:
        self.records[name] = record
        try:
            self._file.write(json.dumps({"output": name, **record}, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror})") from error


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_hash(checkpoint: Path | None) -> str:
    """SHA-256 of all that a conversion reads of a model; of the shipped one if none is named.

    Raises:
        CheckpointError: there is no such folder.
    """
    folder = checkpoint or SHIPPED
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such checkpoint folder; check the name")
    files = sorted(folder.glob("*.safetensors"))
    parts = [folder / "autoencoder", *(model_part(folder, p) for p in ("vocoder", "denoiser"))]
    for part in parts:
        files += part.glob("config.json")  # holds the hash of its weights, which loading checks
    return hashlib.sha256("".join(file_hash(file) for file in files).encode()).hexdigest()


def result_key(task: Task, clips: dict[Path, str], model: str) -> str:
    """Hash of everything that a result depends on; "" where the source cannot be read."""
    try:
        content = [file_hash(task.source), *(clips[clip] for clip in task.references)]
    except (OSError, ValueError):
        return ""  # the conversion will say what is wrong
    given = task.settings
    settings = [str(given.pitch), given.sample_rate, given.vocoder]
    settings += [given.denoise, given.learn, given.loudness]
    return _key([content, settings, task.output.suffix, model])


def voice_key(task: Task, clips: dict[Path, str]) -> str:
    """Hash of everything that a task's voice depends on, but for the model."""
    return _key([task.settings.learn, *(clips[clip] for clip in task.references)])


def _key(described: object) -> str:
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def hash_or_none(path: Path) -> str | None:
    """`file_hash`, or None where the file cannot be read."""
    try:
        return file_hash(path)
    except OSError:
        return None
