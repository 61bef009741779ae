"""Ten classes of spoken digits that nobody named, by a ten-way one-hot latent.

    python recipes/digits/classes.py CORPORA/free_spoken_digits

Leave one speaker out: learn from five speakers without a label, name each class once by the best
matching, and count how often a sixth speaker's digits are named right. README.md tells the method.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.fft import dct
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans, SpectralClustering
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from vc.audio import normalize_level, read_audio, resample
from vc.config import FeatureConfig
from vc.features import LogMel
from vc.model.bottleneck import OneHotQuantizer
from vc.model.layers import ConvNeXtBlock
from vc.training.perturb import resize

CLASSES = 10
FRAMES = 24  # that every clip is stretched to, about 0.4 s
BANDS = 58  # below 4 kHz, what the telephone-like recordings hold
CEPSTRA = 13
WIDTH, BLOCKS = 48, 2
BATCH = 128
NEIGHBOURS = 5  # of a clip among those of each other speaker

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


class Digits(NamedTuple):
    """All clips."""

    mel: Tensor  # (clips, BANDS, FRAMES), each band with the clip's mean 0
    digits: IntArray  # (clips,), only looked at to judge, and by the supervised bound
    speakers: IntArray  # (clips,)
    names: list[str]  # of the speakers


def read_digits(folder: Path) -> Digits:
    """Log-mels of the Free Spoken Digit Dataset, stretched to the same length."""
    config = FeatureConfig()
    log_mel = LogMel(config)
    files = sorted(folder.glob("*/*.opus"))
    mels = []
    for file in tqdm(files, "reading", unit="clip"):
        audio = read_audio(file)
        waveform = resample(audio.waveform, audio.sample_rate, config.sample_rate)
        waveform = normalize_level(waveform, config.sample_rate, config.level_db)
        mel = log_mel(torch.from_numpy(waveform)[None])[:, :BANDS].clamp(min=-8)
        mel = functional.interpolate(mel, FRAMES, mode="linear", align_corners=True)[0]
        mels.append((mel - mel.mean(dim=1, keepdim=True)) / 2)
    digits = np.array([int(file.stem.split("_")[0]) for file in files])
    names, speakers = np.unique([file.parent.name for file in files], return_inverse=True)
    return Digits(torch.stack(mels), digits, speakers, list(names))


def warped_distances(mel: Tensor) -> FloatArray:
    """Distance of every two clips under dynamic time warping, `(clips, clips)`.

    Cepstra with first differences, each with deviation 1 over its clip; the least mean cost over
    all ways to match two clips' frames in order (Sakoe & Chiba 1978).
    """
    cepstra = dct(mel.numpy(), axis=1, norm="ortho")[:, :CEPSTRA]
    frames = np.concatenate([cepstra, 2 * np.gradient(cepstra, axis=2)], axis=1)
    frames /= frames.std(axis=2, keepdims=True) + 0.05
    frames = frames.astype(np.float32).transpose(2, 0, 1)  # (FRAMES, clips, dims)
    squares = (frames**2).sum(axis=2)
    infinite = np.full((len(mel), len(mel)), np.inf, np.float32)
    above = [infinite] * FRAMES  # the best way to each cell of the row before
    for i in range(FRAMES):
        row: list[FloatArray] = []
        for j in range(FRAMES):
            if abs(i - j) > FRAMES // 4:  # not warped further than that
                row.append(infinite)
                continue
            product = frames[i] @ frames[j].T
            local = np.sqrt(np.maximum(squares[i][:, None] + squares[j] - 2 * product, 0))
            left = row[-1] if row else infinite
            diagonal = above[j - 1] if j else (infinite if i else np.zeros_like(infinite))
            row.append(local + np.minimum(np.minimum(above[j], left), diagonal))
        above = row
    return np.asarray((above[-1] + above[-1].T) / (4 * FRAMES), dtype=np.float32)


def neighbours_elsewhere(distances: FloatArray, speakers: IntArray, count: int) -> IntArray:
    """The nearest clips of each other speaker, `(clips, others * count)`."""
    columns = []
    for speaker in np.unique(speakers):
        places = np.flatnonzero(speakers == speaker)
        order = np.argsort(distances[:, places], axis=1)[:, :count]
        columns.append(places[order])
    found = np.stack(columns, axis=1)  # (clips, speakers, count)
    others = np.unique(speakers)[None] != speakers[:, None]
    return found[others].reshape(len(speakers), -1)


class DigitAutoencoder(nn.Module):
    """A clip -> one of ten classes -> a clip, given who speaks."""

    def __init__(self, speakers: int) -> None:
        super().__init__()
        self.embed = nn.Conv1d(BANDS, WIDTH, 5, padding=2)
        self.blocks = nn.ModuleList(ConvNeXtBlock(WIDTH, 2, 5) for _ in range(BLOCKS))
        self.classify = nn.Sequential(nn.Dropout(0.2), nn.Linear(6 * WIDTH, CLASSES))
        self.bottleneck = OneHotQuantizer(CLASSES, temperature=1.0)
        self.speaker = nn.Embedding(speakers, 16)
        self.course = nn.Linear(CLASSES, WIDTH * FRAMES, bias=False)  # of a class over time
        self.decoder = ConvNeXtBlock(WIDTH, 2, 5, condition_dim=16)
        self.mel = nn.Conv1d(WIDTH, BANDS, 1)

    def logits(self, mel: Tensor) -> Tensor:
        """Of classes, `(batch, CLASSES)`, from `(batch, BANDS, FRAMES)`."""
        x = self.embed(mel)
        for block in self.blocks:
            x = block(x)
        slices = functional.adaptive_avg_pool1d(functional.gelu(x), 6)
        return self.classify(slices.flatten(1))

    def decode(self, one_hot: Tensor, speaker: Tensor) -> Tensor:
        """`(batch, CLASSES)` and speakers `(batch,)` -> `(batch, BANDS, FRAMES)`."""
        x = self.course(one_hot).unflatten(1, (WIDTH, FRAMES))
        return self.mel(self.decoder(x, self.speaker(speaker)))


def disturbed(mel: Tensor) -> Tensor:
    """As if another mouth had said it: other formants, other pace, a stretch or some bands lost."""
    count = len(mel)
    mel = resize(mel, torch.exp(torch.empty(count).uniform_(-0.15, 0.15)))
    places = torch.linspace(-1, 1, FRAMES)
    bend = torch.empty(count, 1).uniform_(-0.25, 0.25) * (1 - places**2)
    shift = torch.empty(count, 1).uniform_(-0.1, 0.1)
    stretch = torch.exp(torch.empty(count, 1).uniform_(-0.15, 0.15))
    times = (places * stretch + shift + bend)[:, None, :, None]  # (B, 1, T, 1)
    grid = torch.cat([times, torch.zeros_like(times)], dim=-1)  # x is time in a picture of height 1
    pictures = mel[:, :, None]  # (B, BANDS, 1, T)
    grid = grid.expand(-1, 1, -1, -1)
    mel = functional.grid_sample(pictures, grid, padding_mode="border", align_corners=True)[:, :, 0]
    bands, frames = torch.arange(BANDS)[:, None], torch.arange(FRAMES)
    low = torch.randint(-8, BANDS, (count, 1, 1))
    first = torch.randint(-4, FRAMES, (count, 1, 1))
    kept = ~((bands >= low) & (bands < low + 8) | (frames >= first) & (frames < first + 4))
    return mel * kept + 0.1 * torch.randn_like(mel)


def graph_classes(distances: FloatArray, speakers: IntArray, seed: int) -> IntArray:
    """Ten classes of clips that are near across speakers, `(clips,)`, without a label.

    Spectral clustering (Ng et al. 2001) of the graph that joins each clip to those of every other
    speaker that are most like it. There are no edges within a speaker, so no class can be one.
    """
    near = neighbours_elsewhere(distances, speakers, NEIGHBOURS)
    edges = np.zeros_like(distances)
    edges[np.arange(len(near))[:, None], near] = 0.5
    clustering = SpectralClustering(
        CLASSES, affinity="precomputed", assign_labels="cluster_qr", random_state=seed
    )
    return np.asarray(clustering.fit_predict(edges + edges.T))


def votes(distances: FloatArray, classes: IntArray, speakers: IntArray) -> IntArray:
    """Commonest class among the clips of each speaker that are nearest to a new clip.

    Args:
        distances: `(new clips, clips)`.
        classes: `(clips,)`.
        speakers: `(clips,)`.
    """
    counts = np.zeros((len(distances), CLASSES), dtype=int)
    for speaker in np.unique(speakers):
        places = np.flatnonzero(speakers == speaker)
        nearest = places[np.argsort(distances[:, places], axis=1)[:, :NEIGHBOURS]]
        counts += (classes[nearest][:, :, None] == np.arange(CLASSES)).sum(axis=1)
    return counts.argmax(axis=1)


def train(
    digits: Digits, clips: IntArray, classes: IntArray | None, steps: int, seed: int
) -> DigitAutoencoder:
    """Learn to say a clip by a class, from some clips and without labels.

    Args:
        digits: all clips.
        clips: indices of those to learn from.
        classes: of each of them, by the graph, which the encoder is to find too; None if it has
            to find its own.
        steps: of training.
        seed: of weights and batches.
    """
    torch.manual_seed(seed)
    mel, speaker = digits.mel[clips], torch.from_numpy(digits.speakers[clips])
    wanted = None if classes is None else torch.from_numpy(classes).long()
    model = DigitAutoencoder(len(digits.names)).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for _ in range(steps):
        picks = torch.randint(len(clips), (BATCH,))
        logits = model.logits(disturbed(mel[picks]))
        bottled = model.bottleneck(logits[:, :, None])
        rebuilt = model.decode(bottled.content[:, :, 0], speaker[picks])
        loss = functional.mse_loss(rebuilt, mel[picks]) + 0.1 * bottled.loss
        if wanted is not None:
            loss = loss + functional.cross_entropy(logits, wanted[picks])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def matching(classes: IntArray, digits: IntArray) -> IntArray:
    """Which digit each class is to be called, one each, for the most right."""
    table = np.zeros((CLASSES, CLASSES), dtype=int)
    np.add.at(table, (classes, digits), 1)
    return np.asarray(linear_sum_assignment(-table)[1])


def named_right(
    learnt: IntArray, asked: IntArray, digits: Digits, clips: IntArray, unseen: IntArray
) -> FloatArray:
    """Share of digits named right, `(3,)`.

    Of the clips learnt from; of the unseen speaker's under the same names; and of the unseen
    speaker's if the classes are matched to these clips themselves.
    """
    names = matching(learnt, digits.digits[clips])
    own = matching(asked, digits.digits[unseen])
    return np.array(
        [
            (names[learnt] == digits.digits[clips]).mean(),
            (names[asked] == digits.digits[unseen]).mean(),
            (own[asked] == digits.digits[unseen]).mean(),
        ],
        dtype=np.float32,
    )


@torch.inference_mode()
def classes_of(model: DigitAutoencoder, mel: Tensor) -> IntArray:
    """The likeliest class of each clip."""
    return model.logits(mel).argmax(dim=1).numpy()


def clusters(digits: Digits, clips: IntArray, unseen: IntArray, seed: int) -> FloatArray:
    """`named_right` of k-means of the clips' cepstra, frame beside frame."""
    cepstra = dct(digits.mel.numpy(), axis=1, norm="ortho")[:, :CEPSTRA]
    vectors = (cepstra / (cepstra.std(axis=2, keepdims=True) + 0.05)).reshape(len(cepstra), -1)
    found = KMeans(CLASSES, n_init=10, random_state=seed).fit(vectors[clips])
    return named_right(
        found.predict(vectors[clips]), found.predict(vectors[unseen]), digits, clips, unseen
    )


