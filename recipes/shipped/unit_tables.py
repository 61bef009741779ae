"""Count what units and pitch follow which: run it whenever the unit coder changes.

Clips of the training part of a prepared cache go through the autoencoder and the unit coder of a
model folder; `units/tables.safetensors` in it gets the chances that `vc compress` codes with, and
the merges of `vc encode --tree`. Needs scikit-learn (extra `eval`).

    python recipes/shipped/unit_tables.py CACHE
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from sklearn.cluster import KMeans
from tqdm import tqdm

import vc
from vc.checkpoint import load_unit_coder
from vc.compress import pitch_context, pitch_levels
from vc.config import SHIPPED
from vc.convert import Converter
from vc.corpus import feature_file, read_manifest
from vc.model.unit_coder import UnitCoder
from vc.unit_tables import (
    PITCH_CONTEXTS,
    TABLES_FILE,
    VOICE_LIMIT,
    VOICE_STEP,
    UnitTables,
    pitch_count,
    save_tables,
)
from vc.unit_tree import learn_merges
from vc.units import counted_model
from vc.voice_prior import PRIOR_FILE, load_prior

KINDS, LONGEST_RUN, MERGES = 64, 24, 1024
UNIGRAM_WEIGHT = 300  # counts of all kinds together, beside those of one
TOTAL = 2**15  # that a row's counts are scaled to


class Heard(NamedTuple):
    """One clip."""

    codes: np.ndarray  # (stages, units)
    f0: np.ndarray  # (frames,)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED)
    parser.add_argument("--every", type=int, default=2, help="only each n-th clip (2)")
    arguments = parser.parse_args()
    converter = vc.load(arguments.checkpoint, vocoder="griffin-lim")
    folder = arguments.checkpoint / "units"
    coder = load_unit_coder(folder)
    clips = listen(arguments.cache, converter, coder, arguments.every)
    prior = load_prior(arguments.checkpoint / PRIOR_FILE, converter.model_sha256)
    dim = converter.autoencoder.config.embedding_dim
    voice = np.stack([prior.mean[:dim], prior.scale[:dim]])
    tables = count(clips, coder, converter, voice)
    save_tables(folder / TABLES_FILE, tables, counted_model(converter, coder))
    units = sum(clip.codes.shape[1] for clip in clips)
    print(f"{folder / TABLES_FILE}: {units} units of {len(clips)} clips")
    for name in ("first", "second", "later"):
        print(f"  {name}: {entropy(getattr(tables, name)):.2f} bits a code in an average row")


def listen(cache: Path, converter: Converter, coder: UnitCoder, every: int) -> list[Heard]:
    """Codes and F0 of training clips."""
    names = [u.name for u in read_manifest(cache) if u.split == "train"][::every]
    clips = []
    for name in tqdm(names, "listening"):
        with safe_open(feature_file(cache, name), "pt") as stored:
            log_mel = stored.get_tensor("log_mel").float().T[None]
            f0 = stored.get_tensor("f0").numpy()
        with torch.inference_mode():
            content = converter.autoencoder.encode_content(log_mel)
            clips.append(Heard(coder.encode(content, coder.config.stages)[0].numpy(), f0))
    return clips


def count(
    clips: list[Heard], coder: UnitCoder, converter: Converter, voice: np.ndarray
) -> UnitTables:
    """All tables."""
    size, stages = coder.config.codebook_size, coder.config.stages
    entries = coder.codebooks[0].get_buffer("codebook").numpy()
    kinds = KMeans(KINDS, n_init=1, random_state=0).fit_predict(entries).astype(np.uint8)
    first, second = np.zeros((KINDS, size)), np.zeros((KINDS, size))
    later = np.zeros((max(0, stages - 2), size))
    features = converter.features
    mel_frames = coder.config.stride * converter.autoencoder.config.content_stride
    zero = pitch_count(features) - 1  # where no change stands
    voicing = np.zeros((2, LONGEST_RUN, 2))
    pitch = np.zeros((PITCH_CONTEXTS, 2 * zero + 1))
    for codes, f0 in clips:
        np.add.at(first, (kinds[codes[0, :-1]], codes[0, 1:]), 1)
        if stages > 1:
            np.add.at(second, (kinds[codes[0]], codes[1]), 1)
        for stage in range(2, stages):
            np.add.at(later[stage - 2], codes[stage], 1)
        state, run = 0, LONGEST_RUN
        for now in (f0 > 0).astype(int):
            voicing[state, run - 1, now] += 1
            run = min(run + 1, LONGEST_RUN) if now == state else 1
            state = now
        levels = pitch_levels(f0, mel_frames, features)
        last = int(np.median(levels[levels >= 0])) if (levels >= 0).any() else 0
        context = PITCH_CONTEXTS - 1
        for level in levels:
            if level < 0:
                context = PITCH_CONTEXTS - 1
                continue
            pitch[context, level - last + zero] += 1
            context, last = pitch_context(int(level) - last), int(level)
    heard = [kinds[codes[0][np.append(True, np.diff(codes[0]) != 0)]] for codes, _ in clips]
    return UnitTables(
        kinds,
        scaled(smoothed(first)),
        scaled(smoothed(second)),
        scaled(later + 1),
        scaled(voicing + 1),
        scaled(pitch + 0.1),
        voice.astype(np.float32),
        scaled(gaussian_steps()),
        learn_merges(heard, KINDS, MERGES).astype(np.uint16),
    )


def gaussian_steps() -> np.ndarray:
    """How likely a speaker lies so many steps from the mean."""
    deviations = VOICE_STEP * np.arange(-VOICE_LIMIT, VOICE_LIMIT + 1)
    return np.exp(-(deviations**2) / 2)


def smoothed(counts: np.ndarray) -> np.ndarray:
    """Rows that have seen little lean on the sum of all."""
    everywhere = counts.sum(axis=0) + 1
    return counts + UNIGRAM_WEIGHT * everywhere / everywhere.sum()


def scaled(counts: np.ndarray) -> np.ndarray:
    """Whole numbers of at least 1 in the same proportions, `TOTAL` a row or hardly more."""
    shares = counts / counts.sum(axis=-1, keepdims=True)
    return np.maximum(1, np.round(TOTAL * shares)).astype(np.uint16)


def entropy(counts: np.ndarray) -> float:
    """Mean over rows, in bits."""
    shares = counts / counts.sum(axis=-1, keepdims=True)
    return float(-(shares * np.log2(shares)).sum(axis=-1).mean())


if __name__ == "__main__":
    main()
