"""Strings that an adversary can read: spoken digits as phones, unlabelled.

    python recipes/digits/strings.py CORPORA/free_spoken_digits

An autoencoder whose latent is a short string of symbols. A critic has seen how the ten digits are
written in phones, but never which recording says which; the encoder must write strings that it
takes for real ones, and from which a decoder can say the clip again (the idea of the lecture's
"text as representation"; Liu et al. 2018, arXiv:1804.00316; Baevski et al. 2021, arXiv:2105.11084).
README.md tells how far that goes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recipes.digits.classes import (
    BANDS,
    FRAMES,
    Digits,
    IntArray,
    disturbed,
    neighbours_elsewhere,
    read_digits,
    warped_distances,
)
from vc.model.layers import ConvNeXtBlock

WORDS = (  # ARPAbet, as the CMU pronouncing dictionary writes them
    "Z IH R OW", "W AH N", "T UW", "TH R IY", "F AO R",
    "F AY V", "S IH K S", "S EH V AH N", "EY T", "N AY N",
)  # fmt: skip
PHONES = sorted({phone for word in WORDS for phone in word.split()})
NOTHING = 0  # symbol of silence; phones are 1, 2, ...
SYMBOLS = 1 + len(PHONES)
STRINGS = [tuple(1 + PHONES.index(phone) for phone in word.split()) for word in WORDS]
POSITIONS = 8  # of a string before repetitions are merged
WIDTH = 48
BATCH = 96
CRITIC_STEPS = 2  # for each of the autoencoder
PENALTY = 10.0  # of the critic's slope (Gulrajani et al. 2017, arXiv:1704.00028)
WAYS = ("labels", "adversary", "adversary, no rebuilding", "adversary, own clip")


class Writer(nn.Module):
    """Clips `(batch, BANDS, FRAMES)` -> logits of symbols `(batch, SYMBOLS, POSITIONS)`."""

    def __init__(self) -> None:
        super().__init__()
        stride = FRAMES // POSITIONS
        self.embed = nn.Conv1d(BANDS, WIDTH, 5, padding=2)
        self.blocks = nn.Sequential(ConvNeXtBlock(WIDTH, 2, 5), ConvNeXtBlock(WIDTH, 2, 5))
        self.write = nn.Sequential(nn.GELU(), nn.Conv1d(WIDTH, SYMBOLS, stride, stride=stride))

    def forward(self, mel: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.write(self.blocks(self.embed(mel)))
        return logits


class Reader(nn.Module):
    """One-hot strings `(batch, SYMBOLS, POSITIONS)` and speakers `(batch,)` -> clips."""

    def __init__(self, speakers: int) -> None:
        super().__init__()
        self.embed = nn.Conv1d(SYMBOLS, WIDTH, 3, padding=1)
        self.speaker = nn.Embedding(speakers, 16)
        self.block = ConvNeXtBlock(WIDTH, 2, 5, condition_dim=16)
        self.mel = nn.Conv1d(WIDTH, BANDS, 1)

    def forward(self, strings: Tensor, speaker: Tensor) -> Tensor:
        """See the class; clips are `(batch, BANDS, FRAMES)`."""
        x = functional.interpolate(self.embed(strings), FRAMES, mode="linear")
        mel: Tensor = self.mel(self.block(x, self.speaker(speaker)))
        return mel


class Critic(nn.Module):
    """One-hot strings `(batch, SYMBOLS, POSITIONS)` -> how real each looks, `(batch,)`."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(SYMBOLS, 64, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv1d(64, 64, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(64 * POSITIONS, 1),
        )

    def forward(self, strings: Tensor) -> Tensor:
        """See the class."""
        score: Tensor = self.layers(strings)[:, 0]
        return score


class Learnt(NamedTuple):
    """A writer, and what can be known of it without a label."""

    writer: Writer
    doubt: float  # rebuilding error, and the critic's distance from real strings


def written(strings: Sequence[tuple[int, ...]], generator: np.random.Generator) -> Tensor:
    """Real strings as somebody might say them: phones last, silence stands around them.

    Returns:
        One-hot, `(len(strings), SYMBOLS, POSITIONS)`.
    """
    rows = []
    for string in strings:
        symbols = (NOTHING, *string, NOTHING)
        lengths = np.array([0, *[1] * len(string), 0])
        extra = generator.integers(len(symbols), size=POSITIONS - len(string))
        lengths += np.bincount(extra, minlength=len(symbols))
        rows.append(np.repeat(symbols, lengths))
    indices = torch.from_numpy(np.stack(rows))
    return functional.one_hot(indices, SYMBOLS).float().transpose(1, 2)


def merged(positions: Sequence[int]) -> tuple[int, ...]:
    """The string that positions spell: repetitions merged, silence left out."""
    runs = [s for at, s in enumerate(positions) if at == 0 or s != positions[at - 1]]
    return tuple(s for s in runs if s != NOTHING)


