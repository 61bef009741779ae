"""The tasks of a batch in processes of this machine, and what to do when one dies."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Generator, Iterator
from dataclasses import replace
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection

from vc.batch.tasks import Outcome, Task, outcome_of
from vc.batch.work import convert_task


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


def run_local(
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
                    yield task, outcome_of(task, "failed", reason, attempt)
                    continue
                if outcome.status != "crashed":
                    yield task, replace(outcome, attempts=attempt)
                elif attempt <= retries:
                    again.append((task, attempt + 1))
                else:
                    yield task, outcome_of(task, "failed", outcome.reason, attempt)
                job = next_task()
                if job is None:
                    pool.remove(worker)
                    worker.end()
                else:
                    worker.give(*job)
    finally:
        for worker in pool:
            worker.end()
