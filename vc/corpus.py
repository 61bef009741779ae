"""Corpus folder -> manifest -> cached features.

A corpus is a folder of `speaker/utterance` files, or a folder of such folders. Each utterance's
features are cached in one safetensors file beside a manifest of JSON Lines; what is already cached
and unchanged is not done again, so preparing can be interrupted at any moment.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from vc.audio import AUDIO_SUFFIXES as AUDIO_SUFFIXES
from vc.audio import SILENCE_DB, active_level_db, normalize_level, read_audio, resample
from vc.audio import find_audio as find_audio
from vc.config import FeatureConfig, from_dict, to_dict
from vc.errors import AudioError, DataError
from vc.features import LogMel
from vc.pitch import estimate_f0

UNLABELLED = "unlabelled"  # a speaker folder of this name: each clip is a speaker of its own
NOISE = "noise"  # a corpus folder of this name holds no speech: it corrupts training input
VALIDATION_SHARE = 0.02  # of speakers

Split = Literal["train", "validation", "noise"]


@dataclass(frozen=True)
class Utterance:
    """One manifest row."""

    name: str  # corpus/speaker/utterance, without suffix
    corpus: str
    speaker: str  # unique over corpora
    split: Split
    seconds: float
    text: str = ""


@dataclass(frozen=True)
class PreparationReport:
    """What `prepare` did: usable utterances, and (file, reason) of those left out."""

    utterances: list[Utterance]
    left_out: list[tuple[str, str]]


def prepare(
    corpus: Path,
    cache: Path,
    features: FeatureConfig,
    exclude: frozenset[tuple[str, str]] = frozenset(),
    hold_out: frozenset[tuple[str, str]] = frozenset(),
    skip_corpora: frozenset[str] = frozenset(),
    workers: int | None = None,
) -> PreparationReport:
    """Cache the features of every usable clip below `corpus` and write the manifest.

    Args:
        corpus: folder of `speaker/utterance` files, or of several such folders.
        cache: output folder; made if missing.
        features: what to compute; a cache made with other settings is refused.
        exclude: (corpus, speaker) pairs that are left out altogether.
        hold_out: (corpus, speaker) pairs that go to the validation part, beside a random few.
        skip_corpora: corpus folders to pass over.
        workers: processes; all cores by default.

    Raises:
        DataError: no audio below `corpus`, or `cache` holds features of other settings.
    """
    files = [
        file
        for file in find_audio(corpus)
        if _place(corpus, file)[0] not in skip_corpora and _place(corpus, file)[:2] not in exclude
    ]
    if not files:
        raise DataError(f"{corpus}: no audio files found; expected speaker/utterance.wav below it")
    cache.mkdir(parents=True, exist_ok=True)
    _claim_cache(cache, features)
    texts = dict(_transcripts(corpus))
    jobs = [(corpus, cache, file, features) for file in files]
    utterances, left_out = [], []
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        results = pool.map(_prepare_one, jobs, chunksize=16)
        for file, result in tqdm(
            zip(files, results, strict=True), "preparing", total=len(files), unit="clip"
        ):
            if isinstance(result, str):
                left_out.append((str(file.relative_to(corpus)), result))
                continue
            name = "/".join(_place(corpus, file))
            utterances.append(_utterance(name, result, texts.get(name, ""), hold_out))
    _write_text(
        cache / "manifest.jsonl",
        "".join(json.dumps(asdict(u), ensure_ascii=False) + "\n" for u in utterances),
    )
    return PreparationReport(utterances, left_out)


def _place(root: Path, file: Path) -> tuple[str, str, str]:
    """Corpus, speaker and utterance of a file, from its last three path parts."""
    parts = file.relative_to(root).with_suffix("").parts
    corpus = parts[-3] if len(parts) >= 3 else root.resolve().name
    speaker = parts[-2] if len(parts) >= 2 else UNLABELLED
    return corpus, speaker, parts[-1]


def _utterance(
    name: str, seconds: float, text: str, hold_out: frozenset[tuple[str, str]]
) -> Utterance:
    corpus, speaker, clip = name.split("/")
    held_out = (corpus, speaker) in hold_out
    speaker = f"{corpus}/{clip if speaker == UNLABELLED else speaker}"
    split: Split = "train"
    if corpus == NOISE:
        split = "noise"
    elif held_out or _chance(speaker) < VALIDATION_SHARE:
        split = "validation"
    return Utterance(name, corpus, speaker, split, round(seconds, 3), text)


def _chance(speaker: str) -> float:
    """A number in [0, 1) from the name's hash: the same speakers are picked on every machine."""
    return int(hashlib.sha256(speaker.encode()).hexdigest()[:8], 16) / 2**32


