"""Do invented voices belong to nobody, differ and sound natural? Are blends of voices smooth?

    python -m benchmarks.new_voices CORPORA CACHE --strangers CORPORA/test_speakers.tsv

A few held-out sentences are converted into invented voices and, in the same way, into voices of
real strangers, whom neither the model nor its prior has heard. A speaker verifier that plays no
part in the product then asks how near each voice comes to any training speaker's own recording,
and to the other voices. Needs the `eval` extra and resemblyzer.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from vc.audio import Audio, Waveform
from vc.convert import Converter, load
from vc.corpus import Utterance, read_manifest, read_speakers
from vc.evaluation.bootstrap import summarize_statistic, summarize_values
from vc.evaluation.judges import JUDGE_RATE, SpeakerJudge, naturalness
from vc.evaluation.score import load_clip, read_pairs
from vc.voice import Voice, blend_voices

FloatArray = npt.NDArray[np.float64]

SOURCE_S = 5.0
STEPS = 11  # of a blend
DOMAINS = ("librispeech_resemblyzer", "commonvoice_omnilingo", "speechocean762")  # trained on, too
PAIRS = Path(__file__).parents[1] / "recipes" / "shipped" / "development_pairs.tsv"


class Heard(NamedTuple):
    """What the judges hear in some voices that say the same sentences."""

    embeddings: FloatArray  # (voices, 256), unit vectors, means over the sentences
    by_source: FloatArray  # (voices, sources, 256)
    p808: FloatArray  # (voices,), means over the sentences


def unit(vectors: FloatArray) -> FloatArray:
    """Vectors `(..., dims)` with length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def hear(
    voices: Sequence[Voice], sources: Sequence[Waveform], converter: Converter, judge: SpeakerJudge
) -> Heard:
    """Convert each source into each voice, and judge."""
    embeddings, opinions = [], []
    for voice in tqdm(voices, "listening", unit="voice"):
        clips = [converter.convert(Audio(s, JUDGE_RATE), voice).waveform for s in sources]
        embeddings.append([judge.embed(clip) for clip in clips])
        opinions.append(np.mean([naturalness(clip).p808 for clip in clips]))
    by_source = np.array(embeddings, dtype=np.float64)
    return Heard(unit(by_source.mean(axis=1)), by_source, np.array(opinions))


def one_clip_each(utterances: Sequence[Utterance], most: int) -> list[str]:
    """Names of a clip of each speaker, spread evenly over at most so many speakers."""
    first: dict[str, str] = {}
    for utterance in utterances:
        if utterance.split == "train" and 3 <= utterance.seconds <= 13:
            first.setdefault(utterance.speaker, utterance.name)
    names = sorted(first.values())
    return [names[i] for i in np.linspace(0, len(names) - 1, min(most, len(names))).astype(int)]


def strangers(corpora: Path, table: Path, most: int) -> list[Path]:
    """A clip of each speaker that a table names, as many of each corpus in turn as there are."""
    queues = [
        [
            max((corpora / corpus / speaker).glob("*.opus"), key=lambda file: file.stat().st_size)
            for corpus, speaker in sorted(read_speakers(table))
            if corpus == domain
        ]
        for domain in DOMAINS
    ]
    found: list[Path] = []
    while any(queues) and len(found) < most:
        for queue in queues:
            if queue and len(found) < most:
                found.append(queue.pop(0))
    return found


def nearest_other(embeddings: FloatArray) -> FloatArray:
    """Cosine of each voice with the one that is most like it, `(voices,)`."""
    likeness = embeddings @ embeddings.T
    np.fill_diagonal(likeness, -1)
    return np.asarray(likeness.max(axis=1))


def pair_likeness(embeddings: FloatArray) -> str:
    """Mean cosine of two different voices, with its interval over voices."""
    likeness = embeddings @ embeddings.T

    def mean(picks: npt.NDArray[np.intp]) -> float:
        different = picks[:, None] != picks[None, :]  # a voice drawn twice says nothing
        return float(likeness[np.ix_(picks, picks)][different].mean())

    figure = summarize_statistic(mean, len(embeddings))
    assert figure is not None
    return f"{figure.mean:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def interval(values: FloatArray) -> str:
    """Mean and 95 % interval."""
    figure = summarize_values(values)
    assert figure is not None
    return f"{figure.mean:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def spread_of(voices: Sequence[Voice]) -> str:
    """Median F0 in Hz: least, middle and most."""
    hertz = np.exp([voice.pitch.median for voice in voices if voice.pitch])
    return " / ".join(f"{value:.0f}" for value in np.quantile(hertz, [0.05, 0.5, 0.95]))


def describe_voices(groups: dict[str, tuple[Sequence[Voice], Heard]], known: FloatArray) -> None:
    """The table of invented voices beside real ones."""
    print(f"{'':26}{'':>3}{'nearest training speaker':>28}{'95th pct':>10}", end="")
    print(f"{'two voices':>26}{'most like it':>26}{'P.808':>26}{'F0, Hz':>17}")
    for name, (voices, heard) in groups.items():
        nearest = (heard.embeddings @ known.T).max(axis=1)
        print(
            f"{name:26}{len(voices):>3}{interval(nearest):>28}{np.quantile(nearest, 0.95):>10.3f}"
            f"{pair_likeness(heard.embeddings):>26}{interval(nearest_other(heard.embeddings)):>26}"
            f"{interval(heard.p808):>26}{spread_of(voices):>17}"
        )


