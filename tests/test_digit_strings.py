"""Strings that an adversary reads: merging, edit distance, real strings, and that it can learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recipes.digits.classes import BANDS, FRAMES, Digits
from recipes.digits.strings import (
    POSITIONS,
    STRINGS,
    edits,
    judge,
    learn,
    merged,
    strings_of,
    written,
)


def test_repetitions_and_silence_are_not_part_of_a_string() -> None:
    assert merged([0, 3, 3, 0, 3, 5, 5, 0]) == (3, 3, 5)
    assert merged([0, 0]) == ()


def test_edits_count_insertions_deletions_and_substitutions() -> None:
    assert edits((1, 2, 3), (1, 3)) == edits((), (4,)) == edits((1, 2), (1, 5)) == 1
    assert edits((1, 2, 3), (1, 2, 3)) == 0 and edits((1, 2), (3, 4, 5)) == 3


def test_real_strings_are_spelt_right_however_long_their_phones_last() -> None:
    generator = np.random.default_rng(0)
    one_hot = written(STRINGS * 5, generator)
    assert one_hot.shape[2] == POSITIONS and (one_hot.sum(dim=1) == 1).all()
    assert [merged(row) for row in one_hot.argmax(dim=1).tolist()] == STRINGS * 5
    assert judge(STRINGS, np.arange(10)) == (0.0, 1.0)


@pytest.fixture(scope="module")
def digits() -> Digits:
    """Ten made-up words of four speakers, each a pattern of its own and some noise."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(10, BANDS, FRAMES, generator=generator)
    names = np.tile(np.arange(10), 12)
    speakers = np.repeat(np.arange(4), 30)
    mel = patterns[torch.from_numpy(names)]
    mel = mel + 0.3 * torch.randn(mel.shape, generator=generator)
    return Digits(mel, names, speakers, list("abcd"))


def test_with_labels_made_up_words_are_written_right(digits: Digits) -> None:
    clips = np.arange(len(digits.mel))
    near = np.zeros((len(clips), 1), dtype=np.int64)
    learnt = learn(digits, clips, near, "labels", 120, 0)
    errors, right = judge(strings_of(learnt.writer, digits.mel), digits.digits)
    assert errors < 0.5 and right > 0.5


def test_learning_from_an_adversary_is_the_same_every_time(digits: Digits) -> None:
    clips = np.arange(len(digits.mel))
    near = (clips[:, None] + 30) % len(clips)
    learnt = learn(digits, clips, near, "adversary", 3, 0)
    assert np.isfinite(learnt.doubt) and all(p.grad is not None for p in learnt.writer.parameters())
    again = learn(digits, clips, near, "adversary", 3, 0)
    assert strings_of(again.writer, digits.mel) == strings_of(learnt.writer, digits.mel)
