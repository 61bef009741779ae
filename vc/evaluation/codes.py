"""Do codes know phones? Purities, mutual information, and a heat map of phone by code.

Codes that nobody has named (entries of a codebook, clusters) are set against phones of known time,
frame by frame, as Hsu et al. 2021 (HuBERT, arXiv:2106.07447, section IV-A) do.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vc.errors import DataError
from vc.evaluation.judges import require
from vc.safe_write import write_bytes

MAX_CODES = 65_536  # more are no classes any more, and no table to hold in memory


class CodeTable(NamedTuple):
    """How often each code stands where each phone is spoken."""

    phones: list[str]  # in the order of the rows
    counts: npt.NDArray[np.int64]  # (phones, codes), frames


class Agreement(NamedTuple):
    """How well codes and phones go together."""

    phone_purity: float  # share of frames named right if a code is called by its commonest phone
    cluster_purity: float  # share of frames that carry the commonest code of their phone
    bits: float  # mutual information
    explained: float  # of the phones' entropy, 0 to 1 (HuBERT's "PNMI")
    normalized: float  # mutual information over the mean of both entropies, 0 to 1
    used: int  # codes that occur
    frames: int


def tabulate(phones: Sequence[str], codes: npt.NDArray[np.int64], size: int) -> CodeTable:
    """Count phones and codes of the same frames.

    Args:
        phones: the phone of each frame; frames of "" (pauses) are left out.
        codes: `(frames,)`, each in `0..size - 1`.
        size: of the codebook.

    Raises:
        DataError: lengths differ, a code is out of range, there are too many codes, or no phone.
    """
    if codes.shape != (len(phones),):
        raise DataError(f"{len(phones)} phones for codes of shape {codes.shape}: give one a frame")
    if not 2 <= size <= MAX_CODES:
        raise DataError(f"{size} codes: a table holds 2 to {MAX_CODES}")
    if len(codes) and not 0 <= codes.min() <= codes.max() < size:
        raise DataError(f"codes {codes.min()} to {codes.max()}: must lie in 0..{size - 1}")
    symbols = np.array(phones, dtype=str)
    spoken = symbols != ""
    if not spoken.any():
        raise DataError("no frame has a phone; align clips whose words are known")
    names, rows = np.unique(symbols[spoken], return_inverse=True)
    counts = np.zeros((len(names), size), dtype=np.int64)
    np.add.at(counts, (rows, codes[spoken]), 1)
    return CodeTable(names.tolist(), counts)


def agreement(table: CodeTable) -> Agreement:
    """Every figure of a table.

    The more codes and the fewer frames, the more agreement there is by chance; set beside it what
    random codes of the same size reach on the same frames.
    """
    counts = table.counts
    frames = int(counts.sum())
    joint = counts / frames
    of_phone, of_code = joint.sum(axis=1), joint.sum(axis=0)
    bits = max(0.0, _entropy(of_phone) + _entropy(of_code) - _entropy(joint.ravel()))
    both = (_entropy(of_phone) + _entropy(of_code)) / 2
    return Agreement(
        phone_purity=float(joint.max(axis=0).sum()),
        cluster_purity=float(joint.max(axis=1).sum()),
        bits=bits,
        explained=bits / _entropy(of_phone) if len(table.phones) > 1 else 0.0,
        normalized=bits / both if both > 0 else 0.0,
        used=int((of_code > 0).sum()),
        frames=frames,
    )


def _entropy(shares: npt.NDArray[np.float64]) -> float:
    """In bits."""
    positive = shares[shares > 0]
    return float(-(positive * np.log2(positive)).sum())


def order_for_the_eye(table: CodeTable) -> CodeTable:
    """The same table with its rows and columns moved so that agreement is a diagonal.

    Phones that share codes become neighbours (by the cosine of their rows, from the commonest phone
    on, always the nearest of those left); codes stand in the order of their commonest phones, and
    codes that never occur are left out.
    """
    counts = table.counts
    rows = counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-12)
    left = set(range(len(counts)))
    order = [int(counts.sum(axis=1).argmax())]
    left.discard(order[0])
    while left:
        order.append(max(sorted(left), key=lambda row: float(rows[row] @ rows[order[-1]])))
        left.discard(order[-1])
    moved = counts[order]
    moved = moved[:, moved.sum(axis=0) > 0]
    shares = moved / moved.sum(axis=0)
    columns = np.lexsort((-shares.max(axis=0), shares.argmax(axis=0)))
    return CodeTable([table.phones[row] for row in order], moved[:, columns])


def heat_map(path: Path, table: CodeTable, title: str) -> None:
    """Draw how probable each phone is where a code stands, into a PNG file.

    Raises:
        DataError: the file cannot be written.
    """
    require("matplotlib")
    from matplotlib.figure import Figure

    phones, counts = order_for_the_eye(table)
    shares = counts / counts.sum(axis=0)
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares, aspect="auto", cmap="magma_r", vmin=0, interpolation="nearest")
    axes.set_yticks(range(len(phones)), phones, fontsize=7)
    axes.set_xticks([])
    axes.set_xlabel(f"{counts.shape[1]} codes, in the order of their commonest phones")
    axes.set_title(title, fontsize=10)
    figure.colorbar(picture, label="share of the phone among a code's frames", shrink=0.8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_bytes(path, buffer.getvalue())
