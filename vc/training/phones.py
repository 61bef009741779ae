"""Weak phone labels for connectionist temporal classification on the content."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vc.errors import DataError
from vc.json_text import parse_json
from vc.losses import ctc_loss
from vc.training.data import SpeechData

_MOST_CUT = 1.1  # the longest clip of a batch, in multiples of its shortest


class PhoneBatch(NamedTuple):
    """Whole utterances of nearly one length, cut to the shortest."""

    log_mel: Tensor  # (batch, n_mels, frames)
    targets: Tensor  # all label sequences, one after the other; 0 is the blank
    lengths: Tensor  # (batch,), labels of each


class PhoneLabels:
    """The `phones.jsonl` of a prepared cache: rows of `name` and `phones`.

    Args:
        cache: prepared folder.
        data: speech that the labels belong to; rows for other clips are passed over.
        max_seconds: longer clips are left out.
        batch_seconds: speech in a batch.

    Raises:
        DataError: there is no such file, or it is damaged.
    """

    def __init__(
        self, cache: Path, data: SpeechData, max_seconds: float = 8.0, batch_seconds: float = 48.0
    ) -> None:
        path = cache / "phones.jsonl"
        if not path.exists():
            raise DataError(
                f"{path}: missing; make it by recipes/shipped/phones.py, or set loss.ctc = 0 "
                "(for a listener, loss.phones = 0)"
            )
        self.path = path
        self.data = data
        self.batch_frames = batch_seconds * data.features.frame_rate
        rows = _read(path)
        self.alphabet = sorted({phone for phones in rows.values() for phone in phones})
        number = {phone: i + 1 for i, phone in enumerate(self.alphabet)}
        labelled = []
        for clip, utterance in enumerate(data.utterances):
            phones = rows.get(utterance.name, [])
            frames = data.frames[clip]
            # CTC needs more (half-rate) frames than labels; far fewer labels hint at a wrong text
            if utterance.seconds <= max_seconds and frames / 60 < len(phones) < 0.35 * frames:
                labelled.append((frames, clip, [number[p] for p in phones]))
        labelled.sort(key=lambda row: (row[0], row[1]))
        self.clips = np.array([clip for _, clip, _ in labelled])
        self.labels = [torch.tensor(label) for _, _, label in labelled]

    def draw(self, generator: np.random.Generator) -> PhoneBatch:
        """A batch of neighbours in the order of length.

        Raises:
            DataError: no clip has labels that can be used.
        """
        if not len(self.clips):
            raise DataError(
                f"{self.path}: fits no clip; make it again by recipes/shipped/phones.py"
            )
        lengths = self.data.frames[self.clips]
        middle = int(generator.integers(len(self.clips)))
        count = max(2, int(self.batch_frames / lengths[middle]))
        first = min(max(0, middle - count // 2), max(0, len(self.clips) - count))
        frames = int(lengths[first])
        longer = int(np.searchsorted(lengths, _MOST_CUT * frames, side="right"))
        picks = range(first, min(first + count, longer))
        starts = self.data.starts[self.clips[first : picks.stop]]
        index = torch.from_numpy(starts[:, None] + np.arange(frames))
        return PhoneBatch(
            self.data.log_mel[index].float().transpose(1, 2),
            torch.cat([self.labels[i] for i in picks]),
            torch.tensor([len(self.labels[i]) for i in picks]),
        )


def _read(path: Path) -> dict[str, list[str]]:
    """The symbols of each utterance by its name."""
    try:
        rows = [parse_json(line) for line in path.open(encoding="utf-8")]
        return {str(row["name"]): [str(phone) for phone in row["phones"]] for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged; make it again by recipes/shipped/phones.py") from error


class PhoneHead(nn.Module):
    """Content `(batch, content_dim, content_frames)` -> phone logits of the same length."""

    def __init__(self, content_dim: int, phones: int, width: int = 192) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(content_dim, width, 5, padding=2), nn.GELU(), nn.Conv1d(width, phones + 1, 1)
        )

    def forward(self, content: Tensor) -> Tensor:
        """See the class."""
        return self.layers(content)

    def loss(self, content: Tensor, batch: PhoneBatch) -> Tensor:
        """CTC (Graves et al. 2006), a label."""
        return ctc_loss(self(content), batch.targets, batch.lengths)
