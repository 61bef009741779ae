"""What codes know of phones: learnt codebooks, clusters of content and of MFCC, and chance.

    python benchmarks/codebook.py CACHE CORPORA --vq runs/vq64 runs/vq256 \
        --masked runs/masked_second --heat-map map.png

`--masked` names networks that guess hidden content (`vc.model.masked_predictor`): their own codes,
and clusters of the frames inside them, are compared.

Clusters are fitted on cached training clips; codes are set against the phones (by forced alignment)
of English clips of the test speakers, or with `--development` of further training clips. How the
codebooks were trained is in docs/discrete.md. Needs the `eval` extra.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from scipy.fft import dct
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor
from tqdm import tqdm

from vc.audio import normalize_level
from vc.checkpoint import load_autoencoder, load_masked_predictor
from vc.config import SHIPPED, FeatureConfig
from vc.corpus import feature_file, read_manifest, read_speakers
from vc.evaluation.alignment import Aligner, phones_at
from vc.evaluation.codes import CodeTable, agreement, heat_map, tabulate
from vc.evaluation.score import load_clip
from vc.features import LogMel
from vc.model.autoencoder import Autoencoder
from vc.model.masked_predictor import MaskedPredictor

LONGEST_S = 12.0
CEPSTRA = 13
RESAMPLES = 300
Frames = npt.NDArray[np.float32]  # (frames, dimensions)


class Speech(NamedTuple):
    """A clip whose phones are known."""

    log_mel: Tensor  # (n_mels, frames)
    phones: list[str]  # of each frame, "" in pauses


def cached(cache: Path, count: int, skip: int, features: FeatureConfig) -> list[Speech]:
    """`count` English training clips, evenly over all; `skip` shifts which."""
    aligner = Aligner()
    able = [
        u
        for u in read_manifest(cache)
        if u.split == "train" and 1 < u.seconds < LONGEST_S and aligner.can_align(u.text)
    ]
    picks = (np.linspace(0, len(able) - 1, count).astype(int) + skip) % len(able)
    clips = []
    for utterance in tqdm([able[pick] for pick in np.unique(picks)], "training clips"):
        stored = load_file(feature_file(cache, utterance.name))
        log_mel = stored["log_mel"].float().T
        clips.append(
            _aligned(aligner, log_mel, stored["waveform"].numpy(), utterance.text, features)
        )
    return [clip for clip in clips if any(clip.phones)]


def tested(corpora: Path, count: int, features: FeatureConfig) -> list[Speech]:
    """At most `count` English clips of test speakers."""
    aligner, log_mel = Aligner(), LogMel(features)
    rows: list[tuple[Path, str]] = []
    for corpus, speaker in sorted(read_speakers(corpora / "test_speakers.tsv")):
        rows += [
            (corpora / corpus / speaker / f"{utterance}.opus", text)
            for utterance, text in _transcripts(corpora / corpus).get(speaker, [])
            if aligner.can_align(text)
        ]
    clips = []
    for pick in tqdm(np.unique(np.linspace(0, len(rows) - 1, count).astype(int)), "test clips"):
        path, text = rows[pick]
        waveform = load_clip(path)
        if len(waveform) > LONGEST_S * features.sample_rate:
            continue  # cut, it would not be what its text says
        waveform = normalize_level(waveform, features.sample_rate, features.level_db)
        samples = (32767 * waveform.clip(-1, 1)).astype(np.int16)
        mel = log_mel(torch.from_numpy(waveform)[None])[0]
        clips.append(_aligned(aligner, mel, samples, text, features))
    return [clip for clip in clips if any(clip.phones)]


def _transcripts(corpus: Path) -> dict[str, list[tuple[str, str]]]:
    """Utterance and text of each speaker; of other languages' speakers too."""
    table = corpus / "transcripts.tsv"
    found: dict[str, list[tuple[str, str]]] = {}
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                found.setdefault(row["speaker"], []).append((row["utterance"], row["text"]))
    return found


def _aligned(
    aligner: Aligner,
    log_mel: Tensor,
    samples: npt.NDArray[np.int16],
    text: str,
    features: FeatureConfig,
) -> Speech:
    times = np.arange(log_mel.shape[-1], dtype=np.float64) / features.frame_rate
    return Speech(log_mel, phones_at(aligner.align(samples, text), times))


def mfcc(log_mel: Tensor) -> Frames:
    """13 cepstra and their first and second differences, each normalised over the clip."""
    cepstra = dct(log_mel.T.numpy(), axis=1, norm="ortho")[:, :CEPSTRA]
    first = np.gradient(cepstra, axis=0)
    stacked = np.concatenate([cepstra, first, np.gradient(first, axis=0)], axis=1)
    return ((stacked - stacked.mean(0)) / (stacked.std(0) + 1e-5)).astype(np.float32)


@torch.inference_mode()
def content(model: Autoencoder, log_mel: Tensor) -> Frames:
    """What the bottleneck lets through."""
    return model.encode_content(log_mel[None])[0].T.numpy()


@torch.inference_mode()
def codes_of(model: Autoencoder, log_mel: Tensor) -> npt.NDArray[np.int64]:
    """The code of each mel frame, also where a code stands for several."""
    codes = model.squeeze(model.look_at_content(log_mel[None])).codes
    assert codes is not None
    return codes[0].numpy().repeat(model.config.content_stride)[: log_mel.shape[-1]]