WAYS = ("labels", "k-means", "graph", "one-hot", "one-hot, graph", "one-hot, labels")


def judge(
    way: str,
    digits: Digits,
    distances: FloatArray,
    fold: tuple[IntArray, IntArray],
    steps: int,
    seed: int,
) -> FloatArray:
    """`named_right` of one way, learnt from the clips of a fold's first part."""
    clips, unseen = fold
    speakers = digits.speakers[clips]
    if way == "k-means":
        return clusters(digits, clips, unseen, seed)
    wanted = None
    if way.endswith("labels"):  # what they are worth: the digits themselves instead of classes
        wanted = digits.digits[clips]
    elif way.endswith("graph"):
        wanted = graph_classes(distances[np.ix_(clips, clips)], speakers, seed)
    if way.startswith("one-hot"):
        model = train(digits, clips, wanted, steps, seed)
        learnt = classes_of(model, digits.mel[clips])
        asked = classes_of(model, digits.mel[unseen])
    else:
        assert wanted is not None
        learnt = wanted
        asked = votes(distances[np.ix_(unseen, clips)], learnt, speakers)
    return named_right(learnt, asked, digits, clips, unseen)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    digits = read_digits(options.folder)
    distances = warped_distances(digits.mel)
    print("named right, %: digits learnt from / of an unseen speaker / that matched by themselves")
    print(f"{'':16}" + "".join(f"{name:>15}" for name in digits.names) + f"{'mean':>15}")
    folds = [
        (np.flatnonzero(digits.speakers != out), np.flatnonzero(digits.speakers == out))
        for out in range(len(digits.names))
    ]
    for way in options.ways:
        rows: list[FloatArray] = []
        print(f"{way:16}", end="")
        for fold in folds:
            rows.append(judge(way, digits, distances, fold, options.steps, options.seed))
            print(f"{_percent(rows[-1]):>15}", end="", flush=True)
        print(f"{_percent(np.mean(rows, axis=0)):>15}", flush=True)


def _percent(shares: FloatArray) -> str:
    return " / ".join(f"{100 * share:.0f}" for share in shares)


if __name__ == "__main__":
    main()
