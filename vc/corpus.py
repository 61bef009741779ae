"""Corpus folder -> manifest -> cached features.

`vc.layouts` tells which file is whose. Each utterance's features are cached in one safetensors
file beside a manifest of JSON Lines; what is already cached and unchanged is not done again, so
preparing can be interrupted at any moment.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from tqdm import tqdm

from vc.audio import (
    SILENCE_DB,
    Audio,
    Waveform,
    active_level_db,
    frame_levels_db,
    normalize_level,
    read_audio,
    resample,
)
from vc.clip_check import clipped_share, estimate_snr_db
from vc.config import FeatureConfig, from_dict, to_dict
from vc.errors import AudioError, DataError, WorkerError
from vc.features import LogMel
from vc.json_text import json_lines, parse_json
from vc.layouts import UNLABELLED, Clip, LeftOut, find_clips, read_table
from vc.pitch import estimate_f0
from vc.safe_write import make_folder, write_bytes, write_text

NOISE = "noise"  # a corpus folder of this name holds no speech: it corrupts training input
VALIDATION_SHARE = 0.02  # of speakers
_FEWEST_HELD_OUT = 2  # validation speakers of a corpus of ten or more; one of a smaller one
MANIFEST = "manifest.jsonl"
FEATURES_FILE = "features.json"  # of a cache: what they are
_METADATA_KEY = "clip"

_Job: TypeAlias = tuple[Clip, Path, FeatureConfig]  # with the cache

Split = Literal["train", "validation", "test", "noise"]


@dataclass(frozen=True)
class Facts:
    """What was measured on one recording as it was found."""

    sample_rate: int  # Hz
    level_db: float  # dBFS of active speech
    snr_db: float  # above stationary noise
    clipped: float  # share of samples
    silent: float  # share of the time that is more than 40 dB below the loudest moment
    sound: str  # checksum of the samples: recordings that are the same


@dataclass(frozen=True)
class Utterance:
    """One manifest row."""

    name: str  # corpus/speaker/utterance, without suffix
    corpus: str
    speaker: str  # unique over corpora
    split: Split
    seconds: float
    text: str = ""
    facts: Facts | None = None  # None in manifests that are written by hand
    stamp: str = ""  # size and time of the file, and size of its features


@dataclass(frozen=True)
class PreparationReport:
    """What `prepare` did."""

    utterances: list[Utterance]
    left_out: list[LeftOut]
    unknown: list[str]  # speakers and corpora that were named, of which there is nothing


class _Measured(NamedTuple):
    seconds: float
    facts: Facts
    stamp: str


def prepare(
    corpus: Path,
    cache: Path,
    features: FeatureConfig,
    exclude: frozenset[tuple[str, str]] = frozenset(),
    hold_out: frozenset[tuple[str, str]] = frozenset(),
    skip_corpora: frozenset[str] = frozenset(),
    workers: int | None = None,
    test_share: float = 0.0,
) -> PreparationReport:
    """Cache the features of every usable clip of `corpus` and write the manifest.

    Args:
        corpus: folder or table, as `vc.layouts.find_clips` knows them.
        cache: output folder; made if missing.
        features: what to compute; a cache made with other settings is refused.
        exclude: (corpus, speaker) pairs that are left out altogether.
        hold_out: (corpus, speaker) pairs that go to the validation part, beside a random few.
        skip_corpora: corpus folders to pass over.
        workers: processes; all cores by default.
        test_share: of the speakers, for a part that no training looks at.

    Raises:
        DataError: no audio in `corpus`, or `cache` holds features of other settings.
        WorkerError: a worker was killed; what is cached by then is not done again.
    """
    left_out: list[LeftOut] = []
    clips: dict[str, Clip] = {}
    speakers: set[tuple[str, str]] = set()
    for found in find_clips(corpus):
        if isinstance(found, LeftOut):
            left_out.append(found)
            continue
        speakers.add((found.corpus, found.speaker))
        if found.corpus in skip_corpora or (found.corpus, found.speaker) in exclude:
            continue
        if found.name in clips:
            reason = f"{clips[found.name].file.name} of the same speaker has the same name"
            left_out.append(LeftOut(found.file, reason))
        else:
            clips[found.name] = found
    if not clips:
        raise DataError(f"{corpus}: no audio files found; expected speaker/utterance.wav below it")
    make_folder(cache)
    _claim_cache(cache, features)
    measured = _already_done(cache, clips)
    jobs = [(clip, cache, features) for name, clip in clips.items() if name not in measured]
    if jobs:
        for clip, result in _prepare_all(jobs, workers):
            if isinstance(result, str):
                left_out.append(LeftOut(clip.file, result))
            else:
                measured[clip.name] = result
    utterances: list[Utterance] = []
    first_of: dict[str, str] = {}  # the first recording with some sound
    for name, clip in clips.items():
        if name not in measured:
            continue
        seconds, facts, stamp = measured[name]
        same = first_of.setdefault(facts.sound, name)
        if same != name:
            left_out.append(LeftOut(clip.file, f"the same recording as {same}"))
            continue
        utterances.append(_utterance(clip, seconds, facts, stamp, hold_out, test_share))
    utterances = _with_validation(utterances)
    write_text(
        cache / MANIFEST,
        "".join(json.dumps(asdict(u), ensure_ascii=False) + "\n" for u in utterances),
    )
    unknown = {f"{name}/{speaker}" for name, speaker in (exclude | hold_out) - speakers}
    unknown |= skip_corpora - {name for name, _ in speakers}
    left_out.sort(key=lambda other: other.file)
    return PreparationReport(utterances, left_out, sorted(unknown))


def _utterance(
    clip: Clip,
    seconds: float,
    facts: Facts,
    stamp: str,
    hold_out: frozenset[tuple[str, str]],
    test_share: float,
) -> Utterance:
    held_out = (clip.corpus, clip.speaker) in hold_out
    own = clip.utterance if clip.speaker == UNLABELLED else clip.speaker
    speaker = f"{clip.corpus}/{own}"
    chance = _chance(speaker)
    split: Split = "train"
    if clip.corpus == NOISE:
        split = "noise"
    elif held_out or chance < VALIDATION_SHARE:
        split = "validation"
    elif chance < VALIDATION_SHARE + test_share:
        split = "test"
    seconds = round(seconds, 3)
    return Utterance(clip.name, clip.corpus, speaker, split, seconds, clip.text, facts, stamp)


def _with_validation(utterances: list[Utterance]) -> list[Utterance]:
    """In a small corpus chance may hold out nobody: then those who were nearest to it are."""
    speakers = {u.speaker for u in utterances if u.split != "noise"}
    wanted = _FEWEST_HELD_OUT if len(speakers) >= 10 else min(1, len(speakers) - 1)
    missing = wanted - len({u.speaker for u in utterances if u.split == "validation"})
    trained = sorted({u.speaker for u in utterances if u.split == "train"}, key=_chance)
    chosen = set(trained[: max(0, min(missing, len(trained) - 1))])
    return [replace(u, split="validation") if u.speaker in chosen else u for u in utterances]


def _already_done(cache: Path, clips: dict[str, Clip]) -> dict[str, _Measured]:
    """Clips of an earlier manifest whose file and features are as they were."""
    try:
        earlier = read_manifest(cache)
    except DataError:
        return {}
    done = {}
    for row in earlier:
        clip = clips.get(row.name)
        if clip is None or row.facts is None:
            continue
        with contextlib.suppress(OSError):  # one that is gone is not done
            if row.stamp == _stamp(_file_stamp(clip.file), feature_file(cache, row.name)):
                done[row.name] = _Measured(row.seconds, row.facts, row.stamp)
    return done


def _stamp(file_stamp: str, target: Path) -> str:
    """Changes when the recording or its features change."""
    return f"{file_stamp}-{target.stat().st_size}"


def _file_stamp(file: Path) -> str:
    return f"{file.stat().st_size}-{file.stat().st_mtime_ns}"


def _chance(speaker: str) -> float:
    """A number in [0, 1) from the name's hash: the same speakers are picked on every machine."""
    return int(hashlib.sha256(speaker.encode()).hexdigest()[:8], 16) / 2**32


