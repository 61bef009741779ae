"""What the model knows of clips, for other tasks than converting them: in Python, and as a table.

Content is instance-normalised over time, so that its mean over a whole clip says nearly nothing.
Its means over a few equal slices of time keep what is said when, in the same number of values
whatever the clip's length; that is how it is pooled here. `docs/representation.md` measures what
such vectors are worth.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from vc.convert import Clip, Embedding, load
from vc.errors import DataError
from vc.pitch import pitch_range
from vc.safe_write import check_output, write_bytes

SLICES = 4
TABLE_SUFFIXES = (".npz", ".safetensors", ".csv")

Array = npt.NDArray[Any]


def embed(clip: Clip, checkpoint: str | os.PathLike[str] | None = None) -> Embedding:
    """Both latents and the pitch of one clip.

    The model is loaded each time, a fraction of a second; for many clips load it once and use
    `vc.load().embed`.

    Args:
        clip: a file or `Audio`.
        checkpoint: model folder; the shipped one by default.

    Raises:
        AudioError: the clip cannot be read, is silent or too short.
        CheckpointError: the model cannot be read.
    """
    return load(checkpoint, vocoder="griffin-lim").embed(clip)  # nothing is synthesised


def pool_content(content: Array, slices: int = SLICES) -> Array:
    """Means of content `(frames, content_dim)` over equal slices of time, `(slices, content_dim)`.

    A clip with fewer frames than slices repeats some of them.
    """
    edges = np.linspace(0, len(content), slices + 1)
    starts = np.minimum(np.floor(edges[:-1]).astype(int), len(content) - 1)
    stops = np.maximum(np.floor(edges[1:]).astype(int), starts + 1)
    return np.stack([content[a:b].mean(axis=0) for a, b in zip(starts, stops, strict=True)])


def tabulate(
    files: Sequence[Path], embeddings: Sequence[Embedding], slices: int, frames: bool
) -> dict[str, Array]:
    """Columns of equal length, one row a clip.

    Args:
        files: one or more.
        embeddings: one for each.
        slices: of time, over which content is averaged.
        frames: add the content and the F0 of every frame, all clips' joined; the rows of clip `i`
            are those from `content_offsets[i]` to `content_offsets[i + 1]`, and so for F0.
    """
    table: dict[str, Array] = {
        "clip": np.array([str(file) for file in files]),
        "duration_s": _column(len(e.content) / e.frame_rate for e in embeddings),
        "f0_median_hz": _column(_median_hz(e) for e in embeddings),
        "f0_spread_semitones": _column(_spread_semitones(e) for e in embeddings),
        "voiced_share": _column((e.f0 > 0).mean() for e in embeddings),
        "speaker_embedding": np.stack([e.speaker_embedding for e in embeddings]),
        "content": np.stack([pool_content(e.content, slices).ravel() for e in embeddings]),
    }
    if frames:
        table["content_frames"] = np.concatenate([e.content for e in embeddings])
        table["content_offsets"] = np.cumsum([0, *(len(e.content) for e in embeddings)])
        table["f0_frames"] = np.concatenate([e.f0 for e in embeddings])
        table["f0_offsets"] = np.cumsum([0, *(len(e.f0) for e in embeddings)])
    return table


def _column(values: Any) -> Array:
    return np.array(list(values), dtype=np.float32)


def _median_hz(embedding: Embedding) -> float:
    found = pitch_range(embedding.f0)
    return float("nan") if found is None else float(np.exp(found.median))


def _spread_semitones(embedding: Embedding) -> float:
    found = pitch_range(embedding.f0)
    return float("nan") if found is None else found.spread * 12 / float(np.log(2))


def check_table_name(path: Path, frames: bool) -> None:
    """Refuse, before any work, a file that could not be written at its end.

    Raises:
        DataError: a suffix of no format, frames in a CSV, or a folder that does not exist.
    """
    check_output(path, TABLE_SUFFIXES, DataError)
    if frames and path.suffix.lower() == ".csv":
        raise DataError(f"{path}: a CSV has one row a clip; use .npz or .safetensors for frames")


def write_table(path: Path, table: dict[str, Array], model_sha256: str) -> None:
    """Write a table as its name says, whole or not at all.

    `.npz` needs NumPy alone (no pickle) and has the model's checksum in `model`; `.safetensors`
    keeps the names of the clips (`clip`, JSON) and the model in its metadata; `.csv` has one row
    a clip, with numbered columns for vectors.

    Raises:
        DataError: another suffix, or it cannot be written.
    """
    check_table_name(path, "content_frames" in table)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        data = io.BytesIO()
        np.savez(data, allow_pickle=False, model=np.array(model_sha256), **table)
        write_bytes(path, data.getvalue())
    elif suffix == ".safetensors":
        arrays = {k: np.ascontiguousarray(v) for k, v in table.items() if k != "clip"}
        names = json.dumps(table["clip"].tolist())
        write_bytes(path, save(arrays, {"model": model_sha256, "clip": names}))
    else:
        write_bytes(path, _csv(table).encode("utf-8", "surrogateescape"))


def _csv(table: dict[str, Array]) -> str:
    header: list[str] = []
    for name, values in table.items():
        width = 1 if values.ndim == 1 else values.shape[1]
        header += [name] if values.ndim == 1 else [f"{name}_{i:03d}" for i in range(width)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in zip(*table.values(), strict=True):
        numbers = [f"{v:.6g}" for value in row[1:] for v in np.atleast_1d(value)]
        writer.writerow([row[0], *numbers])
    return text.getvalue()
