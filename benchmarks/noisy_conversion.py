"""How a noisy source or a noisy reference harms a conversion, and what denoising gives back.

    python -m benchmarks.noisy_conversion CORPORA/test_pairs.tsv --noise CORPORA/noise/ambient

Pairs of every set of a table, each converted clean and with noise mixed into one of its two clips.
Every conversion is held against the clean clips: the voice against the clean reference's, the words
against what is recognised of the clean source. Needs the `eval` extra. The noise must not be what
the denoiser was trained on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from benchmarks.denoise import LEVELS_DB, mix
from vc.audio import Audio, Waveform, find_audio, normalize_level
from vc.convert import Converter, load
from vc.evaluation.bootstrap import summarize_values
from vc.evaluation.judges import JUDGE_RATE, error_rate, naturalness
from vc.evaluation.score import Judges, Pair, load_clip, read_pairs

LONGEST_S = 5.0
PLACES = ("source", "reference")
MEASURES = ("likeness", "nearer", "CER", "P.808", "OVRL")  # CER of English pairs only


class Condition(NamedTuple):
    """What a conversion was given."""

    place: str  # of the noise: "source", "reference", or "" for none
    snr_db: float
    denoised: bool


CLEAN = Condition("", np.inf, denoised=False)

Scores = dict[Condition, tuple[float, ...]]  # `MEASURES` of a pair
S = TypeVar("S")  # what a benchmark keeps of a pair


def choose(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """So many pairs, as many of each set as of any other, spread evenly over the set."""
    groups = sorted({pair.group for pair in pairs})
    chosen = []
    for number, group in enumerate(groups):
        share = (count + len(groups) - 1 - number) // len(groups)
        of_group = [pair for pair in pairs if pair.group == group]
        picks = np.linspace(0, len(of_group), min(share, len(of_group)), endpoint=False)
        chosen += [of_group[int(pick)] for pick in picks]
    return chosen


def heard(path: Path) -> Waveform:
    """The beginning of a clip, at the level at which noise is mixed in."""
    return normalize_level(load_clip(path)[: round(LONGEST_S * JUDGE_RATE)], JUDGE_RATE, -26.0)


def held_against(
    clips: dict[str, Waveform], pair: Pair, judges: Judges
) -> Callable[[Waveform], tuple[float, ...]]:
    """What judges a conversion of a pair, by its clean clips: gives `MEASURES`."""
    voices = {place: judges.speaker.embed(clip) for place, clip in clips.items()}
    text = judges.recognizer.text(clips["source"]) if pair.english else ""

    def judge(converted: Waveform) -> tuple[float, ...]:
        voice = judges.speaker.embed(converted)
        likeness = float(voice @ voices["reference"])
        nearer = float(likeness > voice @ voices["source"])
        error = np.nan
        if pair.english:
            error = error_rate(judges.recognizer.text(converted), text, "char")
        return likeness, nearer, error, *naturalness(converted)

    return judge


def conversions(
    converter: Converter, clips: dict[str, Waveform], noises: dict[str, Waveform]
) -> Iterable[tuple[Condition, Waveform]]:
    """The clean conversion, and one for each place, level, and with and without denoising there."""
    given = {CLEAN: clips, CLEAN._replace(denoised=True): clips}
    for place in PLACES:
        for snr_db in LEVELS_DB:
            noisy = {**clips, place: mix(clips[place], noises[place], snr_db)}
            for denoised in (False, True):
                given[Condition(place, snr_db, denoised)] = noisy
    without = Converter(converter.autoencoder, converter.vocoder)  # hears a reference's noise
    for condition, now in given.items():
        source, reference = (Audio(now[place], JUDGE_RATE) for place in PLACES)
        of_source = condition.place == "source"
        listener = converter if of_source or condition.denoised else without
        voice = listener.voice(reference, learn=False)  # neither may do what the other cannot
        denoise = of_source and condition.denoised
        yield condition, converter.convert(source, voice, denoise=denoise).waveform


def score_pair(
    converter: Converter, judges: Judges, pair: Pair, noise: Waveform, seed: int
) -> Scores:
    """Convert and judge a pair in every condition."""
    generator = np.random.default_rng(seed)
    clips = {"source": heard(pair.source), "reference": heard(pair.references[0])}
    noises = {
        place: np.resize(noise[generator.integers(len(noise) // 2) :], len(clip))
        for place, clip in clips.items()
    }
    judge = held_against(clips, pair, judges)
    return {condition: judge(w) for condition, w in conversions(converter, clips, noises)}


def print_header(name: str = "") -> None:
    """What the columns of `print_row` are."""
    print(f"{name:28}" + "".join(f"{measure:>24}" for measure in MEASURES))


def print_row(name: str, rows: npt.NDArray[np.float64], sign: str = "") -> None:
    """Mean and 95 % interval of each column of `(pairs, measures)`."""
    cells = ""
    for column in rows.T:
        figure = summarize_values(column)
        text = "-"
        if figure is not None:
            text = f"{figure.mean:{sign}.2f} ({figure.low:{sign}.2f} to {figure.high:{sign}.2f})"
        cells += f"{text:>24}"
    print(f"{name:28}{cells}")


def describe(scores: Sequence[Scores]) -> None:
    """Print what each condition reached, then the differences pair by pair."""
    found = {
        condition: np.array([of_pair[condition] for of_pair in scores]) for condition in scores[0]
    }
    print_header()
    for condition, rows in found.items():
        noise = f"{condition.place} {condition.snr_db:.0f} dB" if condition.place else "clean"
        print_row(noise + ", denoised" * condition.denoised, rows)
    print()
    print_header("differences")
    print_row("clean: denoise", found[CLEAN._replace(denoised=True)] - found[CLEAN], "+")
    for place in PLACES:
        noisy, denoised = (
            np.array([found[Condition(place, snr_db, how)] for snr_db in LEVELS_DB])
            for how in (False, True)
        )
        for name, differences in (("noise", noisy - found[CLEAN]), ("denoise", denoised - noisy)):
            for snr_db, rows in zip(LEVELS_DB, differences, strict=True):
                print_row(f"{place} {snr_db:.0f} dB: {name}", rows, "+")
            print_row(f"{place}, all levels: {name}", differences.mean(axis=0), "+")


def score_pairs(
    what: str, recordings: str, score: Callable[[Converter, Judges, Pair, Waveform, int], S]
) -> list[S]:
    """Command line: score some pairs of a table, each with a recording of a folder.

    Args:
        what: the benchmark does; its first line is the help.
        recordings: what is in the folder, such as "noise"; names the option.
        score: gets converter, judges, the pair, the recording, and the pair's number.
    """
    parser = argparse.ArgumentParser(description=what.split("\n")[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument(f"--{recordings}", dest="folder", type=Path, required=True)
    parser.add_argument("--count", type=int, default=12, help="pairs, of all sets")
    parser.add_argument("--checkpoint", type=Path)
    options = parser.parse_args()
    pairs = choose(read_pairs(options.pairs, options.pairs.parent), options.count)
    clips = [load_clip(path) for path in find_audio(options.folder)]
    converter, judges = load(options.checkpoint), Judges()
    scores = [
        score(converter, judges, pair, clips[number % len(clips)], number)
        for number, pair in enumerate(tqdm(pairs, unit="pair"))
    ]
    english = sum(pair.english for pair in pairs)
    print(f"{len(pairs)} pairs, {english} of them English; mean (95 % interval)")
    return scores


if __name__ == "__main__":
    describe(score_pairs(__doc__ or "", "noise", score_pair))
