"""Score conversions pair by pair, and sum them up with bootstrap intervals."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path

import numpy as np

from vc.audio import Waveform, read_audio, resample
from vc.errors import DataError
from vc.evaluation.bootstrap import Summary, summarize_values
from vc.evaluation.judges import (
    JUDGE_RATE,
    Recognizer,
    SpeakerJudge,
    error_rate,
    f0_correlation,
    f0_track,
    f0_track_harvest,
    naturalness,
    semitones_apart,
)
from vc.evaluation.verification import other_recordings, summarize_trials
from vc.layouts import read_table

NOT_ENGLISH = frozenset({"cross-language", "others", "others-to-english"})  # sets, by source
_NOT_IN_NAMES = re.compile(r"[/\\\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Pair:
    """One row of a table of pairs."""

    group: str
    source: Path
    references: tuple[Path, ...]
    transcript: str = ""
    english: bool = True  # whether the recogniser, which knows English only, is asked

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
    f0_correlation: float  # of log-F0 with the source's, both tracked by Praat
    f0_correlation_harvest: float  # the same by Harvest, over the first 4 s
    semitones_off: float  # median F0 from the references'
    p808: float  # DNSMOS
    overall: float
    source_p808: float
    source_overall: float
    cer_own: float  # characters, against the recogniser's own text of the source
    cer: float  # characters, against the transcript
    wer: float
    source_cer: float
    source_wer: float
    genuine_trials: tuple[float, ...] = ()  # speaker cosines, see vc.evaluation.verification
    converted_trials: tuple[float, ...] = ()


MEASURES = [f.name for f in fields(PairScore) if f.type == "float"]
EQUAL_ERROR_RATE = "equal_error_rate"


@dataclass
class Judges:
    """The judges, made once, and what they have heard of originals so far."""

    speaker: SpeakerJudge = field(default_factory=SpeakerJudge)
    recognizer: Recognizer = field(default_factory=Recognizer)

    def __post_init__(self) -> None:
        self.voice = lru_cache(None)(lambda path: self.speaker.embed(load_clip(path)))
        self.text = lru_cache(None)(lambda path: self.recognizer.text(load_clip(path)))
        self.f0 = lru_cache(None)(lambda path: f0_track(load_clip(path)))
        self.f0_harvest = lru_cache(None)(lambda path: f0_track_harvest(load_clip(path)))
        self.opinion = lru_cache(None)(lambda path: naturalness(load_clip(path)))


def read_pairs(table: Path, root: Path) -> list[Pair]:
    """Read a TSV of set, source, reference(s) joined by ';', and transcript or nothing.

    A column `language` with anything but "en" keeps the English recogniser from being asked about
    a pair; without that column the sets named in `NOT_ENGLISH` are left out.

    Args:
        table: the file.
        root: folder that its paths start from.

    Raises:
        DataError: the table cannot be read, is empty, lacks a column, has a set that cannot be
            part of a file name, or two pairs whose converted clips would have the same name.
    """
    rows = read_table(table, "\t", ("source", "reference"))
    for number, row in enumerate(rows, 2):
        if _NOT_IN_NAMES.search(row.get("set") or ""):
            raise DataError(
                f"{table}, line {number}: set {row['set']!r} cannot be part of a file name; "
                "leave out slashes and control characters"
            )
    pairs = [
        Pair(
            row.get("set") or "all",
            root / row["source"],
            tuple(root / part for part in row["reference"].split(";")),
            row.get("transcript") or "",
            _is_english(row),
        )
        for row in rows
    ]
    if not pairs:
        raise DataError(f"{table}: no pairs in it")
    names = Counter(pair.name for pair in pairs)
    name, count = names.most_common(1)[0]
    if count > 1:
        raise DataError(f"{table}: {count} pairs would be named {name}; rename a clip or a set")
    return pairs


def _is_english(row: dict[str, str]) -> bool:
    language = row.get("language") or ""
    return language.startswith("en") if language else row.get("set") not in NOT_ENGLISH


def load_clip(path: Path) -> Waveform:
    """Read a clip as the judges want it."""
    audio = read_audio(path)
    return resample(audio.waveform, audio.sample_rate, JUDGE_RATE)


def score_pair(pair: Pair, converted: Waveform, judges: Judges) -> PairScore:
    """Judge one conversion.

    Args:
        pair: what was converted.
        converted: `(samples,)` at 16 kHz.
        judges: the judges.
    """
    voice = judges.speaker.embed(converted)
    references = np.mean([judges.voice(path) for path in pair.references], axis=0)
    to_reference = float(voice @ references / np.linalg.norm(references))
    to_source = float(voice @ judges.voice(pair.source))
    reference = judges.voice(pair.references[0])
    recordings = [judges.voice(p) for p in other_recordings(pair.references, pair.source)]
    f0 = f0_track(converted)
    reference_f0 = np.concatenate([judges.f0(path) for path in pair.references])
    opinion, source_opinion = naturalness(converted), judges.opinion(pair.source)
    nan = float("nan")
    own = cer = wer = source_cer = source_wer = nan
    if pair.english:
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
        f0_correlation_harvest=f0_correlation(
            f0_track_harvest(converted), judges.f0_harvest(pair.source)
        ),
        semitones_off=semitones_apart(f0, reference_f0),
        p808=opinion.p808,
        overall=opinion.overall,
        source_p808=source_opinion.p808,
        source_overall=source_opinion.overall,
        cer_own=own,
        cer=cer,
        wer=wer,
        source_cer=source_cer,
        source_wer=source_wer,
        genuine_trials=tuple(float(reference @ recording) for recording in recordings),
        converted_trials=tuple(float(voice @ recording) for recording in recordings),
    )


def summarize(scores: Sequence[PairScore]) -> dict[str, Summary]:
    """Every measure that applies to a set of pairs, and its equal error rate."""
    result = {}
    for measure in MEASURES:
        summary = summarize_values(np.array([getattr(score, measure) for score in scores]))
        if summary:
            result[measure] = summary
    rate = summarize_trials(
        [s.genuine_trials for s in scores], [s.converted_trials for s in scores]
    )
    return {**result, EQUAL_ERROR_RATE: rate} if rate else result
