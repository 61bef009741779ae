"""Score conversions pair by pair, and sum them up with bootstrap intervals."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from vc.audio import Audio, Waveform, read_audio, resample
from vc.errors import DataError
from vc.evaluation.judges import (
    JUDGE_RATE,
    Recognizer,
    SpeakerJudge,
    error_rate,
    f0_correlation,
    f0_track,
    naturalness,
    semitones_apart,
)

Convert = Callable[[Path, list[Path]], Audio]


@dataclass(frozen=True)
class Pair:
    """One row of a table of pairs."""

    group: str
    source: Path
    references: tuple[Path, ...]
    transcript: str = ""

    @property
    def name(self) -> str:
        """A file name for the converted clip."""
        return f"{self.group}--{self.source.stem}--{self.references[0].stem}"


@dataclass(frozen=True)
class PairScore:
    """All measures of one conversion; nan where a measure does not apply."""

    name: str
    group: str
    to_reference: float  # speaker cosine
    to_source: float  # speaker cosine
    nearer_reference: float  # 1.0 if to_reference > to_source
    accepted: float  # 1.0 if to_reference exceeds the verifier's threshold
    f0_correlation: float  # with the source
    semitones_off: float  # median F0 from the references'
    p808: float
    overall: float
    source_p808: float
    cer_own: float  # characters, against the recogniser's own text of the source
    cer: float  # characters, against the transcript
    wer: float
    source_cer: float
    source_wer: float


MEASURES = [name for name in PairScore.__dataclass_fields__ if name not in ("name", "group")]


@dataclass
class Judges:
    """The judges, made once, and what they have heard of originals so far."""

    speaker: SpeakerJudge = field(default_factory=SpeakerJudge)
    recognizer: Recognizer = field(default_factory=Recognizer)

    def __post_init__(self) -> None:
        self.voice = lru_cache(None)(lambda path: self.speaker.embed(load_clip(path)))
        self.text = lru_cache(None)(lambda path: self.recognizer.text(load_clip(path)))
        self.f0 = lru_cache(None)(lambda path: f0_track(load_clip(path)))
        self.opinion = lru_cache(None)(lambda path: naturalness(load_clip(path)))


def read_pairs(table: Path, root: Path) -> list[Pair]:
    """Read a TSV of set, source, reference(s) joined by ';', and transcript or nothing.

    Args:
        table: the file.
        root: folder that its paths start from.

    Raises:
        DataError: a column is missing or the table is empty.
    """
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    try:
        pairs = [
            Pair(
                row.get("set") or "all",
                root / row["source"],
                tuple(root / part for part in row["reference"].split(";")),
                row.get("transcript") or "",
            )
            for row in rows
        ]
    except KeyError as error:
        raise DataError(f"{table}: column {error} is missing") from error
    if not pairs:
        raise DataError(f"{table}: no pairs in it")
    return pairs


def load_clip(path: Path) -> Waveform:
    """Read a clip as the judges want it."""
    audio = read_audio(path)
    return resample(audio.waveform, audio.sample_rate, JUDGE_RATE)


def score_pair(pair: Pair, converted: Waveform, judges: Judges, english: bool) -> PairScore:
    """Judge one conversion.

    Args:
        pair: what was converted.
        converted: `(samples,)` at 16 kHz.
        judges: the judges.
        english: whether the recogniser can say anything about it.
    """
    voice = judges.speaker.embed(converted)
    references = np.mean([judges.voice(path) for path in pair.references], axis=0)
    to_reference = float(voice @ references / np.linalg.norm(references))
    to_source = float(voice @ judges.voice(pair.source))
    f0 = f0_track(converted)
    reference_f0 = np.concatenate([judges.f0(path) for path in pair.references])
    opinion = naturalness(converted)
    nan = float("nan")
    own = cer = wer = source_cer = source_wer = nan
    if english:
        text, source_text = judges.recognizer.text(converted), judges.text(pair.source)
        own = error_rate(text, source_text, "char")
        if pair.transcript:
            cer, wer = (error_rate(text, pair.transcript, unit) for unit in ("char", "word"))
            source_cer, source_wer = (
                error_rate(source_text, pair.transcript, unit) for unit in ("char", "word")
            )
    return PairScore(
        name=pair.name,
        group=pair.group,
        to_reference=to_reference,
        to_source=to_source,
        nearer_reference=float(to_reference > to_source),
        accepted=float(to_reference > SpeakerJudge.THRESHOLD),
        f0_correlation=f0_correlation(f0, judges.f0(pair.source)),
        semitones_off=semitones_apart(f0, reference_f0),
        p808=opinion.p808,
        overall=opinion.overall,
        source_p808=judges.opinion(pair.source).p808,
        cer_own=own,
        cer=cer,
        wer=wer,
        source_cer=source_cer,
        source_wer=source_wer,
    )


@dataclass(frozen=True)
class Summary:
    """Mean of a measure with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    count: int


def summarize(scores: Sequence[PairScore], resamples: int = 2_000) -> dict[str, Summary]:
    """Means and 95 % intervals by percentile bootstrap over pairs, the same every time."""
    result = {}
    for measure in MEASURES:
        values = np.array([getattr(score, measure) for score in scores])
        values = values[np.isfinite(values)]
        if len(values) == 0:
            continue
        generator = np.random.default_rng(0)
        picks = generator.integers(len(values), size=(resamples, len(values)))
        low, high = np.quantile(values[picks].mean(axis=1), [0.025, 0.975])
        result[measure] = Summary(float(values.mean()), float(low), float(high), len(values))
    return result


def as_rows(scores: Sequence[PairScore]) -> list[dict[str, float | str]]:
    """Plain rows for JSON."""
    return [asdict(score) for score in scores]
