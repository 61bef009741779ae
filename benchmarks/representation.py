"""What are the latents worth to other tasks, where labels are few? Set against MFCC of equal size.

    python -m benchmarks.representation CORPORA

A linear classifier is shown few labelled clips and asked about clips of speakers (or sentences, or
digits) that it has not met. The model was never trained on the digits and the Polish sentences; it
was trained, without their labels, on most of the volunteers. Needs the `eval` extra.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.fft import dct
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupShuffleSplit, LeaveOneGroupOut
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from vc.audio import normalize_level, read_audio, resample
from vc.convert import Converter, load
from vc.embedding import pool_content
from vc.errors import AudioError

FloatArray = npt.NDArray[np.float64]

LANGUAGES, SPEAKERS_A_LANGUAGE = 10, 25
SPEAKERS_A_SEX = 60
TAKES = 16  # of a digit by a speaker
SENTENCES = 16


class Labelled(NamedTuple):
    """A clip and what is known of it."""

    file: Path
    label: str
    group: str  # clips of one group are never both learnt from and asked about


class Task(NamedTuple):
    """A question."""

    name: str
    clips: list[Labelled]
    shots: tuple[int, ...]  # labelled clips of each class
    leave_one_out: bool  # else half of the groups, drawn anew each time, are asked about


def digits(corpora: Path) -> list[Task]:
    """Which digit, of an unseen speaker; which speaker, saying unseen digits."""
    folder = corpora / "free_spoken_digits"
    parts = [(file, *file.stem.split("_")) for file in sorted(folder.glob("*/*.opus"))]
    kept = [part for part in parts if int(part[3]) < TAKES]
    of_digits = [Labelled(file, digit, speaker) for file, digit, speaker, _ in kept]
    of_speakers = [Labelled(file, speaker, digit) for file, digit, speaker, _ in kept]
    return [
        Task("digit, of an unseen speaker", of_digits, (1, 5, 20), True),
        Task("speaker (of 6), saying unseen digits", of_speakers, (1, 5, 20), False),
    ]


def polish(corpora: Path) -> Task:
    """Which speaker, saying unseen sentences."""
    files = sorted((corpora / "nemo_polish").glob("*/*.opus"))
    parts = [(file, file.stem.split("_")[-1]) for file in files]
    clips = [Labelled(f, f.parent.name, number) for f, number in parts if int(number) <= SENTENCES]
    return Task("speaker (of 9), saying unseen sentences", clips, (1, 3, 8), False)


def volunteers(corpora: Path) -> list[Task]:
    """Sex and language of an unseen speaker; one clip each, the first."""
    folder = corpora / "commonvoice_omnilingo"
    sexes: list[Labelled] = []
    languages: list[Labelled] = []
    taken: Counter[str] = Counter()
    with (folder / "speakers.tsv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    spoken = Counter(row["note"].split(";")[0] for row in rows)
    chosen = {language for language, _ in spoken.most_common(LANGUAGES)}
    for row in rows:
        speaker, sex, language = row["speaker"], row["sex"], row["note"].split(";")[0]
        files = sorted((folder / speaker).glob("*.opus"))
        if not files:
            continue
        if sex in ("M", "F") and taken[sex] < SPEAKERS_A_SEX:
            taken[sex] += 1
            sexes.append(Labelled(files[0], sex, speaker))
        if language in chosen and taken[language] < SPEAKERS_A_LANGUAGE:
            taken[language] += 1
            languages.append(Labelled(files[0], language, speaker))
    return [
        Task("sex of an unseen volunteer", sexes, (1, 5, 20), False),
        Task(f"language (of {LANGUAGES}) of an unseen volunteer", languages, (1, 3, 10), False),
    ]


def cepstra(log_mel: FloatArray, count: int) -> FloatArray:
    """The first cepstral coefficients `(frames, count)` of `(frames, n_mels)`."""
    return np.asarray(dct(log_mel, axis=1, norm="ortho")[:, :count])


def with_differences(frames: FloatArray) -> FloatArray:
    """`(frames, dims)` with its first and second differences, `(frames, 3 * dims)`."""
    first = np.gradient(frames, axis=0)
    return np.concatenate([frames, first, np.gradient(first, axis=0)], axis=1)


def standardized(frames: FloatArray) -> FloatArray:
    """Each of `(frames, dims)` with mean 0 and deviation 1 over the clip."""
    return np.asarray((frames - frames.mean(axis=0)) / (frames.std(axis=0) + 1e-5))


def mean_and_deviation(frames: FloatArray) -> FloatArray:
    """`(frames, dims)` -> `(2 * dims,)`."""
    return np.concatenate([frames.mean(axis=0), frames.std(axis=0)])


def in_slices(frames: FloatArray) -> FloatArray:
    """Mean and deviation over each of four equal slices of time."""
    parts = [frames[max(0, i - 1) : i + 1] for i in range(len(frames))]
    slices = np.array_split(frames, 4) if len(frames) >= 4 else parts
    return np.concatenate([mean_and_deviation(part) for part in slices if len(part)])


def represent(file: Path, converter: Converter) -> dict[str, FloatArray]:
    """Every representation of a clip.

    Raises:
        AudioError: it has less than 0.2 s of speech.
    """
    found = converter.embed(file)
    features = converter.features
    audio = read_audio(file)
    waveform = resample(audio.waveform, audio.sample_rate, features.sample_rate)
    waveform = normalize_level(waveform, features.sample_rate, features.level_db)
    log_mel = converter.log_mel(torch.from_numpy(waveform)[None])[0].T.double().numpy()
    usual = with_differences(cepstra(log_mel, 13))
    many = cepstra(log_mel, 48)
    identity = found.speaker_embedding[: converter.autoencoder.config.speaker_dim]
    content = pool_content(found.content).ravel()
    return {
        "speaker embedding": found.speaker_embedding,
        "  its learnt part": identity,
        "content, 4 slices": content,
        "both": np.concatenate([found.speaker_embedding, content]),
        "MFCC, 13 and differences": mean_and_deviation(usual),
        "MFCC, 64": mean_and_deviation(cepstra(log_mel, 64)),
        "MFCC, 48, 4 slices": in_slices(many),
        "  normalised over the clip": in_slices(standardized(many)),
        "  normalised, 13 and diff.": in_slices(standardized(usual)),
        "13 and diff., both ways": np.concatenate(
            [mean_and_deviation(usual), in_slices(standardized(usual))]
        ),
    }


def accuracy(
    features: FloatArray,
    labels: npt.NDArray[np.str_],
    shown: npt.NDArray[np.intp],
    split: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]],
    strength: float,
) -> float:
    """Balanced accuracy of a linear classifier that was shown few labels.

    Dimensions are standardised over all clips that may be learnt from, which needs no labels, and
    scaled so that a vector's length does not grow with its size: one regularisation suits all.
    """
    scaler = StandardScaler().fit(features[split[0]])
    scaled = scaler.transform(features) / np.sqrt(features.shape[1])
    classifier = LogisticRegression(C=strength, max_iter=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not wholly converged is good enough
        classifier.fit(scaled[shown], labels[shown])
    guessed = classifier.predict(scaled[split[1]])
    return float(balanced_accuracy_score(labels[split[1]], guessed))


def splits(
    task: Task, clips: Sequence[Labelled], draws: int, seed: int
) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Clips that may be learnt from, and clips that are asked about."""
    groups = [clip.group for clip in clips]
    if task.leave_one_out:
        for _ in range(max(1, draws // len(set(groups)))):
            yield from LeaveOneGroupOut().split(groups, groups=groups)
    else:
        halves = GroupShuffleSplit(draws, test_size=0.5, random_state=seed)
        yield from halves.split(groups, groups=groups)


def few(
    labels: npt.NDArray[np.str_],
    pool: npt.NDArray[np.intp],
    shots: int,
    generator: np.random.Generator,
) -> npt.NDArray[np.intp]:
    """So many clips of each class."""
    classes = [pool[labels[pool] == label] for label in np.unique(labels)]
    return np.concatenate(
        [generator.choice(found, min(shots, len(found)), replace=False) for found in classes]
    )


def represent_all(tasks: Sequence[Task], converter: Converter) -> dict[Path, dict[str, FloatArray]]:
    """Every clip that has enough speech, once."""
    found: dict[Path, dict[str, FloatArray]] = {}
    files = sorted({clip.file for task in tasks for clip in task.clips})
    for file in tqdm(files, "listening", unit="clip"):
        with suppress(AudioError):
            found[file] = represent(file, converter)
    return found


def run(
    task: Task,
    represented: dict[Path, dict[str, FloatArray]],
    draws: int,
    seed: int,
    strength: float,
) -> None:
    """Print a task's table."""
    clips = [clip for clip in task.clips if clip.file in represented]
    rows = [represented[clip.file] for clip in clips]
    labels = np.array([clip.label for clip in clips])
    left_out = len(task.clips) - len(clips)
    print(f"\n{task.name}: {len(clips)} clips, {left_out} left out as too short", end="")
    print(f"; chance {100 / len(set(labels)):.0f} %")
    print(f"{'labels of each class':28}{'size':>6}" + "".join(f"{s:>14}" for s in task.shots))
    for name in rows[0]:
        features = np.stack([row[name] for row in rows])
        print(f"{name:28}{features.shape[1]:>6}", end="")
        for shots in task.shots:
            generator = np.random.default_rng(seed)  # the same labels for every representation
            figures = [
                accuracy(features, labels, few(labels, s[0], shots, generator), s, strength)
                for s in splits(task, clips, draws, seed)
            ]
            print(f"{100 * np.mean(figures):>7.1f} +-{100 * np.std(figures):4.1f}", end="")
        print(flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--draws", type=int, default=12, help="of labels; a figure is their mean")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strength", type=float, default=10.0, help="C of the classifier")
    parser.add_argument("--checkpoint", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    converter = load(options.checkpoint, vocoder="griffin-lim")  # nothing is synthesised
    print(
        f"balanced accuracy in %, mean +- standard deviation over {options.draws} draws of labels"
    )
    tasks = [*digits(options.corpora), polish(options.corpora), *volunteers(options.corpora)]
    represented = represent_all(tasks, converter)
    for task in tasks:
        run(task, represented, options.draws, options.seed, options.strength)


if __name__ == "__main__":
    main()