@torch.inference_mode()
def guessed_codes(
    model: Autoencoder, network: MaskedPredictor, log_mel: Tensor
) -> npt.NDArray[np.int64]:
    """The network's code of each mel frame."""
    codes = network.codes(model.encode_content(log_mel[None]))[0].numpy()
    return codes.repeat(network.config.stride)[: log_mel.shape[-1]]


@torch.inference_mode()
def inside(model: Autoencoder, network: MaskedPredictor, log_mel: Tensor) -> Frames:
    """What the network's codebook is of, once for each mel frame."""
    inner = network.inner(model.encode_content(log_mel[None]))[0].T.numpy()
    return inner.repeat(network.config.stride, axis=0)[: log_mel.shape[-1]]


def drawn(generator: np.random.Generator, size: int, log_mel: Tensor) -> npt.NDArray[np.int64]:
    """Codes by chance."""
    return generator.integers(size, size=log_mel.shape[-1])


def clusters(
    features: Callable[[Tensor], Frames], fit_on: Sequence[Speech], size: int
) -> Callable[[Tensor], npt.NDArray[np.int64]]:
    """Log-mel -> cluster of each frame."""
    frames = np.concatenate([features(clip.log_mel) for clip in fit_on])
    means = MiniBatchKMeans(size, batch_size=4096, n_init=3, max_iter=40, random_state=0)
    means.fit(frames)
    return lambda log_mel: means.predict(features(log_mel)).astype(np.int64)


def tables(
    encode: Callable[[Tensor], npt.NDArray[np.int64]], clips: Sequence[Speech], size: int
) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The phones, and the counts of each clip `(clips, phones, codes)`."""
    phones = sorted({phone for clip in clips for phone in clip.phones if phone})
    counts = np.zeros((len(clips), len(phones), size), dtype=np.int64)
    for number, clip in enumerate(clips):
        table = tabulate(clip.phones, encode(clip.log_mel), size)
        counts[number, [phones.index(phone) for phone in table.phones]] = table.counts
    return phones, counts


def margin(counts: npt.NDArray[np.int64]) -> float:
    """Half of the 95 % interval of `explained`, by the spread over resampled clips.

    Only their spread is used: fewer different clips agree better by chance, so that resamples lie
    above the figure itself.
    """
    generator = np.random.default_rng(0)
    clips, phones, size = counts.shape
    flat = counts.reshape(clips, -1)
    found = []
    for _ in range(RESAMPLES):
        weights = np.bincount(generator.integers(clips, size=clips), minlength=clips)
        table = CodeTable([""] * phones, (weights @ flat).reshape(phones, size))
        found.append(agreement(table).explained)
    return 1.96 * float(np.std(found))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--vq", type=Path, nargs="*", default=[], help="trained checkpoints")
    parser.add_argument("--masked", type=Path, nargs="*", default=[], help="trained checkpoints")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--development", action="store_true", help="no test speakers")
    parser.add_argument("--heat-map", type=Path, help="PNG of the last codebook")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_autoencoder(SHIPPED / "autoencoder")
    features = model.features
    fit_on = cached(options.cache, 300, 0, features)
    if options.development:
        clips = cached(options.cache, options.clips, 1, features)
    else:
        clips = tested(options.corpora, options.clips, features)
    print(f"{len(fit_on)} clips for the clusters, {len(clips)} clips to compare")
    print(f"{'':34}{'phone':>7}{'cluster':>8}{'':>7}{'explained':>10}{'':>7}{'':>7}{'codes':>6}")
    print(
        f"{'':34}{'purity':>7}{'purity':>8}{'bits':>7}{'of phones':>10}{'':>7}{'NMI':>7}{'used':>6}"
    )

    def show(name: str, encode: Callable[[Tensor], npt.NDArray[np.int64]], size: int) -> CodeTable:
        phones, counts = tables(encode, clips, size)
        table = CodeTable(phones, counts.sum(axis=0))
        found = agreement(table)
        print(
            f"{name:34}{100 * found.phone_purity:6.1f}%{100 * found.cluster_purity:7.1f}%"
            f"{found.bits:7.2f}{100 * found.explained:8.1f}% +- {100 * margin(counts):.1f}"
            f"   {found.normalized:7.3f}{found.used:6d}",
            flush=True,
        )
        return table

    for size in options.sizes:
        show(f"random, {size}", partial(drawn, np.random.default_rng(0), size), size)
        show(f"k-means of MFCC, {size}", clusters(mfcc, fit_on, size), size)
        show(
            f"k-means of shipped content, {size}",
            clusters(lambda mel: content(model, mel), fit_on, size),
            size,
        )
    learnt: list[tuple[str, Callable[[Tensor], npt.NDArray[np.int64]], int]] = []
    for folder in options.vq:
        vq = load_autoencoder(folder)
        learnt.append((folder.name, partial(codes_of, vq), vq.config.codebook_size))
    for folder in options.masked:
        network = load_masked_predictor(folder)
        for size in options.sizes:
            frames = partial(inside, model, network)
            show(f"k-means inside {folder.name}, {size}", clusters(frames, fit_on, size), size)
        known = partial(guessed_codes, model, network)
        learnt.append((folder.name, known, network.config.codebook_size))
    for name, encode, size in learnt:
        table = show(f"codebook of {name}, {size}", encode, size)
    if options.heat_map and learnt:
        heat_map(options.heat_map, table, f"A learnt codebook of {size} against phones")


if __name__ == "__main__":
    main()
