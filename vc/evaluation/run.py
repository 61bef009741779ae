"""Convert a table of pairs, score them, and lay the figures out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch
from tqdm import tqdm

from vc.audio import Audio, read_audio, resample, write_audio
from vc.convert import COMMENT, Converter, load
from vc.errors import DataError
from vc.evaluation.judges import JUDGE_RATE
from vc.evaluation.score import (
    Judges,
    Pair,
    PairScore,
    as_rows,
    read_pairs,
    score_pair,
    summarize,
)

NOT_ENGLISH = "cross-language"  # the recogniser is not asked about this set
SEVERAL_REFERENCES = "five-references"  # kept apart from the figures for one reference


@dataclass(frozen=True)
class _Job:
    pair: Pair
    checkpoint: Path | None
    converted_folder: Path | None
    output: Path | None


def evaluate(
    table: Path,
    root: Path,
    checkpoint: Path | None,
    output: Path | None,
    converted_folder: Path | None,
    every: int = 1,
    workers: int | None = None,
) -> str:
    """Score a model, or a folder of clips that some system has already converted.

    Args:
        table: TSV of set, source, reference(s), transcript.
        root: folder that the table's paths start from.
        checkpoint: model to convert with; the shipped one if None.
        output: folder for converted clips and `scores.json`; nothing is kept if None.
        converted_folder: score its `<set>--<source>--<reference>.wav` instead of converting.
        every: take only each n-th pair.
        workers: processes; all cores by default.

    Returns:
        A table of means and 95 % bootstrap intervals as text.
    """
    pairs = read_pairs(table, root)[::every]
    if output:
        output.mkdir(parents=True, exist_ok=True)
    jobs = [_Job(pair, checkpoint, converted_folder, output) for pair in pairs]
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    if workers == 1:
        scores = _collect(map(_score, jobs), len(jobs))
    else:
        with ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            scores = _collect(pool.map(_score, jobs), len(jobs))
    names = dict.fromkeys(score.group for score in scores)
    groups = {name: [s for s in scores if s.group == name] for name in names}
    single = [s for s in scores if s.group != SEVERAL_REFERENCES]
    if len(groups) > 1 and single:
        groups["all, one reference"] = single
    if output:
        _write_scores(output / "scores.json", scores, groups)
    return "\n\n".join(format_group(name, group) for name, group in groups.items())


def _collect(scores: Iterable[PairScore], count: int) -> list[PairScore]:
    return list(tqdm(scores, "scoring", total=count, unit="pair"))


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
    else:
        audio = _read_converted(job.converted_folder, pair)
    if job.output:
        write_audio(job.output / f"{pair.name}.wav", audio, COMMENT)
    waveform = resample(audio.waveform, audio.sample_rate, JUDGE_RATE)
    return score_pair(pair, waveform, _judges(), pair.group != NOT_ENGLISH)


def _read_converted(folder: Path, pair: Pair) -> Audio:
    file = folder / f"{pair.name}.wav"
    if not file.exists():
        raise DataError(f"{file}: missing; the folder needs one clip for each pair")
    return read_audio(file)


def _write_scores(path: Path, scores: list[PairScore], groups: dict[str, list[PairScore]]) -> None:
    summary = {
        name: {measure: asdict(value) for measure, value in summarize(group).items()}
        for name, group in groups.items()
    }
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(json.dumps({"pairs": as_rows(scores), "summary": summary}, indent=1), "utf-8")
    os.replace(beside, path)


def format_group(name: str, scores: list[PairScore]) -> str:
    """One set's figures, a measure a line."""
    lines = [f"{name} ({len(scores)} pairs)"]
    for measure, s in summarize(scores).items():
        lines.append(f"  {measure:18s} {s.mean:7.3f}  [{s.low:.3f}, {s.high:.3f}]  n={s.count}")
    return "\n".join(lines)