def smoothness(
    ends: Sequence[tuple[Voice, Voice]],
    source: Waveform,
    converter: Converter,
    judge: SpeakerJudge,
) -> FloatArray:
    """How a judge hears the way from one voice to another, `(pairs, 3)`.

    Largest step over the mean step (1: even), share of steps that lead towards the far end, and
    length of the path over that of the straight line.
    """
    rows = []
    for first, last in tqdm(ends, "blending", unit="pair"):
        path = []
        for share in np.linspace(0, 1, STEPS):
            weights = (1 - share, share)
            voice = blend_voices([first, last], weights, converter.autoencoder.config)
            path.append(judge.embed(converter.convert(Audio(source, JUDGE_RATE), voice).waveform))
        steps = np.array([np.linalg.norm(b - a) for a, b in pairwise(path)])
        towards = np.diff([point @ path[-1] - point @ path[0] for point in path]) > 0
        straight = np.linalg.norm(path[-1] - path[0])
        rows.append((steps.max() / steps.mean(), towards.mean(), steps.sum() / straight))
    return np.array(rows)


def likeness_of_like(
    models: Sequence[Voice],
    heard: Heard,
    sources: Sequence[Waveform],
    converter: Converter,
    judge: SpeakerJudge,
) -> None:
    """The table of `--like`: three voices like each of some strangers."""
    like = [converter.new_voice(seed, model) for model in models for seed in range(3)]
    found = unit(hear(like, sources, converter, judge).embeddings).reshape(len(models), 3, -1)
    to_model = np.einsum("ijd,id->ij", found, heard.embeddings).mean(axis=1)
    others = heard.embeddings @ heard.embeddings.T
    to_others = (others.sum(axis=1) - 1) / (len(others) - 1)
    among = np.array([(f @ f.T)[np.triu_indices(3, 1)].mean() for f in found])
    halves = unit(heard.by_source)
    same = np.einsum("id,id->i", halves[:, 0], halves[:, 1])
    print(f"\n--like, {len(models)} strangers, 3 seeds each; cosine between conversions")
    print(f"  a voice like a stranger, to that stranger     {interval(to_model)}")
    print(f"  three voices like the same stranger           {interval(among)}")
    print(f"  a stranger to another stranger                {interval(to_others)}")
    print(f"  a stranger with one sentence, with another    {interval(same)}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("corpora", type=Path)
    parser.add_argument("cache", type=Path, help="prepared; names the training speakers")
    parser.add_argument("--strangers", type=Path, required=True, help="TSV of corpus, speaker")
    parser.add_argument("--voices", type=int, default=40, help="invented, and at most of strangers")
    parser.add_argument("--sources", type=int, default=3)
    parser.add_argument("--known", type=int, default=400, help="training speakers to compare with")
    parser.add_argument("--blends", type=int, default=8)
    parser.add_argument("--checkpoint", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    converter, judge = load(options.checkpoint), SpeakerJudge()
    pairs = read_pairs(PAIRS, options.corpora)
    files = list(dict.fromkeys(pair.source for pair in pairs))[: options.sources]
    sources = [load_clip(file)[: round(SOURCE_S * JUDGE_RATE)] for file in files]
    names = one_clip_each(read_manifest(options.cache), options.known)
    known = np.array(
        [
            judge.embed(load_clip(options.corpora / f"{name}.opus"))
            for name in tqdm(names, "training speakers")
        ]
    )
    clips = strangers(options.corpora, options.strangers, options.voices)
    real = [converter.voice(clip, learn=False) for clip in clips]  # an invented one has no clips
    invented = [converter.new_voice(seed) for seed in range(options.voices)]
    groups = {
        "invented": (invented, hear(invented, sources, converter, judge)),
        "strangers": (real, hear(real, sources, converter, judge)),
    }
    recordings = np.array([judge.embed(load_clip(clip)) for clip in clips], dtype=np.float64)
    opinions = np.array([naturalness(load_clip(clip)).p808 for clip in clips])
    groups["strangers' recordings"] = (real, Heard(recordings, recordings[:, None], opinions))
    print(f"{len(known)} training speakers, {len(sources)} sentences; mean (95 % interval)")
    describe_voices(groups, known)
    count = min(options.blends, len(real) // 2)
    print(f"\nblends in {STEPS} steps, as the verifier hears them")
    print(f"{'':26}{'largest / mean step':>26}{'steps towards':>26}{'path / line':>26}")
    for name, voices in (("invented", invented), ("strangers", real)):
        ends = [(voices[2 * i], voices[2 * i + 1]) for i in range(count)]
        rows = smoothness(ends, sources[0], converter, judge)
        print(f"{name:26}" + "".join(f"{interval(column):>26}" for column in rows.T))
    heard = groups["strangers"][1]
    chosen = Heard(*(part[: 2 * count] for part in heard))
    likeness_of_like(real[: 2 * count], chosen, sources, converter, judge)


if __name__ == "__main__":
    main()
