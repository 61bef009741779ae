"""What can be read from each latent? Freshly trained probes tell.

A good content tells the phones and not the speaker, a good speaker embedding the reverse. A probe
is a classifier that is shown frozen latents of some clips and asked about those of others. Two
kinds are used: linear (softmax regression) and non-linear (one hidden layer); what a probe cannot
read may still be there for a better one.

Beside accuracy stands the mutual information that a probe has shown to be there, in bits: the
entropy of the labels less the probe's cross-entropy on held-out clips, `H(Y) - CE`. It is a lower
bound of the true mutual information, tight if the probe is the true posterior (Barber & Agakov
2003; Poole et al. 2019, arXiv:1905.06922; McAllester & Stratos 2020, arXiv:1811.04251); where a
probe does worse than knowing nothing, 0 is given. `H(Y)` is that of the held-out labels' counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from vc.convert import load
from vc.corpus import Utterance, check_features, feature_file, read_manifest
from vc.errors import DataError
from vc.evaluation.alignment import Aligner, phones_at
from vc.model.autoencoder import Autoencoder
from vc.model.speaker_encoder import split_embedding

MIN_SECONDS, MAX_SECONDS = 1.0, 12.0
FEWEST_CLIPS = 3  # of a speaker: to learn from, to stop by, to be tested on

T = TypeVar("T")

_STEPS, _CHECK_EVERY, _PATIENCE = 400, 10, 8
_TEMPERATURES = tuple(2.0 ** (k / 2) for k in range(-8, 5))
_HIDDEN = 256
_COMPONENTS = 16  # of the speaker embedding, where it is shown beside single content frames


class Reading(NamedTuple):
    """How well one probe reads the labels of held-out examples."""

    accuracy: float  # share that is named right
    bits: float  # mutual information that this shows, a lower bound


@dataclass(frozen=True)
class Task:
    """One question put to the latents."""

    label: str  # what is asked for
    classes: int
    clips: int
    examples: int  # that are tested on
    chance: float  # accuracy of always naming the label that is most frequent
    entropy: float  # bits
    readings: dict[str, dict[str, Reading]]  # by what is shown, then by kind of probe


@dataclass(frozen=True)
class ProbeReport:
    """All tasks, and pooled latents to draw."""

    tasks: list[Task]
    pooled: dict[str, Tensor]  # (clips, dimensions), by what is shown
    speakers: Tensor  # (clips,), index of the speaker


class _Split(NamedTuple):
    """Masks over examples, `(examples,)`."""

    training: Tensor
    stopping: Tensor  # tells when to stop training
    testing: Tensor


def probe(
    cache: Path,
    checkpoint: Path | None,
    speakers: int = 100,
    clips_each: int = 8,
    phone_clips: int = 200,
) -> ProbeReport:
    """Read speaker and phone from content, from the speaker embedding, and from both.

    Probes learn from half of the clips, stop by a quarter and are tested on a quarter. Speakers are
    those of the cache's training part, which has enough clips of enough of them. Phones come from
    forced alignment of English clips (`vc.evaluation.alignment`); each content frame in speech is
    an example, and its clip's speaker embedding is repeated for it (its 16 principal components: a
    few hundred clips do not fill more, and a probe would only learn the clips by heart).

    For speakers, content is shown pooled over the clip in two ways: its mean, as is usual (instance
    normalisation makes that nearly nothing), and its covariance, the most that a linear probe of
    pooled content could use.

    Args:
        cache: prepared corpus.
        checkpoint: model; the shipped one if None.
        speakers: how many, spread over all that have enough clips.
        clips_each: of each speaker, at least 3.
        phone_clips: clips whose phones are asked for; 0 leaves that task out, as does a cache
            without English transcripts.

    Raises:
        DataError: too few speakers have that many clips, or the cache has other features.
    """
    if clips_each < FEWEST_CLIPS:
        raise DataError(f"a probe needs at least {FEWEST_CLIPS} clips of a speaker")
    model = load(checkpoint).autoencoder
    check_features(cache, model.features)
    utterances = [u for u in read_manifest(cache) if u.split != "noise" and u.seconds > MIN_SECONDS]
    task, pooled, labels = _probe_speakers(cache, model, utterances, speakers, clips_each)
    tasks = [task]
    phones = _probe_phones(cache, model, utterances, phone_clips) if phone_clips else None
    if phones:
        tasks.append(phones)
    return ProbeReport(tasks, pooled, labels)


def _probe_speakers(
    cache: Path, model: Autoencoder, utterances: Sequence[Utterance], speakers: int, clips_each: int
) -> tuple[Task, dict[str, Tensor], Tensor]:
    clips_of: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        if utterance.split == "train":
            clips_of.setdefault(utterance.speaker, []).append(utterance)
    able = [name for name in sorted(clips_of) if len(clips_of[name]) >= clips_each]
    if len(able) < 2:
        raise DataError(f"{cache}: too few speakers have {clips_each} clips for a probe")
    chosen = _spread(able, speakers)
    generator = np.random.default_rng(0)
    shown: dict[str, list[Tensor]] = {}
    for speaker in tqdm(chosen, "reading speakers", unit="speaker"):
        clips = clips_of[speaker]
        for pick in generator.permutation(len(clips))[:clips_each]:
            content, embedding = _encode(model, _read(cache, clips[pick], "log_mel"))
            covariance = torch.cov(content).flatten()
            rows = {
                "content, mean": content.mean(-1),
                "content, covariance": covariance,
                "speaker, learnt part": split_embedding(embedding[None], model.config).identity[0],
                "speaker": embedding,
                "both": torch.cat([covariance, embedding]),
            }
            for name, row in rows.items():
                shown.setdefault(name, []).append(row)
    inputs = {name: torch.stack(rows) for name, rows in shown.items()}
    labels = torch.arange(len(chosen)).repeat_interleave(clips_each)
    split = _split(torch.arange(len(labels)) % clips_each, clips_each)
    return _ask("speaker", inputs, labels, split, len(labels)), inputs, labels


def _probe_phones(
    cache: Path, model: Autoencoder, utterances: Sequence[Utterance], count: int
) -> Task | None:
    """The task of phones, or None if fewer than 4 clips can be aligned."""
    aligner = Aligner()
    able = [u for u in utterances if u.seconds < MAX_SECONDS and aligner.can_align(u.text)]
    contents, embeddings, symbols, clips = [], [], [], []
    step_s = model.config.content_stride * model.features.hop_length / model.features.sample_rate
    for clip, utterance in enumerate(tqdm(_spread(able, count), "reading phones", unit="clip")):
        samples = _read(cache, utterance, "waveform").numpy()
        phones = aligner.align(samples, utterance.text)
        content, embedding = _encode(model, _read(cache, utterance, "log_mel"))
        # a content frame stands for the middle of the mel frames that it replaces
        middle = step_s / 2 - model.features.hop_length / model.features.sample_rate / 2
        times = np.arange(content.shape[-1], dtype=np.float64) * step_s + middle
        at = phones_at(phones, times)
        spoken = [frame for frame, symbol in enumerate(at) if symbol]
        contents.append(content.T[spoken])
        embeddings.append(embedding)
        symbols += [at[frame] for frame in spoken]
        clips += [clip] * len(spoken)
    numbers = sorted(set(clips))
    if len(numbers) < 4:
        return None
    alphabet = {symbol: number for number, symbol in enumerate(sorted(set(symbols)))}
    labels = torch.tensor([alphabet[symbol] for symbol in symbols])
    place = {clip: number for number, clip in enumerate(numbers)}
    split = _split(torch.tensor([place[clip] % 4 for clip in clips]), 4)
    content = torch.cat(contents)
    components = _principal_components(torch.stack(embeddings), _COMPONENTS)
    speaker = components.repeat_interleave(torch.tensor([len(c) for c in contents]), dim=0)
    inputs = {"content": content, "speaker": speaker, "both": torch.cat([content, speaker], 1)}
    return _ask("phone", inputs, labels, split, len(numbers))


def _principal_components(rows: Tensor, count: int) -> Tensor:
    """`(rows, dimensions)` -> `(rows, count)`, or fewer columns if there is no more to show."""
    centred = rows - rows.mean(0)
    left, strengths, _ = torch.linalg.svd(centred, full_matrices=False)
    return (left * strengths)[:, :count]


def _spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` items, evenly over all."""
    if count >= len(items):
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]