def _claim_cache(cache: Path, features: FeatureConfig) -> None:
    if not (cache / FEATURES_FILE).exists():
        write_text(cache / FEATURES_FILE, json.dumps(to_dict(features), indent=2))
    elif read_features(cache) != features:
        raise DataError(f"{cache}: holds features of other settings; choose another folder")


def _prepare_all(
    jobs: Sequence[_Job], workers: int | None
) -> Iterator[tuple[Clip, _Measured | str]]:
    """`_prepare_one` over processes and under a progress bar."""
    try:
        with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
            results = pool.map(_prepare_one, jobs, chunksize=16)
            bar = tqdm(zip(jobs, results, strict=True), "preparing", len(jobs), unit="clip")
            for (clip, _, _), result in bar:
                yield clip, result
    except BrokenProcessPool as error:
        raise WorkerError from error


def _prepare_one(job: _Job) -> _Measured | str:
    """Cache one clip; return what was measured on it, or why it is left out."""
    clip, cache, features = job
    torch.set_num_threads(1)
    target = feature_file(cache, clip.name)
    try:
        file_stamp = _file_stamp(clip.file)
    except OSError as error:  # a link to nowhere, a file that has just gone
        return f"cannot be read ({error.strerror})"
    cached = _cached(target, file_stamp, features)
    if cached is not None:
        return cached
    try:
        audio = read_audio(clip.file)
    except AudioError as error:
        return str(error)
    level = active_level_db(audio.waveform, audio.sample_rate)
    if not level > SILENCE_DB:
        return "silent"
    facts = _facts(audio, level)
    waveform = resample(audio.waveform, audio.sample_rate, features.sample_rate)
    waveform = normalize_level(waveform, features.sample_rate, features.level_db)
    waveform = np.clip(waveform, -1, 1)
    log_mel = LogMel(features)(torch.from_numpy(waveform)[None])[0]
    make_folder(target.parent)
    tensors = {
        "waveform": torch.from_numpy(np.round(waveform * 32767).astype(np.int16)),
        "log_mel": log_mel.T.half().contiguous(),  # (frames, n_mels)
        "f0": torch.from_numpy(estimate_f0(waveform, features)),
    }
    # one key, since safetensors writes several in any order: the same clip, the same file
    description = json.dumps({"stamp": file_stamp, "facts": asdict(facts)})
    write_bytes(target, save(tensors, {_METADATA_KEY: description}))
    return _Measured(len(waveform) / features.sample_rate, facts, _stamp(file_stamp, target))


