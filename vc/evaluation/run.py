"""Convert a table of pairs and score the conversions, or score clips that are there already."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import torch
from tqdm import tqdm

import vc
from vc.audio import AUDIO_SUFFIXES, write_audio
from vc.batch.ledger import model_hash
from vc.checkpoint import inspect_checkpoint
from vc.config import SHIPPED, model_part
from vc.convert import COMMENT, Converter, load
from vc.errors import DataError, WorkerError
from vc.evaluation.html import HTML_SUFFIXES
from vc.evaluation.judges import judge_versions, require
from vc.evaluation.results import Results, as_row, from_row, write_results
from vc.evaluation.score import Judges, Pair, PairScore, load_clip, read_pairs, score_pair
from vc.safe_write import check_output, write_text

SCORES_FILE, PROGRESS_FILE, REPORT_FILE = "scores.json", "scored.jsonl", "report.html"

_SCORING_CODE = (
    "*.py",
    "model/*.py",
    "vocoder/*.py",
    "evaluation/judges.py",
    "evaluation/score.py",
    "evaluation/verification.py",
)

Job = TypeVar("Job")
Score = TypeVar("Score")


@dataclass(frozen=True)
class _Job:
    pair: Pair
    checkpoint: Path | None
    converted_folder: Path | None
    clips: Path  # where a model's conversions go
    key: str  # of everything that the scores depend on


def evaluate(
    table: Path,
    root: Path,
    checkpoint: Path | None = None,
    output: Path | None = None,
    converted_folder: Path | None = None,
    *,
    every: int = 1,
    workers: int | None = None,
    report: Path | None = None,
    shown: int = 9,
    name: str = "",
) -> Results:
    """Score a model, or a folder of clips that some system has already converted.

    With an output folder, what is scored is noted pair by pair: an interrupted evaluation goes on
    where it was, and a finished one is not done again, as long as the model, clips, judges and the
    code of this package are the same.

    Args:
        table: TSV of set, source, reference(s), transcript; see `vc.evaluation.score.read_pairs`.
        root: folder that the table's paths start from.
        checkpoint: model to convert with; the shipped one if None.
        output: folder for converted clips, `scores.json` (see `vc.evaluation.results`) and
            `report.html`; nothing is kept if None.
        converted_folder: score its clips instead of converting. There must be one for each pair,
            called `<set>--<source>--<reference>` after the table's set and the file names (without
            folder and suffix) of the source and of the first reference, with the suffix of any
            audio format that can be read.
        every: take only each n-th pair.
        workers: processes; all cores by default.
        report: HTML file, if it is wanted elsewhere than in the output folder.
        shown: pairs with players and pictures in the report.
        name: of the system in tables; the folder's by default.

    Raises:
        VCError: there can be no report of that name.
        DataError: the table or a converted clip is missing or cannot be used.
        AudioError: a clip cannot be read or converted.
    """
    if report:
        check_output(report, HTML_SUFFIXES, made=output)
    if output or report:
        require("matplotlib")  # before the work, not after it
    pairs = read_pairs(table, root)[::every]
    system = _describe_system(checkpoint, converted_folder, name)
    model = "" if converted_folder else model_hash(checkpoint)
    with _folder(output) as folder:
        clips = converted_folder or folder
        jobs = [
            _Job(pair, checkpoint, converted_folder, folder, _key(pair, model, converted_folder))
            for pair in pairs
        ]
        progress = folder / PROGRESS_FILE if output else None
        results = Results(system, judge_versions(), _resume(jobs, progress, workers))
        if output:
            write_results(output / SCORES_FILE, results)
            report = report or output / REPORT_FILE
        if report:
            from vc.evaluation.report import write_report

            files = [find_converted(clips, pair) for pair in pairs]
            write_report(report, results, pairs, files, shown)
    return results


@contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    if output is None:
        with tempfile.TemporaryDirectory(prefix="vc-evaluate-") as folder:
            yield Path(folder)
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{output}: cannot be made ({error.strerror})") from error
    yield output


def _resume(jobs: Sequence[_Job], progress: Path | None, workers: int | None) -> list[PairScore]:
    """Score what the progress file does not hold yet, and note each pair as it is done."""
    keys = {job.pair.name: job.key for job in jobs}
    done = _read_progress(progress) if progress else {}
    # what is noted of other pairs stays: these may be a few of the table
    done = {key: score for key, score in done.items() if keys.get(score.name, key) == key}
    if progress:  # drops what is out of date, and a last line that was cut short
        lines = [_progress_line(key, score) for key, score in done.items()]
        write_text(progress, "".join(lines))
    missing = [job for job in jobs if job.key not in done or not _has_clip(job)]
    for job, score in run_all(_score, missing, workers, "scoring", len(jobs) - len(missing)):
        done[job.key] = score
        if progress:
            with progress.open("a", encoding="utf-8") as file:
                file.write(_progress_line(job.key, score))
    return [done[job.key] for job in jobs]


def _has_clip(job: _Job) -> bool:
    return bool(job.converted_folder) or (job.clips / f"{job.pair.name}.wav").exists()


def _progress_line(key: str, score: PairScore) -> str:
    return json.dumps({"key": key, "score": as_row(score)}) + "\n"


def _read_progress(path: Path) -> dict[str, PairScore]:
    done = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
            done[row["key"]] = from_row(row["score"])
        except (KeyError, TypeError, ValueError):
            continue  # cut short, or of another version
    return done


def run_all(
    score: Callable[[Job], Score],
    jobs: Sequence[Job],
    workers: int | None,
    title: str,
    already: int = 0,
) -> Iterator[tuple[Job, Score]]:
    """Each job with its result, in order, over processes and under a progress bar.

    Raises:
        WorkerError: a worker was killed.
    """
    bar = tqdm(desc=title, unit="pair", initial=already, total=already + len(jobs))
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    with bar:
        if workers <= 1:
            for job in jobs:
                yield job, score(job)
                bar.update()
            return
        pool = ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
        try:
            for job, result in zip(jobs, pool.map(score, jobs), strict=True):
                yield job, result
                bar.update()
        except BrokenProcessPool as error:
            raise WorkerError from error
        finally:
            pool.shutdown(cancel_futures=True)


@lru_cache(maxsize=1)
def _converter(checkpoint: Path | None) -> Converter:
    return load(checkpoint)


@lru_cache(maxsize=1)
def _judges() -> Judges:
    return Judges()


def _score(job: _Job) -> PairScore:
    pair = job.pair
    if job.converted_folder is None:
        audio = _converter(job.checkpoint).convert(pair.source, list(pair.references))
        write_audio(job.clips / f"{pair.name}.wav", audio, COMMENT)
    # what was written is scored: the same clips as a folder get the same figures
    converted = load_clip(find_converted(job.converted_folder or job.clips, pair))
    return score_pair(pair, converted, _judges())


def find_converted(folder: Path, pair: Pair) -> Path:
    """The clip of a pair in a folder of converted clips.

    Raises:
        DataError: it is not there.
    """
    for suffix in (".wav", *sorted(AUDIO_SUFFIXES)):
        file = folder / f"{pair.name}{suffix}"
        if file.exists():
            return file
    raise DataError(
        f"{folder / pair.name}.wav: missing; the folder needs one clip for each pair, called "
        "<set>--<source>--<reference>.wav"
    )


def _describe_system(
    checkpoint: Path | None, converted_folder: Path | None, name: str
) -> dict[str, str]:
    """What is scored; for a model with the hashes of its weights."""
    if converted_folder is not None:
        return {"name": name or converted_folder.resolve().name}
    folder = checkpoint or SHIPPED
    parts = {
        "autoencoder": inspect_checkpoint(folder / "autoencoder").sha256,
        "vocoder": inspect_checkpoint(model_part(folder, "vocoder")).sha256,
    }
    default = "vc, shipped" if checkpoint is None else folder.resolve().name
    return {"name": name or default, **parts, "vc": vc.__version__}


def _key(pair: Pair, model: str, converted_folder: Path | None) -> str:
    """Hash of everything that a pair's scores depend on."""
    files = [pair.source, *pair.references]
    if converted_folder is not None:
        files.append(find_converted(converted_folder, pair))
    known = {
        "pair": [pair.name, pair.transcript, pair.english],
        "files": [_stamp(file) for file in files],
        "model": model,
        "judges": judge_versions(),
        "code": _code_hash(),
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _stamp(file: Path) -> list[str | int]:
    try:
        status = file.stat()
    except OSError as error:
        raise DataError(f"{file}: named in the table, but cannot be read") from error
    return [str(file.resolve()), status.st_size, status.st_mtime_ns]


@lru_cache(maxsize=1)
def _code_hash() -> str:
    """Hash of the code that makes the figures: none of an older state is taken for today's."""
    folder = Path(vc.__file__).parent
    code = hashlib.sha256()
    for pattern in _SCORING_CODE:
        for file in sorted(folder.glob(pattern)):
            code.update(file.read_bytes())
    return code.hexdigest()
