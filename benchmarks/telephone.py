"""What a telephone or a room costs a conversion, in the source and in the reference.

    python -m benchmarks.telephone CORPORA/test_pairs.tsv --rooms CORPORA/noise/rir

Pairs of every set of a table, each converted clean and with one of its two clips as it comes over a
telephone (8 kHz, nothing below 300 Hz), from an old file (11 kHz), or from across a room (a
recorded impulse response). Everything is held against the clean clips, as in
`benchmarks.noisy_conversion`. Needs the `eval` extra.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.signal import butter, fftconvolve, sosfilt

from benchmarks.noisy_conversion import (
    PLACES,
    heard,
    held_against,
    print_header,
    print_row,
    score_pairs,
)
from vc.audio import Audio, Waveform, resample
from vc.convert import Converter
from vc.evaluation.judges import JUDGE_RATE
from vc.evaluation.score import Judges, Pair

TELEPHONE_RATE, OLD_RATE = 8_000, 11_025
TELEPHONE_FROM_HZ = 300

Scores = dict[str, tuple[float, ...]]  # `MEASURES` for what happened to which clip


def over_a_telephone(waveform: Waveform) -> Audio:
    """8 kHz, nothing below 300 Hz."""
    low_cut = butter(4, TELEPHONE_FROM_HZ, "highpass", fs=TELEPHONE_RATE, output="sos")
    narrow = resample(waveform, JUDGE_RATE, TELEPHONE_RATE)
    return Audio(sosfilt(low_cut, narrow).astype(np.float32), TELEPHONE_RATE)


def from_an_old_file(waveform: Waveform) -> Audio:
    """11 kHz."""
    return Audio(resample(waveform, JUDGE_RATE, OLD_RATE), OLD_RATE)


def across(room: Waveform) -> Callable[[Waveform], Audio]:
    """What a room does, by its impulse response."""

    def played(waveform: Waveform) -> Audio:
        echoing = fftconvolve(waveform, room)[: len(waveform)]
        return Audio((echoing / np.abs(echoing).max() / 2).astype(np.float32), JUDGE_RATE)

    return played


def score_pair(converter: Converter, judges: Judges, pair: Pair, room: Waveform, _: int) -> Scores:
    """Convert and judge a pair, clean and with each thing done to each of its clips."""
    waveforms = {"source": heard(pair.source), "reference": heard(pair.references[0])}
    judge = held_against(waveforms, pair, judges)
    clean = {place: Audio(waveform, JUDGE_RATE) for place, waveform in waveforms.items()}
    things = {
        "telephone": over_a_telephone,
        "old file": from_an_old_file,
        "room": across(room),
    }
    given = {"clean": clean} | {
        f"{place}: {name}": {**clean, place: happens(waveforms[place])}
        for place in PLACES
        for name, happens in things.items()
    }
    return {
        name: judge(converter.convert(c["source"], c["reference"], sample_rate=JUDGE_RATE).waveform)
        for name, c in given.items()
    }


def describe(scores: Sequence[Scores]) -> None:
    """Print what each condition reached."""
    print_header()
    for name in scores[0]:
        print_row(name, np.array([of_pair[name] for of_pair in scores]))


if __name__ == "__main__":
    describe(score_pairs(__doc__ or "", "rooms", score_pair))
