"""The equal-error-rate test of kNN-VC (Baas et al. 2023, arXiv:2305.18975, section 4).

Can a speaker verifier tell converted speech from recordings of the wanted speaker? Trials are
pairs of clips, scored by the cosine of the verifier's embeddings:

* a genuine trial pairs two recordings of the wanted speaker and should be accepted;
* a converted trial pairs a converted clip with a recording of the wanted speaker and should be
  rejected.

The equal error rate is where the threshold rejects as large a share of the genuine trials as it
accepts of the converted ones. 0 % means that conversions are always told apart, 50 % that they
cannot be told from recordings; it is above 50 % where conversions are nearer to the recordings
than other recordings are.

What the paper leaves open is done as follows. The recordings of a pair's wanted speaker are up to
`MAX_RECORDINGS` files of the folder that holds its reference, never a reference itself (a converter
copies its room and microphone too) and never the source. Each such recording makes one converted
trial, with the conversion, and one genuine trial, with the first reference. The two thus differ in
nothing but that the conversion stands for the reference. Pairs whose reference is alone in its
folder make no trials; nor do those where the folder is not one speaker's, since the source is in
it too. Their number is the `count` of the figure. The verifier is Resemblyzer's (the paper: an
x-vector network), so rates are to be compared within this program only. The interval resamples
pairs with all their trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vc.audio import find_audio
from vc.evaluation.bootstrap import Summary, summarize_statistic
from vc.layouts import UNLABELLED

MAX_RECORDINGS = 4

Trials = Sequence[Sequence[float]]  # scores of each pair's trials


def other_recordings(references: Sequence[Path], source: Path) -> list[Path]:
    """Recordings of the wanted speaker that are no reference, spread evenly over its folder."""
    folder = references[0].parent
    if folder == source.parent or folder.name == UNLABELLED:
        return []
    clips = [clip for clip in find_audio(folder) if clip not in references]
    if len(clips) <= MAX_RECORDINGS:
        return clips
    return [clips[i] for i in np.linspace(0, len(clips) - 1, MAX_RECORDINGS).round().astype(int)]


def equal_error_rate(genuine: npt.NDArray[np.float64], converted: npt.NDArray[np.float64]) -> float:
    """Share of errors, 0 to 1, where as many of both kinds are made.

    Args:
        genuine: `(trials,)`, scores that should be accepted.
        converted: `(trials,)`, scores that should be rejected.
    """
    if len(genuine) == 0 or len(converted) == 0:
        return float("nan")
    thresholds = np.unique(np.concatenate([genuine, converted, [np.inf]]))
    rejected = np.searchsorted(np.sort(genuine), thresholds) / len(genuine)
    accepted = 1 - np.searchsorted(np.sort(converted), thresholds) / len(converted)
    after = int(np.argmax(rejected >= accepted))  # there is one: at infinity all are rejected
    if after == 0:
        return float((rejected[0] + accepted[0]) / 2)
    # the two shares are straight lines between neighbouring thresholds
    gap_before = accepted[after - 1] - rejected[after - 1]
    gap_after = rejected[after] - accepted[after]
    share = gap_before / (gap_before + gap_after)
    return float(rejected[after - 1] + share * (rejected[after] - rejected[after - 1]))


def summarize_trials(genuine: Trials, converted: Trials) -> Summary | None:
    """Equal error rate of a set of pairs with its interval; None if no pair has trials."""
    both = [
        (np.array(real), np.array(fake))
        for real, fake in zip(genuine, converted, strict=True)
        if real
    ]

    def statistic(picks: npt.NDArray[np.intp]) -> float:
        real = np.concatenate([both[i][0] for i in picks])
        fake = np.concatenate([both[i][1] for i in picks])
        return equal_error_rate(real, fake)

    return summarize_statistic(statistic, len(both))
