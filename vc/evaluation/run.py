"""Convert a table of pairs, score them, and lay the figures out."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from vc.audio import read_audio, resample, write_audio
from vc.convert import COMMENT, load
from vc.errors import DataError
from vc.evaluation.judges import JUDGE_RATE
from vc.evaluation.score import Judges, PairScore, as_rows, read_pairs, score_pair, summarize

NOT_ENGLISH = "cross-language"  # the recogniser is not asked about this set
SEVERAL_REFERENCES = "five-references"  # kept apart from the figures for one reference


def evaluate(
    table: Path,
    root: Path,
    checkpoint: Path | None,
    output: Path | None,
    converted_folder: Path | None,
    every: int = 1,
) -> str:
    """Score a model, or a folder of clips that some system has already converted.

    Args:
        table: TSV of set, source, reference(s), transcript.
        root: folder that the table's paths start from.
        checkpoint: model to convert with; the shipped one if None.
        output: folder for converted clips and `scores.json`; nothing is kept if None.
        converted_folder: score its `<set>--<source>--<reference>.wav` instead of converting.
        every: take only each n-th pair.

    Returns:
        A table of means and 95 % bootstrap intervals as text.
    """
    pairs = read_pairs(table, root)[::every]
    judges = Judges()
    converter = None if converted_folder else load(checkpoint)
    if output:
        output.mkdir(parents=True, exist_ok=True)
    scores: list[PairScore] = []
    for pair in tqdm(pairs, "scoring", unit="pair"):
        if converter is not None:
            audio = converter.convert(pair.source, list(pair.references))
        else:
            assert converted_folder is not None
            file = converted_folder / f"{pair.name}.wav"
            if not file.exists():
                raise DataError(f"{file}: missing; the folder needs one clip for each pair")
            audio = read_audio(file)
        if output:
            write_audio(output / f"{pair.name}.wav", audio, COMMENT)
        waveform = resample(audio.waveform, audio.sample_rate, JUDGE_RATE)
        scores.append(score_pair(pair, waveform, judges, pair.group != NOT_ENGLISH))
    groups = {
        name: [s for s in scores if s.group == name]
        for name in dict.fromkeys(score.group for score in scores)
    }
    single = [s for s in scores if s.group != SEVERAL_REFERENCES]
    if len(groups) > 1 and single:
        groups["all, one reference"] = single
    if output:
        rows = {
            "pairs": as_rows(scores),
            "summary": {
                name: {k: asdict(v) for k, v in summarize(group).items()}
                for name, group in groups.items()
            },
        }
        beside = output / ".scores.json.new"
        beside.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        os.replace(beside, output / "scores.json")
    return "\n\n".join(format_group(name, group) for name, group in groups.items())


def format_group(name: str, scores: list[PairScore]) -> str:
    """One set's figures, a measure a line."""
    lines = [f"{name} ({len(scores)} pairs)"]
    for measure, s in summarize(scores).items():
        lines.append(f"  {measure:18s} {s.mean:7.3f}  [{s.low:.3f}, {s.high:.3f}]  n={s.count}")
    return "\n".join(lines)
