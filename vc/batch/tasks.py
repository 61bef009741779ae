"""What is to be done for one file of a batch, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vc.audio import Loudness

Status = Literal["done", "skipped", "failed", "crashed", "interrupted"]


@dataclass(frozen=True)
class Settings:
    """How every file of a batch is converted."""

    pitch: Literal["match", "keep"] | float = "match"
    sample_rate: int | None = None  # Hz; the source's own
    vocoder: Literal["neural", "griffin-lim"] = "neural"
    checkpoint: Path | None = None  # the shipped model
    denoise: bool = False  # sources first
    learn: bool = True  # the voices, see `Converter.voice`
    check: bool = True  # the sources, for warnings; the results are the same
    loudness: Loudness = "match"


@dataclass(frozen=True)
class Task:
    """One source in one voice."""

    source: Path
    references: tuple[Path, ...]  # clips of one speaker
    output: Path  # absolute
    name: str  # of the output, relative to the batch's folder
    settings: Settings
    problem: str = ""  # why it cannot be done at all
    voice: Path | None = None  # file in which the voice is left for other workers


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


def outcome_of(task: Task, status: Status, reason: str = "", attempts: int = 0) -> Outcome:
    """The row of the report for a task."""
    reference = task.references[0] if len(task.references) == 1 else task.references[0].parent
    return Outcome(str(task.source), str(reference), task.name, status, reason, attempts)
