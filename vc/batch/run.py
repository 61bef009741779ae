"""A batch from its plan to its report."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

from vc.batch.cluster import run_ray
from vc.batch.ledger import (
    LEDGER,
    Ledger,
    file_hash,
    hash_or_none,
    model_hash,
    result_key,
    voice_key,
)
from vc.batch.local import run_local
from vc.batch.plan import find_voices, plan
from vc.batch.tasks import Outcome, Settings, Status, Task, outcome_of
from vc.safe_write import make_folder, remove_abandoned, write_text

REPORT = "vc-batch-report.csv"
REPORT_SUFFIXES = (".csv", ".json")
_HASHERS = 4  # threads
_VOICES = ".vc-voices"  # folder in which workers share what they learn

Engine = Literal["local", "ray"]


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
    output = output.resolve()
    model = model_hash(settings.checkpoint)
    voices = find_voices(references, settings.checkpoint)
    tasks = plan(sources, voices, output, settings, suffix)
    clips = {clip: file_hash(clip) for voice in voices.values() for clip in voice}
    shared = output / _VOICES
    tasks = [replace(task, voice=shared / f"{voice_key(task, clips)}.voice") for task in tasks]
    make_folder(output)
    report = BatchReport()
    with Ledger(output / LEDGER) as ledger, tqdm(total=len(tasks), disable=quiet) as bar:
        _remove_scratch(output, tasks)
        make_folder(shared)
        left = {id(task): task for task in tasks}

        def note(task: Task, outcome: Outcome) -> None:
            left.pop(id(task), None)
            report.outcomes.append(outcome)
            bar.update()

        keys: dict[str, str] = {}  # of the tasks that are being done, by name

        def pending() -> Iterator[Task]:
            for task, key in _with_keys(tasks, lambda task: result_key(task, clips, model)):
                refused = _refuse(task, key, ledger, overwrite)
                if refused is not None:
                    note(task, refused)
                    continue
                ledger.started(task)
                keys[task.name] = key
                yield task

        run = run_ray if engine == "ray" else run_local
        try:
            with contextlib.closing(run(pending(), workers, retries, address)) as outcomes:
                for task, outcome in outcomes:
                    key = keys.pop(task.name)
                    if outcome.status == "done":
                        ledger.done(task, key)
                    else:
                        ledger.failed(task)
                    note(task, outcome)
        except KeyboardInterrupt:
            report.is_interrupted = True
        finally:
            _remove_scratch(output, tasks)
            shutil.rmtree(shared, ignore_errors=True)
            for task in left.values():
                if task.name in keys and not task.problem:  # such as another's name
                    ledger.interrupted(task)
        for task in left.values():
            report.outcomes.append(outcome_of(task, "interrupted", "not reached"))
    return report


def _with_keys(tasks: Sequence[Task], key_of: Callable[[Task], str]) -> Iterator[tuple[Task, str]]:
    """Each task with its key, in order; threads are a few tasks ahead, and go on for nobody."""
    pool = ThreadPoolExecutor(_HASHERS)
    ahead: deque[tuple[Task, Future[str]]] = deque()
    try:
        for task in tasks:
            ahead.append((task, pool.submit(key_of, task)))
            if len(ahead) > 2 * _HASHERS:
                first, key = ahead.popleft()
                yield first, key.result()
        for first, key in ahead:
            yield first, key.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _refuse(task: Task, key: str, ledger: Ledger, overwrite: bool) -> Outcome | None:
    """The outcome of a task that is not to be run; None for one that is."""
    if task.problem:
        return outcome_of(task, "failed", task.problem)
    if not os.path.lexists(task.output):
        return None
    if task.output.is_dir():
        return outcome_of(task, "failed", f"{task.output}: is a folder")
    record = ledger.records.get(task.name)
    if record is not None and "sha256" not in record:
        return None  # begun by a batch that was killed
    if record is not None and record["sha256"] == hash_or_none(task.output):
        if record.get("key") != key:
            return None
        return outcome_of(task, "skipped", "done before, from the same content")
    if overwrite:
        return None
    reason = f"{task.output}: exists and is not this batch's work; use --overwrite"
    return outcome_of(task, "failed", reason)


def _remove_scratch(output: Path, tasks: Sequence[Task]) -> None:
    """Remove unfinished files of killed workers."""
    for folder in {task.output.parent for task in tasks if not task.problem} | {output}:
        if folder.is_dir():
            remove_abandoned(folder)
