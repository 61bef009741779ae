"""The tasks of a batch on a Ray cluster whose machines all see the files."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Any

from vc.batch.tasks import Outcome, Task, outcome_of
from vc.batch.work import convert_task
from vc.errors import VCError


def run_ray(
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
        return task, outcome_of(task, "failed", str(error.cause), retries + 1)
    except ray.exceptions.RayError as error:
        reason = f"{task.source}: its worker died {retries + 1} times ({type(error).__name__})"
        return task, outcome_of(task, "failed", reason, retries + 1)
