"""Phone strings of spoken digits, made readable by an adversary that has seen only real strings.

    python recipes/digits/strings.py CORPORA/free_spoken_digits

Leave one speaker out. A generator turns the clips of five speakers into strings; a discriminator
compares them with pronunciations of digits that belong to no clip. Nobody ever tells which string
is whose, as in unsupervised phone recognition (Liu et al. 2018, arXiv:1804.00316; Chen et al.
2019, arXiv:1904.04100; wav2vec-U, Baevski et al. 2021, arXiv:2105.11084). README.md tells how far
it gets.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor, nn
from torch.nn import functional

from recipes.digits.classes import (
    CEPSTRA,
    CLASSES,
    Digits,
    FloatArray,
    IntArray,
    graph_classes,
    matching,
    neighbours_elsewhere,
    read_digits,
    votes,
    warped_distances,
)
from vc.evaluation.judges import edit_distance

# ARPAbet, but a diphthong is two vowels, as IPA writes it: so "five" and "six" share a phone, and
# the two halves, which sound unlike each other, need not be one segment.
PRONUNCIATIONS = (
    "z ih r ao uh",
    "w ah n",
    "t uw",
    "th r iy",
    "f ao r",
    "f aa ih v",
    "s ih k s",
    "s eh v ah n",
    "eh ih t",
    "n aa ih n",
)
PHONES = sorted({phone for word in PRONUNCIATIONS for phone in word.split()})
STRINGS = [[PHONES.index(phone) for phone in word.split()] for word in PRONUNCIATIONS]

BATCH = 64
WIDTH = 64
FRAME_DIMS = 32  # of a frame after the correspondence autoencoder
MERGE_COST = 50.0  # squares saved by a boundary; gives about 5.4 segments a clip
LONGEST = 10  # segments of a clip


# Strings


def phone_error_rate(found: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]]) -> float:
    """All edits over all phones that were wanted; above 1 if too much is said."""
    edits = sum(edit_distance(*pair) for pair in zip(found, wanted, strict=True))
    return edits / sum(map(len, wanted))


def word_distances(
    found: Sequence[Sequence[int]], vocabulary: Sequence[Sequence[int]]
) -> FloatArray:
    """Edits to each word over the longer string's length, `(strings, words)`, from 0 to 1."""
    rows = [[edit_distance(s, word) / max(len(s), len(word)) for word in vocabulary] for s in found]
    return np.array(rows, dtype=np.float32)


def misfit(found: Sequence[Sequence[int]], vocabulary: Sequence[Sequence[int]]) -> float:
    """How unlike the vocabulary the strings are, without labels; chooses among seeds.

    The mean distance to the nearest word, plus the share of words in disuse (1 less perplexity of
    the nearest words over their number). wav2vec-U has the same two parts: a language model's
    likelihood, and how much of the vocabulary is used.
    """
    distances = word_distances(found, vocabulary)
    usage = np.bincount(distances.argmin(axis=1), minlength=len(vocabulary)) / len(found)
    perplexity = np.exp(-(usage * np.log(usage + 1e-9)).sum())
    return float(distances.min(axis=1).mean() + 1 - perplexity / len(vocabulary))


# Audio to segments


def cepstral_frames(digits: Digits) -> Tensor:
    """Cepstra with first differences, `(clips, FRAMES, 26)`, normalised for each speaker."""
    cepstra = dct(digits.mel.numpy(), axis=1, norm="ortho")[:, :CEPSTRA]
    frames = np.concatenate([cepstra, 2 * np.gradient(cepstra, axis=2)], axis=1)
    return of_any_speaker(torch.from_numpy(frames.astype(np.float32)).mT, digits.speakers)


def of_any_speaker(frames: Tensor, speakers: IntArray) -> Tensor:
    """`(clips, frames, dims)` with mean 0 and deviation 1 in each speaker's dimensions."""
    normal = torch.empty_like(frames)
    for speaker in np.unique(speakers):
        own = frames[speakers == speaker]
        normal[speakers == speaker] = (own - own.mean(dim=(0, 1))) / own.std(dim=(0, 1))
    return normal


