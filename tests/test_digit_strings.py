from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from recipes.digits.classes import CLASSES, FRAMES
from recipes.digits.strings import (
    LONGEST,
    PHONES,
    STRINGS,
    Generator,
    Segments,
    merge_runs,
    misfit,
    naming_costs,
    phone_error_rate,
    read_strings,
    search_naming,
    segment,
    train_adversarially,
    train_with_labels,
    warping,
    word_distances,
)
from vc.evaluation.judges import edit_distance

WORDS = [[0, 1], [0, 2, 1], [3, 0, 1, 2]]  # no renaming of phones gives the same three


def enciphered(clips: int, noise: float) -> tuple[Segments, list[list[int]]]:
    """Words whose phones are vectors that nobody named, some said twice in a row."""
    generator = torch.Generator().manual_seed(0)
    sounds = 2 * torch.linalg.qr(torch.randn(8, 8, generator=generator))[0][:4]
    means = torch.zeros(clips, LONGEST, 8)
    counts = torch.zeros(clips, dtype=torch.long)
    said = []
    for clip in range(clips):
        word = WORDS[clip % len(WORDS)]
        places = [phone for k, phone in enumerate(word) for _ in range(1 + (clip + k) % 2)]
        vectors = sounds[places]
        vectors = vectors + noise * torch.randn(vectors.shape, generator=generator)
        means[clip, : len(places)] = vectors
        counts[clip] = len(places)
        said.append(word)
    return Segments(means, counts), said


def test_errors_are_counted_over_all_phones_that_were_wanted() -> None:
    assert edit_distance([1, 2, 3], [1, 3]) == 1
    assert edit_distance([], [1, 2]) == 2
    assert edit_distance([1, 2], [2, 1]) == 2
    assert phone_error_rate([[1, 2], [3]], [[1, 2], [1, 2, 3]]) == 2 / 5
    assert word_distances([[0, 1]], WORDS).argmin() == 0


def test_a_string_that_is_always_the_same_does_not_look_like_a_language() -> None:
    assert misfit(WORDS, WORDS) < 0.01
    assert misfit([WORDS[0]] * 3, WORDS) > 0.6
    assert misfit([[4], [4, 4], [4]], WORDS) > 1


def test_no_digit_says_a_phone_twice_in_a_row_and_none_is_another() -> None:
    assert len({tuple(string) for string in STRINGS}) == CLASSES  # nearest words are unambiguous
    assert all(a != b for string in STRINGS for a, b in pairwise(string))


def test_runs_become_one_place_and_padding_none() -> None:
    logits = torch.zeros(2, 4, 3)
    for place, phone in enumerate([1, 1, 2, 1]):
        logits[0, place, phone] = 5 + place
    logits[1, :, 2] = 5
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    merged = merge_runs(logits, mask)
    assert merged.argmax(dim=2)[0, :2].tolist() == [1, 2]
    torch.testing.assert_close(merged.sum(dim=2), torch.tensor([[1.0, 1, 0, 0], [1, 0, 0, 0]]))
    torch.testing.assert_close(merged[0, 0], logits[0, :2].softmax(dim=1).mean(dim=0))


def test_segments_are_cut_where_the_sound_changes() -> None:
    sounds = 20 * torch.eye(5)
    lengths = torch.tensor([7, 2, 10, 5])
    clip = sounds[:4].repeat_interleave(lengths, dim=0)
    short = sounds[4:].expand(FRAMES, -1)  # nothing changes: no fewer than two segments
    found = segment(torch.stack([clip, short]))
    assert found.counts.tolist() == [4, 2]
    torch.testing.assert_close(found.means[0, :4], sounds[:4])
    assert (found.means[0, 4:] == 0).all()


def test_warping_finds_the_moment_in_a_slower_clip() -> None:
    clip = torch.randn(1, FRAMES, 6, generator=torch.Generator().manual_seed(0))
    places = torch.arange(FRAMES).float().div(FRAMES - 1).pow(1.2).mul(FRAMES - 1).long()
    partners = warping(clip[:, places], clip)
    assert (partners[0] - places).abs().max() <= 1


def test_the_adversary_breaks_a_cipher_that_nobody_explained() -> None:
    segments, said = enciphered(120, noise=0.1)
    torch.manual_seed(1)
    before = phone_error_rate(read_strings(Generator(8, 4), segments), said)
    generator = train_adversarially(segments, WORDS, 4, 250, seed=0, rebuild=0.3)
    found = read_strings(generator, segments)
    assert before > 0.5
    assert phone_error_rate(found, said) < 0.2
    assert misfit(found, WORDS) < 0.2  # which can be seen without labels


def test_with_labels_the_same_generator_reads_noisy_clips() -> None:
    segments, said = enciphered(120, noise=0.4)
    generator = train_with_labels(segments, said, 4, 150, seed=0)
    assert phone_error_rate(read_strings(generator, segments), said) < 0.1


def test_the_right_naming_of_classes_is_found_by_the_phones_they_share() -> None:
    generator = np.random.default_rng(0)
    sounds = generator.normal(size=(len(PHONES), 20)).astype(np.float32)
    right = generator.permutation(CLASSES)
    typical = np.stack(
        [sounds[np.array(STRINGS[w])[np.arange(FRAMES) * len(STRINGS[w]) // FRAMES]] for w in right]
    )
    naming, random_costs = search_naming(typical, seed=0, starts=4)
    np.testing.assert_array_equal(naming, right)
    assert naming_costs(typical, right[None])[0] < 1e-2 < random_costs.min()