def _claim_cache(cache: Path, features: FeatureConfig) -> None:
    config_file = cache / "features.json"
    if config_file.exists():
        stored = from_dict(FeatureConfig, json.loads(config_file.read_text()), "features")
        if stored != features:
            raise DataError(f"{cache}: holds features of other settings; choose another folder")
        return
    _write_text(config_file, json.dumps(to_dict(features), indent=2))


def _transcripts(corpus: Path) -> Iterator[tuple[str, str]]:
    """(name, text) of every row of the `transcripts.tsv` files (speaker, utterance, text)."""
    for table in sorted(corpus.rglob("transcripts.tsv")):
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                yield f"{table.parent.name}/{row['speaker']}/{row['utterance']}", row["text"]


def _prepare_one(job: tuple[Path, Path, Path, FeatureConfig]) -> float | str:
    """Cache one clip; return its seconds, or why it is left out."""
    corpus, cache, file, features = job
    torch.set_num_threads(1)
    target = feature_file(cache, "/".join(_place(corpus, file)))
    stamp = f"{file.stat().st_size}-{file.stat().st_mtime_ns}"
    cached = _cached_seconds(target, stamp, features)
    if cached is not None:
        return cached
    try:
        audio = read_audio(file)
    except AudioError as error:
        return str(error)
    level = active_level_db(audio.waveform, audio.sample_rate)
    if not level > SILENCE_DB:
        return "silent"
    waveform = resample(audio.waveform, audio.sample_rate, features.sample_rate)
    waveform = normalize_level(waveform, features.sample_rate, features.level_db)
    waveform = np.clip(waveform, -1, 1)
    log_mel = LogMel(features)(torch.from_numpy(waveform)[None])[0]
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{os.getpid()}-{target.name}")
    tensors = {
        "waveform": torch.from_numpy(np.round(waveform * 32767).astype(np.int16)),
        "log_mel": log_mel.T.half().contiguous(),  # (frames, n_mels)
        "f0": torch.from_numpy(estimate_f0(waveform, features)),
    }
    save_file(tensors, beside, metadata={"stamp": stamp})
    os.replace(beside, target)
    return len(waveform) / features.sample_rate


def feature_file(cache: Path, name: str) -> Path:
    """Where the features of utterance `name` are cached."""
    return cache / "features" / f"{name}.safetensors"


def _cached_seconds(target: Path, stamp: str, features: FeatureConfig) -> float | None:
    try:
        with safe_open(target, "pt") as stored:
            if (stored.metadata() or {}).get("stamp") != stamp:
                return None
            return float(stored.get_slice("waveform").get_shape()[0] / features.sample_rate)
    except (OSError, SafetensorError):
        return None


def _write_text(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def read_manifest(cache: Path) -> list[Utterance]:
    """Every row of a prepared cache's manifest.

    Raises:
        DataError: there is no manifest, or a row is not valid.
    """
    path = cache / "manifest.jsonl"
    if not path.exists():
        raise DataError(f"{cache}: no manifest.jsonl; run `vc prepare` first")
    try:
        return [Utterance(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]
    except (TypeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: not a manifest ({error}); run `vc prepare` again") from error


def read_speakers(path: Path) -> frozenset[tuple[str, str]]:
    """(corpus, speaker) pairs of a TSV with these two columns, such as a list of test speakers."""
    with path.open(encoding="utf-8", newline="") as file:
        rows: Iterable[dict[str, str]] = list(csv.DictReader(file, delimiter="\t"))
    try:
        return frozenset((row["corpus"], row["speaker"]) for row in rows)
    except KeyError as error:
        raise DataError(f"{path}: expected tab-separated columns corpus and speaker") from error