def warping(first: Tensor, second: Tensor) -> Tensor:
    """Which frame of the second clip goes with each of the first, `(pairs, FRAMES)`.

    Dynamic time warping of two batches `(pairs, FRAMES, dims)` (Sakoe & Chiba 1978).
    """
    local = torch.cdist(first, second).numpy()
    pairs, frames = local.shape[:2]
    total = np.full((pairs, frames + 1, frames + 1), np.inf, np.float32)
    total[:, 0, 0] = 0
    came_from = np.zeros((pairs, frames, frames), np.int8)
    for a in range(frames):
        for b in range(max(0, a - frames // 4), min(frames, a + frames // 4 + 1)):
            ways = np.stack([total[:, a, b], total[:, a, b + 1], total[:, a + 1, b]])
            came_from[:, a, b] = ways.argmin(axis=0)
            total[:, a + 1, b + 1] = local[:, a, b] + ways.min(axis=0)
    partners = np.zeros((pairs, frames), np.int64)
    each = np.arange(pairs)
    i = j = np.full(pairs, frames - 1)
    for _ in range(2 * frames):
        partners[each, i] = j
        step = came_from[each, i, j]
        i = np.maximum(i - (step != 2), 0)
        j = np.maximum(j - (step != 1), 0)
    return torch.from_numpy(partners)


class FrameAutoencoder(nn.Module):
    """Three frames -> a few numbers -> the same moment in another speaker's clip.

    A correspondence autoencoder (Kamper et al. 2015): what two speakers have in common is what is
    said. It hears little context, so that the same phone in two words can stay the same.
    """

    def __init__(self, dims: int, speakers: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv1d(dims, 96, 3, padding=1),
            nn.GELU(),
            nn.Conv1d(96, 96, 1),
            nn.GELU(),
            nn.Conv1d(96, FRAME_DIMS, 1),
        )
        self.speaker = nn.Embedding(speakers, 8)
        self.decoder = nn.Sequential(
            nn.Conv1d(FRAME_DIMS + 8, 96, 1), nn.GELU(), nn.Conv1d(96, dims, 1)
        )

    def encode(self, frames: Tensor) -> Tensor:
        """`(batch, frames, dims)` -> `(batch, frames, FRAME_DIMS)`."""
        return self.encoder(frames.mT).mT

    def forward(self, frames: Tensor, speaker: Tensor) -> Tensor:
        """The same moments as `speaker`, `(batch,)`, says them, `(batch, frames, dims)`."""
        latent = self.encode(frames)
        voice = self.speaker(speaker)[:, None].expand(-1, latent.shape[1], -1)
        return self.decoder(torch.cat([latent, voice], dim=2).mT).mT


def learn_frames(
    digits: Digits, distances: FloatArray, clips: IntArray, seed: int, steps: int = 500
) -> Tensor:
    """Frames of all clips, `(clips, FRAMES, FRAME_DIMS)`, learnt from some and without labels."""
    torch.manual_seed(seed)
    frames = cepstral_frames(digits)
    near = neighbours_elsewhere(distances[np.ix_(clips, clips)], digits.speakers[clips], 5)
    source = clips.repeat(near.shape[1])
    target = clips[near.ravel()]
    blocks = [slice(k, k + 4000) for k in range(0, len(source), 4000)]
    partners = torch.cat([warping(frames[source[b]], frames[target[b]]) for b in blocks])
    model = FrameAutoencoder(frames.shape[2], len(digits.names))
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    speaker = torch.from_numpy(digits.speakers)
    for _ in range(steps):
        picks = torch.randint(len(source), (128,))
        heard, other = frames[source[picks]], target[picks]
        wanted = frames[other].gather(1, partners[picks][..., None].expand_as(heard))
        said = model(heard + 0.2 * torch.randn_like(heard), speaker[other])
        loss = functional.smooth_l1_loss(said, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.inference_mode():
        latent = model.encode(frames)
        flat = latent[clips].flatten(0, 1)
        _, scale, axes = torch.linalg.svd(flat - flat.mean(dim=0), full_matrices=False)
        white = (latent - flat.mean(dim=0)) @ axes.mT / scale
        return of_any_speaker(white, digits.speakers)


@dataclass(frozen=True)
class Segments:
    """Stretches of clips within which little changes, padded at the end."""

    means: Tensor  # (clips, LONGEST, dims), 0 where there is none
    counts: Tensor  # (clips,), at least 2

    def of(self, clips: IntArray | Tensor) -> Segments:
        """Those of some clips."""
        return Segments(self.means[clips], self.counts[clips])

    @property
    def mask(self) -> Tensor:
        """Where there is a segment, `(clips, LONGEST)`."""
        return torch.arange(self.means.shape[1]) < self.counts[:, None]


def segment(frames: Tensor) -> Segments:
    """Merge the neighbours that are most alike (Ward 1963) till a boundary is worth its cost.

    Args:
        frames: `(clips, frames, dims)`.
    """
    means = torch.zeros(len(frames), LONGEST, frames.shape[2])
    counts = torch.zeros(len(frames), dtype=torch.long)
    for clip, vectors in enumerate(frames.numpy()):
        merged, sizes = vectors, np.ones(len(vectors), np.float32)
        while len(merged) > 2:
            squares = ((merged[1:] - merged[:-1]) ** 2).sum(axis=1)
            costs = squares * sizes[1:] * sizes[:-1] / (sizes[1:] + sizes[:-1])
            k = int(costs.argmin())
            if costs[k] > MERGE_COST and len(merged) <= LONGEST:
                break
            both = np.average(merged[k : k + 2], axis=0, weights=sizes[k : k + 2])
            merged = np.concatenate([merged[:k], both[None], merged[k + 2 :]])
            sizes = np.concatenate([sizes[:k], sizes[k : k + 2].sum(keepdims=True), sizes[k + 2 :]])
        means[clip, : len(merged)] = torch.from_numpy(merged)
        counts[clip] = len(merged)
    return Segments(means, counts)


# The generator and its adversary


class Generator(nn.Module):
    """Segments -> phones, by one convolution of width 3, as in wav2vec-U.

    It must stay small. A generator that sees the whole word could call every word by any other's
    string and satisfy the adversary; one that sees little has to give shared sounds one symbol.
    """

    def __init__(self, dims: int, phones: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.1)
        self.project = nn.Conv1d(dims, phones, 3, padding=1)

    def forward(self, means: Tensor) -> Tensor:
        """Logits `(batch, segments, phones)` from `(batch, segments, dims)`."""
        return self.project(self.dropout(means).mT).mT


class Adversary(nn.Module):
    """Is this a real string? Convolutions over the phones and their ends; sees no audio."""

    def __init__(self, phones: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(phones, WIDTH, 3, padding=2),  # the padding shows where a string ends
            nn.GELU(),
            nn.Conv1d(WIDTH, WIDTH, 3, padding=1),
            nn.GELU(),
        )
        self.judge = nn.Linear(WIDTH, 1)

    def forward(self, strings: Tensor) -> Tensor:
        """Logits `(batch,)` of being real, from probabilities `(batch, length, phones)`.

        After its end a string is 0.
        """
        there = functional.pad(strings.detach().sum(dim=2), (1, 1))[:, None]
        near = functional.max_pool1d(there, 3, 1, 1) > 0.5  # the string and a place at both ends
        return self.judge((self.layers(strings.mT) * near).sum(dim=2) / 4)[:, 0]


def merge_runs(logits: Tensor, mask: Tensor) -> Tensor:
    """Neighbours of the same likeliest phone become one, with their mean probabilities.

    Args:
        logits: `(batch, segments, phones)`.
        mask: where there is a segment, `(batch, segments)`.

    Returns:
        `(batch, segments, phones)`, 0 after the last run.
    """
    probabilities = logits.softmax(dim=2) * mask[..., None]
    likeliest = logits.argmax(dim=2)
    starts = functional.pad(likeliest[:, 1:] != likeliest[:, :-1], (1, 0))
    run = starts.long().cumsum(dim=1)
    sums = torch.zeros_like(probabilities).scatter_add(
        1, run[..., None].expand_as(probabilities), probabilities
    )
    sizes = torch.zeros_like(sums[..., 0]).scatter_add(1, run, mask.to(sums.dtype))
    return sums / sizes.clamp(min=1)[..., None]


@torch.inference_mode()
def read_strings(generator: Generator, segments: Segments) -> list[list[int]]:
    """The likeliest phones of each clip, runs merged."""
    generator.eval()
    merged = merge_runs(generator(segments.means), segments.mask)
    counts = (merged.sum(dim=2) > 0.5).sum(dim=1).tolist()
    rows = merged.argmax(dim=2).tolist()
    return [row[:count] for row, count in zip(rows, counts, strict=True)]


def one_hot_strings(strings: Sequence[Sequence[int]], phones: int, length: int) -> Tensor:
    """`(strings, length, phones)`, 0 after each string's end."""
    places = torch.zeros(len(strings), length, phones)
    for k, string in enumerate(strings):
        places[k, torch.arange(len(string)), torch.tensor(string)] = 1
    return places


def gradient_penalty(adversary: Adversary, real: Tensor, fake: Tensor) -> Tensor:
    """Mean squared departure from slope 1 between real and fake (Gulrajani et al. 2017)."""
    share = torch.rand(len(real), 1, 1)
    between = (share * real + (1 - share) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(adversary(between).sum(), between, create_graph=True)
    return ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()


def train_adversarially(
    segments: Segments,
    vocabulary: Sequence[Sequence[int]],
    phones: int,
    steps: int,
    seed: int,
    rebuild: float = 0.0,
    start: Generator | None = None,
) -> Generator:
    """Learn strings that the adversary takes for real ones.

    The generator is also asked for phones that are all used (the entropy of their mean), for
    neighbours that do not jump needlessly, both as in wav2vec-U, and, if `rebuild` is above 0, for
    phones of which a linear layer can say the segments again (the autoencoder's part).

    Args:
        segments: of the clips to learn from.
        vocabulary: real strings, drawn at random and never with a clip.
        phones: how many there are.
        steps: of generator and adversary in turn.
        seed: of weights and batches.
        rebuild: weight of the mean squared error of rebuilding.
        start: whose weights to begin with instead of random ones.
    """
    torch.manual_seed(seed)
    dims, length = segments.means.shape[2], segments.means.shape[1]
    generator, adversary = Generator(dims, phones).train(), Adversary(phones)
    if start is not None:
        generator.load_state_dict(start.state_dict())
    decoder = nn.Linear(phones, dims)
    ours = [*generator.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(ours, 4e-3, betas=(0.5, 0.98))
    its = torch.optim.Adam(adversary.parameters(), 1e-3, betas=(0.5, 0.98), weight_decay=1e-4)
    real_strings = one_hot_strings(vocabulary, phones, length)
    for step in range(steps):
        some = segments.of(torch.randint(len(segments.means), (BATCH,)))
        mask = some.mask
        logits = generator(some.means)
        fake = merge_runs(logits, mask)
        if step % 2 == 0:
            real = real_strings[torch.randint(len(vocabulary), (BATCH,))]
            fake = fake.detach()
            loss = functional.softplus(-adversary(real)) + functional.softplus(adversary(fake))
            loss = loss.mean() + 1.5 * gradient_penalty(adversary, real, fake)
            its.zero_grad()
            loss.backward()
            its.step()
            continue
        probabilities = logits.softmax(dim=2)
        usage = probabilities[mask].mean(dim=0)
        disuse = np.log(phones) + (usage * (usage + 1e-6).log()).sum()
        jumps = (probabilities[:, 1:] - probabilities[:, :-1])[mask[:, 1:]]
        loss = functional.softplus(-adversary(fake)).mean()
        loss = loss + 2 * disuse + 0.5 * (jumps**2).sum(dim=1).mean()
        if rebuild:
            loss = loss + rebuild * functional.mse_loss(
                decoder(probabilities)[mask], some.means[mask]
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return generator.eval()


def train_with_labels(
    segments: Segments, wanted: Sequence[Sequence[int]], phones: int, steps: int, seed: int
) -> Generator:
    """The bound: the same generator told each clip's string (CTC, Graves et al. 2006).

    There is no blank: runs are merged, and no string here says a phone twice in a row.
    """
    torch.manual_seed(seed)
    generator = Generator(segments.means.shape[2], phones).train()
    optimizer = torch.optim.Adam(generator.parameters(), 5e-3)
    lengths = torch.tensor([len(string) for string in wanted])
    targets = nn.utils.rnn.pad_sequence([torch.tensor(string) for string in wanted], True)
    for _ in range(steps):
        picks = torch.randint(len(wanted), (BATCH,))
        some = segments.of(picks)
        logits = functional.pad(generator(some.means), (0, 1), value=-1e4)  # the blank, never said
        loss = functional.ctc_loss(
            logits.log_softmax(dim=2).transpose(0, 1),
            targets[picks],
            some.counts,
            lengths[picks],
            blank=phones,
            zero_infinity=True,  # clips of fewer segments than phones
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return generator.eval()


# The other way: one string for each class of the graph


def typical_clips(frames: Tensor, distances: FloatArray, classes: IntArray) -> FloatArray:
    """One clip for each class, `(CLASSES, FRAMES, dims)`: its mean, warped to the most central."""
    typical = []
    for name in range(CLASSES):
        own = np.flatnonzero(classes == name)
        centre = frames[own[distances[np.ix_(own, own)].mean(axis=1).argmin()]]
        for _ in range(3):
            partners = warping(centre.expand(len(own), -1, -1), frames[own])
            partners = partners[..., None].expand(-1, -1, frames.shape[2])
            centre = frames[own].gather(1, partners).mean(dim=0)
        typical.append(centre.numpy())
    return np.stack(typical)


def naming_costs(typical: FloatArray, namings: IntArray, rounds: int = 6) -> FloatArray:
    """How badly phones explain the classes if these are called so, `(namings,)`, in squares.

    Each class is cut into the phones of its word, and a phone has one mean in all words: cutting
    and averaging in turn (as Viterbi training does). A naming that is right shares phones rightly.

    Args:
        typical: `(CLASSES, FRAMES, dims)`.
        namings: the word of each class, `(namings, CLASSES)`.
        rounds: of cutting and averaging.
    """
    count, (words, frames, dims) = len(namings), typical.shape
    longest = max(map(len, STRINGS))
    padded = np.array([s + s[-1:] * (longest - len(s)) for s in STRINGS])[namings]
    lengths = np.array([len(s) for s in STRINGS])[namings]  # (count, words)
    places = np.arange(frames) * lengths[..., None] // frames  # at first all phones last as long
    vectors = typical.reshape(-1, dims)
    costs = np.zeros(count, np.float32)
    for _ in range(rounds):
        phone = np.take_along_axis(padded, places, axis=2).reshape(count, 1, -1)
        one_hot = np.zeros((count, len(PHONES), words * frames), np.float32)
        np.put_along_axis(one_hot, phone, 1, axis=1)
        means = one_hot @ vectors / np.maximum(one_hot.sum(axis=2, keepdims=True), 1)
        local = (vectors**2).sum(axis=1)[:, None] + (means**2).sum(axis=2)[:, None]
        local = local - 2 * vectors @ means.transpose(0, 2, 1)
        local = local.reshape(count, words, frames, -1)
        local = np.take_along_axis(local, padded[:, :, None].repeat(frames, axis=2), axis=3)
        total = np.full((count, words, longest), np.inf, np.float32)
        total[..., 0] = local[:, :, 0, 0]
        moved = np.zeros((frames, *total.shape), bool)  # to this phone, at this frame
        for t in range(1, frames):
            before = np.pad(total, ((0, 0), (0, 0), (1, 0)), constant_values=np.inf)[..., :-1]
            moved[t] = before < total
            total = np.minimum(before, total) + local[:, :, t]
        here = lengths - 1
        costs = np.take_along_axis(total, here[..., None], axis=2).sum(axis=(1, 2))
        for t in range(frames - 1, -1, -1):
            places[:, :, t] = here
            here = here - np.take_along_axis(moved[t], here[..., None], axis=2)[..., 0]
    return np.asarray(costs)


def search_naming(typical: FloatArray, seed: int, starts: int = 8) -> tuple[IntArray, FloatArray]:
    """The cheapest naming found by swapping two words at a time, from the best of 1000 at random.

    Returns:
        The word of each class, `(CLASSES,)`, and the costs of the random ones, `(1000,)`.
    """
    generator = np.random.default_rng(seed)
    random = np.stack([generator.permutation(CLASSES) for _ in range(1000)])
    random_costs = np.concatenate([naming_costs(typical, part) for part in np.split(random, 4)])
    pairs = [(i, j) for i in range(CLASSES) for j in range(i)]
    found: list[tuple[float, IntArray]] = []
    for start in random_costs.argsort()[:starts]:
        naming, cost = random[start], float(random_costs[start])
        while True:
            swapped = np.tile(naming, (len(pairs), 1))
            for row, (i, j) in zip(swapped, pairs, strict=True):
                row[[i, j]] = row[[j, i]]
            costs = naming_costs(typical, swapped)
            if costs.min() >= cost - 1e-3:
                break
            naming, cost = swapped[costs.argmin()], float(costs.min())
        found.append((cost, naming))
    return min(found, key=lambda pair: pair[0])[1], random_costs


# Measuring


class Score(NamedTuple):
    """Of strings; where two numbers, of the clips learnt from and of the unseen speaker's."""

    phone_errors: tuple[float, float]
    words_right: tuple[float, float]
    misfit: float  # of the clips learnt from; known without labels


def judged(found: Sequence[list[list[int]]], digits: Sequence[IntArray]) -> Score:
    """Strings of both kinds of clips against those of their digits."""
    errors, right = [], []
    for strings, wanted in zip(found, digits, strict=True):
        errors.append(phone_error_rate(strings, [STRINGS[digit] for digit in wanted]))
        nearest = word_distances(strings, STRINGS).argmin(axis=1)
        right.append(float((nearest == wanted).mean()))
    return Score((errors[0], errors[1]), (right[0], right[1]), misfit(found[0], STRINGS))


def judge_speaker(
    digits: Digits, distances: FloatArray, out: int, steps: int, seeds: int
) -> dict[str, Score]:
    """All ways with one speaker left out; prints each seed of the adversary."""
    clips, unseen = np.flatnonzero(digits.speakers != out), np.flatnonzero(digits.speakers == out)
    wanted = [digits.digits[clips], digits.digits[unseen]]
    frames = learn_frames(digits, distances, clips, seed=0)
    segments = segment(frames)
    parts = [segments.of(clips), segments.of(unseen)]
    phones = len(PHONES)

    def read(generator: Generator) -> list[list[list[int]]]:
        return [read_strings(generator, part) for part in parts]

    results = {}
    constants = [judged([[word] * len(w) for w in wanted], wanted) for word in STRINGS]
    results["the best constant string"] = min(constants, key=lambda s: s.phone_errors[0])
    random = np.random.default_rng(0)
    drawn = [[STRINGS[k] for k in random.integers(CLASSES, size=len(w))] for w in wanted]
    results["a random real string"] = judged(drawn, wanted)
    torch.manual_seed(0)
    results["a generator that learnt nothing"] = judged(read(Generator(FRAME_DIMS, phones)), wanted)
    for name, rebuild in (("adversary", 0.0), ("adversary, rebuilding", 0.3)):
        tries = []
        for seed in range(seeds):
            generator = train_adversarially(parts[0], STRINGS, phones, steps, seed, rebuild)
            tries.append(judged(read(generator), wanted))
            print(f"    {name}, seed {seed}: {_row(tries[-1])}", flush=True)
        results[name] = min(tries, key=lambda score: score.misfit)
    learnt = distances[np.ix_(clips, clips)]
    classes = graph_classes(learnt, digits.speakers[clips], seed=0)
    asked = votes(distances[np.ix_(unseen, clips)], classes, digits.speakers[clips])
    typical = typical_clips(frames[clips], learnt, classes)
    naming, random_costs = search_naming(typical, seed=0)
    right = matching(classes, digits.digits[clips])
    costs = naming_costs(typical, np.stack([naming, right]))
    cheaper = (random_costs < costs[1]).mean()
    print(f"    naming found costs {costs[0]:.0f}, the right one {costs[1]:.0f}; ", end="")
    print(f"of random ones {cheaper:.1%} cost less than that", flush=True)
    for name, words in (
        ("classes named by shared phones", naming),
        ("labels: the classes named", right),
    ):
        named = [[STRINGS[word] for word in words[part]] for part in (classes, asked)]
        results[name] = judged(named, wanted)
    true_strings = [STRINGS[digit] for digit in wanted[0]]
    told = train_with_labels(parts[0], true_strings, phones, 600, 0)
    results["labels: the same generator"] = judged(read(told), wanted)
    # Would the adversary be content with the right strings, if only they were found?
    kept = train_adversarially(parts[0], STRINGS, phones, steps, seed=0, start=told)
    results["labels, then the adversary"] = judged(read(kept), wanted)
    return results


def _row(score: Score) -> str:
    errors, right = (" / ".join(f"{100 * x:3.0f}" for x in pair) for pair in score[:2])
    return f"phones wrong {errors} %, words right {right} %, misfit {score.misfit:.2f}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, default=3, help="of which the least misfit is taken")
    parser.add_argument("--speakers", nargs="*", help="to leave out, one at a time; default all")
    options = parser.parse_args()
    torch.set_num_threads(1)
    digits = read_digits(options.folder)
    distances = warped_distances(digits.mel)
    print("clips learnt from / an unseen speaker's")
    rows: list[dict[str, Score]] = []
    for name in options.speakers or digits.names:
        print(f"without {name}:", flush=True)
        out = digits.names.index(name)
        rows.append(judge_speaker(digits, distances, out, options.steps, options.seeds))
        for way, score in rows[-1].items():
            print(f"  {way:32}{_row(score)}", flush=True)
    print("mean:")
    for way in rows[0]:
        scores = [row[way] for row in rows]
        errors = np.mean([score.phone_errors for score in scores], axis=0)
        right = np.mean([score.words_right for score in scores], axis=0)
        fit = float(np.mean([score.misfit for score in scores]))
        mean = Score((errors[0], errors[1]), (right[0], right[1]), fit)
        print(f"  {way:32}{_row(mean)}")


if __name__ == "__main__":
    main()
