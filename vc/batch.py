"""Whole folders of clips in other voices: planned, done by many processes, and recorded.

A ledger of JSON Lines beside the results says what was done from which content: a file is skipped
when source, references, settings and model are those of the record and the result is still there,
whatever the files are called. A line is also written before a result is begun, so that a batch
that was killed at any moment knows its own unfinished work from files that are not its own.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from itertools import islice
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, NamedTuple

import numpy as np

from vc.audio import (
    AUDIO_SUFFIXES,
    MIN_REFERENCE_S,
    WRITABLE_SUFFIXES,
    Audio,
    check_speech,
    find_audio,
    read_audio,
    read_blocks,
)
from vc.errors import AudioError, CheckpointError, DataError, VCError
from vc.json_text import parse_json
from vc.safe_write import make_folder, remove_abandoned, write_text

LEDGER = ".vc-batch.jsonl"
REPORT = "vc-batch-report.csv"

Engine = Literal["local", "ray"]
Status = Literal["done", "skipped", "failed", "crashed", "interrupted"]

_CHECKED_BLOCKS = 6  # of ten seconds


@dataclass(frozen=True)
class Settings:
    """How every file of a batch is converted."""

    pitch: Literal["match", "keep"] | float = "match"
    sample_rate: int | None = None  # Hz; the source's own
    vocoder: Literal["neural", "griffin-lim"] = "neural"
    checkpoint: Path | None = None  # the shipped model
    denoise: bool = False  # sources first
    check: bool = True  # the sources, for warnings; the results are the same


@dataclass(frozen=True)
class Task:
    """One source in one voice."""

    source: Path
    references: tuple[Path, ...]  # clips of one speaker
    output: Path  # absolute
    name: str  # of the output, relative to the batch's folder
    settings: Settings
    problem: str = ""  # why it cannot be done at all


@dataclass(frozen=True)
class Outcome:
    """A row of the report."""

    source: str
    reference: str
    output: str
    status: Status
    reason: str = ""
    attempts: int = 0
    seconds: float = 0.0  # of audio
    warning: str = ""  # what is wrong with the source, though it was converted


@dataclass
class BatchReport:
    """What a batch did."""

    outcomes: list[Outcome] = field(default_factory=list)
    is_interrupted: bool = False

    def count(self, status: Status) -> int:
        """Files with this outcome."""
        return sum(outcome.status == status for outcome in self.outcomes)

    def write(self, path: Path) -> None:
        """Write one row for each file, as JSON if the name says so, else as CSV."""
        rows = [asdict(outcome) for outcome in self.outcomes]
        if path.suffix.lower() == ".json":
            text = json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
        else:
            table = io.StringIO()
            writer = csv.DictWriter(table, [f.name for f in fields(Outcome)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            text = table.getvalue()
        write_text(path, text)


def run_batch(
    sources: Sequence[Path],
    references: Sequence[Path],
    output: Path,
    settings: Settings,
    suffix: str | None = None,
    workers: int | None = None,
    retries: int = 2,
    overwrite: bool = False,
    engine: Engine = "local",
    address: str | None = None,
    quiet: bool = False,
) -> BatchReport:
    """Convert every source into every voice; one bad file never stops the rest.

    Args:
        sources: clips, folders of clips, or manifests: CSV or JSON Lines with `source` and, if
            wanted, `output`, both relative (to the manifest, to the output folder).
        references: one voice each: a clip, or a folder of clips of one speaker. With several, each
            has a subfolder.
        output: folder that mirrors the sources; made if missing.
        settings: how to convert.
        suffix: type of the results, such as ".flac"; by default that of each source.
        workers: processes of one thread each; all cores by default.
        retries: how often a file is tried again after a crash.
        overwrite: replace files that are not from this folder's earlier batches, too.
        engine: processes of this machine, or a Ray cluster whose machines all see the files.
        address: of the Ray cluster; none starts one on this machine.
        quiet: no progress bar.

    Raises:
        VCError: nothing to do, a reference cannot be used, or another batch has the folder.
    """
    from tqdm import tqdm

    if settings.checkpoint is not None:  # workers may be elsewhere
        settings = replace(settings, checkpoint=settings.checkpoint.absolute())
    voices = _voices(references)
    output = output.resolve()
    tasks = plan(sources, voices, output, settings, suffix)
    model = _model_hash(settings.checkpoint)
    clips = {clip: _file_hash(clip) for voice in voices.values() for clip in voice}
    make_folder(output)
    report = BatchReport()
    with Ledger(output / LEDGER) as ledger, tqdm(total=len(tasks), disable=quiet) as bar:
        _remove_scratch(output, tasks)
        left = {id(task): task for task in tasks}

        def note(task: Task, outcome: Outcome) -> None:
            left.pop(id(task), None)
            report.outcomes.append(outcome)
            bar.update()

        def pending() -> Iterator[tuple[Task, str]]:
            with ThreadPoolExecutor(4) as pool:
                hashes = pool.map(lambda task: _key(task, clips, model), tasks)
                for task, key in zip(tasks, hashes, strict=True):
                    refused = _refuse(task, key, ledger, overwrite)
                    if refused is not None:
                        note(task, refused)
                        continue
                    ledger.started(task)
                    yield task, key

        keys: dict[str, str] = {}

        def remembered() -> Iterator[Task]:
            for task, key in pending():
                keys[task.name] = key
                yield task

        run = _run_ray if engine == "ray" else _run_local
        try:
            with contextlib.closing(run(remembered(), workers, retries, address)) as outcomes:
                for task, outcome in outcomes:
                    if outcome.status == "done":
                        ledger.done(task, keys.pop(task.name))
                    else:
                        ledger.failed(task)
                    note(task, outcome)
        except KeyboardInterrupt:
            report.is_interrupted = True
        finally:
            _remove_scratch(output, tasks)
        for task in left.values():
            report.outcomes.append(_outcome(task, "interrupted", "not reached"))
    return report


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
        with path.open(encoding="utf-8", newline="") as file:
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


def _voices(references: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    """Subfolder -> clips of one voice; the only voice has no subfolder."""
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


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _model_hash(checkpoint: Path | None) -> str:
    folder = checkpoint or Path(__file__).parent / "weights" / "default"
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such checkpoint folder; check the name")
    files = sorted(file for file in folder.glob("*/*") if file.is_file())
    return hashlib.sha256("".join(_file_hash(file) for file in files).encode()).hexdigest()


def _key(task: Task, clips: dict[Path, str], model: str) -> str:
    """Hash of everything that a result depends on; "" where the source cannot be read."""
    try:
        content = [_file_hash(task.source), *(clips[clip] for clip in task.references)]
    except (OSError, ValueError):
        return ""  # the conversion will say what is wrong
    given = task.settings
    settings = [str(given.pitch), given.sample_rate, given.vocoder, given.denoise]
    described = json.dumps([content, settings, task.output.suffix, model])
    return hashlib.sha256(described.encode()).hexdigest()


def _refuse(task: Task, key: str, ledger: Ledger, overwrite: bool) -> Outcome | None:
    """The outcome of a task that is not to be run; None for one that is."""
    if task.problem:
        return _outcome(task, "failed", task.problem)
    if not os.path.lexists(task.output):
        return None
    if task.output.is_dir():
        return _outcome(task, "failed", f"{task.output}: is a folder")
    record = ledger.records.get(task.name)
    if record is not None and "sha256" not in record:
        return None  # begun by a batch that was killed
    if record is not None and record["sha256"] == _hash_or_none(task.output):
        if record.get("key") != key:
            return None
        return _outcome(task, "skipped", "done before, from the same content")
    if overwrite:
        return None
    reason = f"{task.output}: exists and is not this batch's work; use --overwrite"
    return _outcome(task, "failed", reason)


def _hash_or_none(path: Path) -> str | None:
    try:
        return _file_hash(path)
    except OSError:
        return None


def _outcome(task: Task, status: Status, reason: str = "", attempts: int = 0) -> Outcome:
    reference = task.references[0] if len(task.references) == 1 else task.references[0].parent
    return Outcome(str(task.source), str(reference), task.name, status, reason, attempts)


def _remove_scratch(output: Path, tasks: Sequence[Task]) -> None:
    """Remove unfinished files of killed workers."""
    for folder in {task.output.parent for task in tasks if not task.problem} | {output}:
        if folder.is_dir():
            remove_abandoned(folder)


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
        for line in text.splitlines():
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
        self._before[task.name] = self.records.get(task.name, {"key": "", "sha256": ""})
        self._append(task.name, {})

    def done(self, task: Task, key: str) -> None:
        """Record a finished result."""
        self._before.pop(task.name, None)
        self._append(task.name, {"key": key, "sha256": _hash_or_none(task.output) or ""})

    def failed(self, task: Task) -> None:
        """Record that nothing was written after all."""
        self._append(task.name, self._before.pop(task.name))

    def _append(self, name: str, record: dict[str, str]) -> None:
        self.records[name] = record
        try:
            self._file.write(json.dumps({"output": name, **record}, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror})") from error


@lru_cache(maxsize=1)
def _converter(checkpoint: Path | None, vocoder: Literal["neural", "griffin-lim"]) -> Any:
    import torch

    from vc.convert import load

    torch.set_num_threads(1)  # many processes share the cores
    return load(checkpoint, vocoder=vocoder)


@lru_cache(maxsize=64)
def _voice(
    checkpoint: Path | None,
    vocoder: Literal["neural", "griffin-lim"],
    references: tuple[Path, ...],
) -> Any:
    return _converter(checkpoint, vocoder).voice(list(references))


def convert_task(task: Task) -> Outcome:
    """Do one task; what goes wrong becomes its outcome."""
    from vc.blockwise import convert_file

    settings = task.settings
    try:
        converter = _converter(settings.checkpoint, settings.vocoder)
        voice = _voice(settings.checkpoint, settings.vocoder, task.references)
        warning = _warning(converter, task.source) if settings.check else ""
        make_folder(task.output.parent)
        done = convert_file(
            converter,
            task.source,
            voice,
            task.output,
            settings.pitch,
            settings.sample_rate,
            denoise=settings.denoise,
        )
    except VCError as error:
        return _outcome(task, "failed", str(error), 1)
    except Exception as error:  # noqa: BLE001 - one bad file never stops the rest
        reason = f"{task.source}: unexpected {type(error).__name__}: {error}"
        return _outcome(task, "crashed", reason, 1)  # perhaps not the next time
    seconds = round(done.duration_s, 3)
    return replace(_outcome(task, "done", "", 1), seconds=seconds, warning=warning)


def _warning(converter: Any, source: Path) -> str:
    """What is wrong with a source, judged by its first minute."""
    blocks = list(islice(read_blocks(source), _CHECKED_BLOCKS))
    beginning = Audio(np.concatenate([b.waveform for b in blocks]), blocks[0].sample_rate)
    return " ".join(problem.message for problem in converter.check(beginning).problems)


def _work(pipe: Connection) -> None:
    """A worker process: tasks in, outcomes out, until the pipe closes."""
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)  # its successor does the rest, and must be alone

    threading.Thread(target=follow, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):  # the parent has ended
        while True:
            pipe.send(convert_task(pipe.recv()))


@contextlib.contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say, and only it is interrupted
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


class _Worker:
    """A process and what it is doing."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs,), daemon=True)
        with _ctrl_c_ignored():  # also by the new process: it is the parent's to handle
            self.process.start()
        theirs.close()  # so that its death is noticed here
        self.task: Task | None = None
        self.attempt = 0

    def give(self, task: Task, attempt: int) -> None:
        """Hand over a task; if the process is dead, its pipe will say so."""
        self.task, self.attempt = task, attempt
        with contextlib.suppress(OSError):
            self.pipe.send(task)

    def end(self) -> None:
        """Stop the process, whatever it does."""
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def _run_local(
    tasks: Iterator[Task], workers: int | None, retries: int, address: str | None
) -> Generator[tuple[Task, Outcome], None, None]:
    """Convert in processes of this machine.

    Each worker has its own pipe, so that one that dies (killed, out of memory) loses nothing but
    the attempt at its own file, and is replaced. `concurrent.futures` gives up the whole pool.
    """
    again: list[tuple[Task, int]] = []  # tasks to retry, with the number of the next attempt
    pool: list[_Worker] = []

    def next_task() -> tuple[Task, int] | None:
        if again:
            return again.pop()
        task = next(tasks, None)
        return None if task is None else (task, 1)

    try:
        while True:
            while len(pool) < (workers or os.cpu_count() or 1) and (job := next_task()):
                worker = _Worker()
                pool.append(worker)
                worker.give(*job)
            if not pool:
                return
            for ready in connection.wait([worker.pipe for worker in pool]):
                worker = next(w for w in pool if w.pipe is ready)
                task, attempt = worker.task, worker.attempt
                assert task is not None
                try:
                    outcome: Outcome = worker.pipe.recv()
                except (EOFError, OSError):
                    pool.remove(worker)
                    worker.end()
                    if attempt <= retries:
                        again.append((task, attempt + 1))
                        continue
                    reason = (
                        f"{task.source}: its worker died {attempt} times (exit status "
                        f"{worker.process.exitcode}; -9 means killed, perhaps for want of memory)"
                    )
                    yield task, _outcome(task, "failed", reason, attempt)
                    continue
                if outcome.status != "crashed":
                    yield task, replace(outcome, attempts=attempt)
                elif attempt <= retries:
                    again.append((task, attempt + 1))
                else:
                    yield task, _outcome(task, "failed", outcome.reason, attempt)
                job = next_task()
                if job is None:
                    pool.remove(worker)
                    worker.end()
                else:
                    worker.give(*job)
    finally:
        for worker in pool:
            worker.end()


