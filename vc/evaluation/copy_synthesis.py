"""Copy synthesis: how much the vocoder alone loses.

Each clip is rebuilt from its own log-mel and pitch, so that, unlike for a conversion, the truth is
known and the copy can be laid beside it sample by sample.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from vc.audio import (
    Audio,
    Waveform,
    check_speech,
    fit_length,
    normalize_level,
    resample,
    write_audio,
)
from vc.checkpoint import inspect_checkpoint
from vc.config import SHIPPED, model_part
from vc.convert import COMMENT, Converter, load
from vc.evaluation.bootstrap import Summary, summarize_values
from vc.evaluation.judges import (
    JUDGE_RATE,
    SpeakerJudge,
    judge_versions,
    mel_cepstral_distortion,
    naturalness,
    perceptual_quality,
    short_time_intelligibility,
)
from vc.evaluation.results import as_row, format_summaries
from vc.evaluation.run import run_all
from vc.evaluation.score import load_clip, read_pairs
from vc.pitch import estimate_f0, interpolate_log_f0
from vc.safe_write import write_text

COPIES_FILE = "copies.json"


@dataclass(frozen=True)
class CopyScore:
    """All measures of one copied clip; nan where a measure does not apply."""

    name: str
    pesq: float  # wide band
    stoi: float
    mel_cepstral_distortion: float  # dB
    to_original: float  # speaker cosine
    p808: float  # DNSMOS
    original_p808: float
    overall: float
    original_overall: float
    overall_loss: float  # of the original's overall figure


COPY_MEASURES = [f.name for f in fields(CopyScore) if f.type == "float"]


@dataclass(frozen=True)
class _Job:
    clip: Path
    checkpoint: Path | None
    target: Path | None


def evaluate_copies(
    table: Path,
    root: Path,
    checkpoint: Path | None = None,
    output: Path | None = None,
    *,
    every: int = 1,
    workers: int | None = None,
) -> str:
    """Let the vocoder copy the sources of a table of pairs, and score the copies.

    Args:
        table: TSV of pairs; only its sources are used, each once.
        root: folder that the table's paths start from.
        checkpoint: model whose vocoder is meant; the shipped one if None.
        output: folder for the copies and `copies.json`: an object of `system` and `judges` as in
            `scores.json`, `clips` (the fields of `CopyScore`, null where a measure does not apply)
            and `summary` (of each measure `mean`, `low`, `high`, `count`); nothing is kept if None.
        every: take only each n-th pair.
        workers: processes; all cores by default.

    Returns:
        Means with 95 % bootstrap intervals as text.

    Raises:
        DataError: the table cannot be used.
        AudioError: a clip cannot be read, or holds no speech.
        CheckpointError: the model's vocoder cannot be read.
    """
    vocoder = inspect_checkpoint(model_part(checkpoint or SHIPPED, "vocoder"))
    clips = list(dict.fromkeys(pair.source for pair in read_pairs(table, root)[::every]))
    if output:
        output.mkdir(parents=True, exist_ok=True)
    jobs = [
        _Job(clip, checkpoint, output / f"{number:04d}--{clip.stem}.wav" if output else None)
        for number, clip in enumerate(clips)
    ]
    scores = [score for _, score in run_all(_score, jobs, workers, "copying")]
    summaries = summarize_copies(scores)
    if output:
        content = {
            "system": {"name": "copy synthesis", "vocoder": vocoder.sha256},
            "judges": judge_versions(),
            "clips": [as_row(score) for score in scores],
            "summary": {measure: asdict(s) for measure, s in summaries.items()},
        }
        write_text(output / COPIES_FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return format_summaries(f"copy synthesis ({len(scores)} clips)", summaries)


def summarize_copies(scores: Sequence[CopyScore]) -> dict[str, Summary]:
    """Mean and interval of each measure."""
    values = {m: np.array([getattr(s, m) for s in scores]) for m in COPY_MEASURES}
    summaries = {measure: summarize_values(value) for measure, value in values.items()}
    return {measure: summary for measure, summary in summaries.items() if summary}


def copy_clip(converter: Converter, original: Waveform) -> Waveform:
    """Rebuild `(samples,)` at the model's rate from its log-mel, F0 and voicing."""
    f0 = estimate_f0(original, converter.features)
    with torch.inference_mode():
        waveform, log_f0, voiced = (
            torch.from_numpy(values)[None].to(converter.device)
            for values in (original, interpolate_log_f0(f0), (f0 > 0).astype(np.float32))
        )
        log_mel = converter.log_mel(waveform)
        copied = converter.synthesize(log_mel, log_f0, voiced, decoded=False)
    return fit_length(copied, len(original))


def score_copy(name: str, original: Waveform, copied: Waveform, speaker: SpeakerJudge) -> CopyScore:
    """Judge a copy `(samples,)` beside its original `(samples,)`, both at 16 kHz."""
    opinion, original_opinion = naturalness(copied), naturalness(original)
    return CopyScore(
        name=name,
        pesq=perceptual_quality(original, copied),
        stoi=short_time_intelligibility(original, copied),
        mel_cepstral_distortion=mel_cepstral_distortion(original, copied),
        to_original=float(speaker.embed(original) @ speaker.embed(copied)),
        p808=opinion.p808,
        original_p808=original_opinion.p808,
        overall=opinion.overall,
        original_overall=original_opinion.overall,
        overall_loss=original_opinion.overall - opinion.overall,
    )


@lru_cache(maxsize=1)
def _converter(checkpoint: Path | None) -> Converter:
    return load(checkpoint)


@lru_cache(maxsize=1)
def _speaker_judge() -> SpeakerJudge:
    return SpeakerJudge()


def _score(job: _Job) -> CopyScore:
    converter = _converter(job.checkpoint)
    features = converter.features
    clip = load_clip(job.clip)
    check_speech(Audio(clip, JUDGE_RATE), str(job.clip))
    original = resample(clip, JUDGE_RATE, features.sample_rate)
    original = normalize_level(original, features.sample_rate, features.level_db)
    copied = copy_clip(converter, original)
    if job.target:
        write_audio(job.target, Audio(copied, features.sample_rate), COMMENT)
    heard = [resample(w, features.sample_rate, JUDGE_RATE) for w in (original, copied)]
    return score_copy(job.clip.stem, heard[0], heard[1], _speaker_judge())