def edits(a: Sequence[int], b: Sequence[int]) -> int:
    """Insertions, deletions and substitutions between two strings (Levenshtein)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def judge(strings: Sequence[tuple[int, ...]], digits: IntArray) -> tuple[float, float]:
    """Phone error rate, and share of clips whose nearest digit is the right one."""
    wrong = sum(edits(s, STRINGS[d]) for s, d in zip(strings, digits, strict=True))
    phones = sum(len(STRINGS[d]) for d in digits)
    nearest = [int(np.argmin([edits(s, word) for word in STRINGS])) for s in strings]
    return wrong / phones, float(np.mean(np.array(nearest) == digits))


def penalty(critic: Critic, real: Tensor, made: Tensor) -> Tensor:
    """How far the critic's slope between real and made strings is from 1."""
    share = torch.rand(len(real), 1, 1)
    between = (share * real + (1 - share) * made).requires_grad_()
    slope = torch.autograd.grad(critic(between).sum(), between, create_graph=True)[0]
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()


def learn(
    digits: Digits, clips: IntArray, near: IntArray, way: str, steps: int, seed: int
) -> Learnt:
    """Learn to write clips, by one of `WAYS`.

    Args:
        digits: all clips; who says which digit is looked at by the bound "labels" alone.
        clips: indices of those to learn from.
        near: for each of them, places in `clips` of clips of other speakers that sound alike.
        way: one of `WAYS`.
        steps: of training.
        seed: of weights, batches and real strings.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    mel, speaker = digits.mel[clips], torch.from_numpy(digits.speakers[clips])
    writer, reader, critic = Writer(), Reader(len(digits.names)), Critic()
    trained = [*writer.parameters(), *reader.parameters()]
    optimizer = torch.optim.AdamW(trained, 2e-3, betas=(0.5, 0.9), weight_decay=0.01)
    critic_optimizer = torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.5, 0.9))

    def write(picks: IntArray) -> Tensor:
        logits = writer(disturbed(mel[picks]))
        return functional.gumbel_softmax(logits, tau=1.0, hard=True, dim=1)

    def some_real() -> Tensor:
        return written([STRINGS[d] for d in generator.integers(10, size=BATCH)], generator)

    doubts = []
    for _ in range(steps):
        picks = generator.integers(len(clips), size=BATCH)
        if way == "labels":
            loss = _aligned_loss(writer(disturbed(mel[picks])), digits.digits[clips[picks]])
        else:
            for _ in range(CRITIC_STEPS):
                real, made = some_real(), write(picks).detach()
                gap = critic(made).mean() - critic(real).mean()
                critic_optimizer.zero_grad()
                (gap + PENALTY * penalty(critic, real, made)).backward()
                critic_optimizer.step()
            made = write(picks)
            loss = -critic(made).mean()
            if way != "adversary, no rebuilding":
                said = picks
                if way == "adversary":  # the string must do for another speaker's clip, too
                    said = near[picks, generator.integers(near.shape[1], size=BATCH)]
                error = functional.mse_loss(reader(made, speaker[said]), mel[said])
                loss = loss + 10 * error
                doubts.append(float(error.detach()) + 0.1 * float(-gap.detach()))
            else:
                doubts.append(float(-gap.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Learnt(writer.eval(), float(np.mean(doubts[-50:])) if doubts else 0.0)


def _aligned_loss(logits: Tensor, digits: IntArray) -> Tensor:
    """Connectionist temporal classification against the true strings."""
    targets = [torch.tensor(STRINGS[d]) for d in digits]
    return functional.ctc_loss(
        logits.log_softmax(dim=1).permute(2, 0, 1),
        torch.cat(targets),
        torch.full((len(digits),), POSITIONS),
        torch.tensor([len(t) for t in targets]),
        blank=NOTHING,
        zero_infinity=True,
    )


@torch.inference_mode()
def strings_of(writer: Writer, mel: Tensor) -> list[tuple[int, ...]]:
    """What a writer writes of clips `(clips, BANDS, FRAMES)`."""
    return [merged(row) for row in writer(mel).argmax(dim=1).tolist()]


def chance(digits: IntArray) -> tuple[float, float]:
    """`judge` of real strings that stand by no clip in particular."""
    generator = np.random.default_rng(0)
    return judge([STRINGS[d] for d in generator.integers(10, size=len(digits))], digits)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3, help="the one in least doubt is judged")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    digits = read_digits(options.folder)
    distances = warped_distances(digits.mel)
    print("phone errors, words right, %, of an unseen speaker")
    print(f"{'':26}" + "".join(f"{name:>12}" for name in digits.names) + f"{'mean':>12}")
    for way in ("chance", *options.ways):
        rows = []
        print(f"{way:26}", end="", flush=True)
        for out in range(len(digits.names)):
            clips = np.flatnonzero(digits.speakers != out)
            unseen = np.flatnonzero(digits.speakers == out)
            truth = digits.digits[unseen]
            if way == "chance":
                rows.append(chance(truth))
            else:
                within = distances[np.ix_(clips, clips)]
                near = neighbours_elsewhere(within, digits.speakers[clips], 3)
                seeds = range(1 if way == "labels" else options.seeds)
                learnt = [learn(digits, clips, near, way, options.steps, s) for s in seeds]
                best = min(learnt, key=lambda one: one.doubt)
                rows.append(judge(strings_of(best.writer, digits.mel[unseen]), truth))
            print(f"{_percent(rows[-1]):>12}", end="", flush=True)
        print(f"{_percent(np.mean(rows, axis=0)):>12}", flush=True)


def _percent(shares: Sequence[float]) -> str:
    return " / ".join(f"{100 * share:.0f}" for share in shares)


if __name__ == "__main__":
    main()