def _run_ray(
    tasks: Iterator[Task], workers: int | None, retries: int, address: str | None
) -> Generator[tuple[Task, Outcome], None, None]:
    """Convert on a Ray cluster, one core a task; Ray notices dead workers and tries again."""
    try:
        import ray
    except ImportError as error:
        raise VCError(
            "the Ray engine needs the extra `cluster`: pip install 'vc[cluster]'"
        ) from error
    ours = not ray.is_initialized()
    if ours:
        local: dict[str, Any] = {"num_cpus": workers or os.cpu_count(), "include_dashboard": False}
        ray.init(address=address, log_to_driver=False, **({} if address else local))
    try:
        convert = ray.remote(num_cpus=1, max_retries=retries, retry_exceptions=True)(_ray_task)
        limit = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        running: dict[Any, Task] = {}
        for task in tasks:
            running[convert.remote(task)] = task
            if len(running) >= 2 * limit:
                yield _ray_outcome(ray, running, retries)
        while running:
            yield _ray_outcome(ray, running, retries)
    finally:
        if ours:
            ray.shutdown()


def _ray_task(task: Task) -> Outcome:
    outcome = convert_task(task)
    if outcome.status == "crashed":
        raise RuntimeError(outcome.reason)  # Ray tries again
    return outcome


def _ray_outcome(ray: Any, running: dict[Any, Task], retries: int) -> tuple[Task, Outcome]:
    (ready,), _ = ray.wait(list(running), num_returns=1)
    task = running.pop(ready)
    try:
        return task, ray.get(ready)
    except ray.exceptions.RayTaskError as error:
        return task, _outcome(task, "failed", str(error.cause), retries + 1)
    except ray.exceptions.RayError as error:
        reason = f"{task.source}: its worker died {retries + 1} times ({type(error).__name__})"
        return task, _outcome(task, "failed", reason, retries + 1)