def _read(cache: Path, utterance: Utterance, tensor: str) -> Tensor:
    with safe_open(feature_file(cache, utterance.name), "pt") as stored:
        return stored.get_tensor(tensor)


@torch.inference_mode()
def _encode(model: Autoencoder, log_mel: Tensor) -> tuple[Tensor, Tensor]:
    """Content `(content_dim, frames)` and speaker embedding `(embedding_dim,)` of a cached clip."""
    latent = model.encode(log_mel.float().T[None])
    return latent.content[0], latent.speaker_embedding[0]


def _split(number: Tensor, count: int) -> _Split:
    """Half, a quarter and a quarter, by each example's number among `count`."""
    quarter = max(1, count // 4)
    testing, stopping = number >= count - quarter, number >= count - 2 * quarter
    return _Split(~stopping, stopping & ~testing, testing)


def _ask(label: str, inputs: dict[str, Tensor], labels: Tensor, split: _Split, clips: int) -> Task:
    classes = int(labels.max()) + 1
    counts = torch.bincount(labels[split.testing], minlength=classes).double()
    shares = counts / counts.sum()
    most_frequent = int(torch.bincount(labels[split.training], minlength=classes).argmax())
    entropy = float(-torch.special.xlogy(shares, shares).sum() / np.log(2))
    kinds: dict[str, Callable[[int], nn.Module]] = {
        "linear": lambda width: nn.Linear(width, classes),
        "non-linear": lambda width: nn.Sequential(
            nn.Linear(width, _HIDDEN), nn.ReLU(), nn.Dropout(0.3), nn.Linear(_HIDDEN, classes)
        ),
    }
    readings: dict[str, dict[str, Reading]] = {}
    for name, values in tqdm(inputs.items(), f"probing for the {label}", unit="latent"):
        for kind, make in kinds.items():
            reading = _train_probe(make, values, labels, split, entropy)
            readings.setdefault(name, {})[kind] = reading
    examples = int(split.testing.sum())
    chance = float(shares[most_frequent])
    return Task(label, classes, clips, examples, chance, entropy, readings)


def _train_probe(
    make: Callable[[int], nn.Module], inputs: Tensor, labels: Tensor, split: _Split, entropy: float
) -> Reading:
    """Train on standardised inputs; keep the state with the least loss on the stopping part.

    The same part sets the temperature of the probe's softmax (Guo et al. 2017, arXiv:1706.04599),
    so that the bound does not suffer from a probe that is right but timid.
    """
    mean, scale = inputs[split.training].mean(0), inputs[split.training].std(0).clamp(min=1e-6)
    inputs = ((inputs - mean) / scale).clamp(-10, 10)
    parts = [(inputs[mask], labels[mask]) for mask in split]
    (shown, wanted), stopping, testing = parts
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make(inputs.shape[1])
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
        best, best_step, state = float("inf"), 0, model.state_dict()
        for step in range(_STEPS):
            optimizer.zero_grad()
            functional.cross_entropy(model(shown), wanted).backward()
            optimizer.step()
            if step % _CHECK_EVERY == 0:
                loss = _test(model, *stopping)[1]
                if step - best_step > _PATIENCE * _CHECK_EVERY:
                    break
                if loss < best:
                    best, best_step = loss, step
                    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    temperature = min(_TEMPERATURES, key=lambda t: _test(model, *stopping, t)[1])
    accuracy, loss = _test(model, *testing, temperature)
    return Reading(accuracy, max(0.0, entropy - loss / np.log(2)))


def _test(
    model: nn.Module, inputs: Tensor, labels: Tensor, temperature: float = 1.0
) -> tuple[float, float]:
    """Accuracy and cross-entropy in nats."""
    with torch.no_grad():
        guesses = model.eval()(inputs) / temperature
    model.train()
    accuracy = float((guesses.argmax(-1) == labels).float().mean())
    return accuracy, float(functional.cross_entropy(guesses, labels))


def format_report(tasks: Iterable[Task]) -> str:
    """Every probe's reading, a line for each latent."""
    blocks = []
    for task in tasks:
        lines = [
            f"{task.label}: {task.classes} classes, {task.clips} clips, a quarter of them tested "
            f"({task.examples} examples)",
            f"  {'':24s}{'linear probe':>20s}{'non-linear probe':>20s}",
        ]
        for name, kinds in task.readings.items():
            cells = (f"{100 * r.accuracy:5.1f} % {r.bits:5.2f} bit" for r in kinds.values())
            lines.append(f"  {name:24s}" + "".join(f"{cell:>20s}" for cell in cells))
        most = f"{100 * task.chance:5.1f} % {0:5.2f} bit"
        lines.append(f"  {'chance':24s}{most:>20s}{most:>20s}")
        lines.append(f"  {'all there is to know':24s}{f'{task.entropy:5.2f} bit':>20s}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
