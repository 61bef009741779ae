from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from recipes.digits.classes import (
    BANDS,
    CLASSES,
    FRAMES,
    Digits,
    classes_of,
    graph_classes,
    matching,
    neighbours_elsewhere,
    train,
    votes,
    warped_distances,
)


@pytest.fixture(scope="module")
def digits() -> Digits:
    """Ten made-up words, each said six times by three speakers, with another pace each time."""
    generator = torch.Generator().manual_seed(0)
    words = functional.interpolate(
        torch.randn(CLASSES, BANDS, 6, generator=generator), 2 * FRAMES, mode="linear"
    )
    voices = torch.randn(3, BANDS, 1, generator=generator)
    labels = np.tile(np.arange(CLASSES), 18)
    speakers = np.repeat(np.arange(3), 60)
    mels = []
    for word, speaker in zip(labels, speakers, strict=True):
        pace = torch.linspace(0, 1, FRAMES) ** (0.8 + 0.4 * torch.rand(1, generator=generator))
        said = words[word][:, (pace * (2 * FRAMES - 1)).long()]
        said = said + voices[speaker] + 0.3 * torch.randn(BANDS, FRAMES, generator=generator)
        mels.append(said - said.mean(dim=1, keepdim=True))
    return Digits(torch.stack(mels), labels, speakers, ["a", "b", "c"])


def test_the_best_matching_undoes_a_permutation() -> None:
    labels = np.repeat(np.arange(CLASSES), 7)
    renamed = np.random.default_rng(0).permutation(CLASSES)
    np.testing.assert_array_equal(matching(renamed[labels], labels)[renamed[labels]], labels)


def test_neighbours_are_never_of_the_same_speaker(digits: Digits) -> None:
    distances = warped_distances(digits.mel)
    np.testing.assert_allclose(distances, distances.T)
    near = neighbours_elsewhere(distances, digits.speakers, 3)
    assert near.shape == (180, 6)
    assert (digits.speakers[near] != digits.speakers[:, None]).all()
    assert (digits.digits[near] == digits.digits[:, None]).mean() > 0.95


def test_words_are_found_without_labels_and_known_again_in_another_voice(digits: Digits) -> None:
    distances = warped_distances(digits.mel)
    clips, unseen = np.flatnonzero(digits.speakers < 2), np.flatnonzero(digits.speakers == 2)
    classes = graph_classes(distances[np.ix_(clips, clips)], digits.speakers[clips], 0)
    names = matching(classes, digits.digits[clips])
    assert (names[classes] == digits.digits[clips]).mean() > 0.9
    asked = votes(distances[np.ix_(unseen, clips)], classes, digits.speakers[clips])
    assert (names[asked] == digits.digits[unseen]).mean() > 0.9
    model = train(digits, clips, classes, 25, 0)
    asked = classes_of(model, digits.mel[unseen])
    assert (names[asked] == digits.digits[unseen]).mean() > 0.5