def _facts(audio: Audio, level_db: float) -> Facts:
    levels = frame_levels_db(*audio)
    snr_db = min(estimate_snr_db(audio), 99.0)  # finite, for JSON
    return Facts(
        audio.sample_rate,
        round(level_db, 1),
        round(snr_db, 1),
        round(clipped_share(audio.waveform), 5),
        round(float((levels < levels.max() - 40).mean()), 3),
        _checksum(audio.waveform),
    )


def _checksum(waveform: Waveform) -> str:
    return hashlib.sha256(waveform.tobytes()).hexdigest()[:16]


def feature_file(cache: Path, name: str) -> Path:
    """Where the features of utterance `name` are cached.

    Raises:
        DataError: the name leads out of the cache.
    """
    if ".." in PurePosixPath(name).parts or name.startswith("/"):
        raise DataError(f"{cache}: utterance {name!r} lies outside it; mend its {MANIFEST}")
    return cache / "features" / f"{name}.safetensors"


def _cached(target: Path, file_stamp: str, features: FeatureConfig) -> _Measured | None:
    """What an interrupted run has measured already."""
    try:
        with safe_open(target, "pt") as stored:
            description = parse_json((stored.metadata() or {}).get(_METADATA_KEY, "{}"))
            if description.get("stamp") != file_stamp:
                return None
            facts = from_dict(Facts, description["facts"], "facts")
            samples = stored.get_slice("waveform").get_shape()[0]
    except (OSError, SafetensorError, ValueError, KeyError, AttributeError, IndexError):
        return None
    return _Measured(float(samples / features.sample_rate), facts, _stamp(file_stamp, target))


def read_features(cache: Path) -> FeatureConfig:
    """What the features of a prepared cache are.

    Raises:
        DataError: it does not tell.
    """
    path = cache / FEATURES_FILE
    try:
        return from_dict(FeatureConfig, parse_json(path.read_text("utf-8")), "features")
    except (OSError, ValueError) as error:  # of a ConfigError too
        raise DataError(f"{path}: missing or damaged; `vc prepare` another folder") from error


def check_features(cache: Path, features: FeatureConfig) -> None:
    """Refuse a cache of other features than a recipe or a model asks for.

    Raises:
        DataError: they differ, or the cache does not tell.
    """
    for name, value in vars(read_features(cache)).items():
        wanted = getattr(features, name)
        if value != wanted:
            raise DataError(
                f"{cache}: was prepared with features.{name} = {value}, not {wanted}; "
                "set the same in the recipe, or prepare another cache"
            )


def read_manifest(cache: Path) -> list[Utterance]:
    """Every row of a prepared cache's manifest.

    Raises:
        DataError: there is no manifest, or a row is not valid.
    """
    path = cache / MANIFEST
    if not path.exists():
        raise DataError(f"{cache}: no {MANIFEST}; run `vc prepare` first")
    try:
        return [_row(parse_json(line)) for line in json_lines(path.read_text("utf-8"))]
    except (OSError, ValueError) as error:  # of a ConfigError too
        raise DataError(f"{path}: not a manifest ({error}); run `vc prepare` again") from error


def _row(values: dict[str, Any]) -> Utterance:
    if isinstance(values, dict) and not values.get("facts"):
        values.pop("facts", None)
    return from_dict(Utterance, values)


def read_speakers(path: Path) -> frozenset[tuple[str, str]]:
    """(corpus, speaker) pairs of a TSV with these two columns, such as a list of test speakers.

    Raises:
        DataError: it cannot be read, or a row lacks one of them.
    """
    rows = read_table(path, "\t", ("corpus", "speaker"))
    return frozenset((row["corpus"], row["speaker"]) for row in rows)
