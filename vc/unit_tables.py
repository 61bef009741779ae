"""How often what comes after what, counted on training speech: the codes' and the pitch's chances.

The tables lie beside the weights of the unit coder (`tables.safetensors`). They are whole numbers,
so that every machine computes the same probabilities, as entropy coding needs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vc.errors import CheckpointError
from vc.safe_write import write_bytes

TABLES_FILE = "tables.safetensors"

Counts = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class UnitTables:
    """Counts, each at least 1; the last axis is what is counted."""

    classes: npt.NDArray[np.uint8]  # (codebook_size,), kind of each unit
    first: Counts  # (kinds, codebook_size): units after a unit of a kind
    second: Counts  # (kinds, codebook_size): codes of the second codebook beside a unit of a kind
    later: Counts  # (stages - 2, codebook_size): codes of the other codebooks
    voicing: Counts  # (2, run, 2): whether a frame is voiced after so many (un)voiced ones
    pitch: Counts  # (contexts, 2 * levels - 1): change of pitch after a change of pitch
    voice: npt.NDArray[np.float32]  # (2, embedding_dim): mean and deviation among speakers
    merges: npt.NDArray[np.uint16]  # (merges, 2), see `vc.unit_tree`


def save_tables(path: Path, tables: UnitTables, model: str) -> str:
    """Write tables beside the coder that they were counted with.

    Args:
        path: the file.
        tables: all of them.
        model: checksum of autoencoder and coder, as `vc.units` makes it.

    Returns:
        The file's checksum.
    """
    tensors = {name: np.ascontiguousarray(value) for name, value in vars(tables).items()}
    data = save(tensors, {"model": model})
    write_bytes(path, data, CheckpointError)
    return hashlib.sha256(data).hexdigest()


def load_tables(path: Path, model: str) -> tuple[UnitTables, str]:
    """Read tables and the file's checksum.

    Raises:
        CheckpointError: missing, damaged or of another model.
    """
    try:
        data = path.read_bytes()
        with safe_open(path, "np") as file:
            counted_with = (file.metadata() or {}).get("model")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing; run recipes/shipped/unit_tables.py") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged; copy the model again") from error
    if counted_with != model:
        raise CheckpointError(f"{path}: belongs to another model; count again with this one")
    if set(tensors) != {field.name for field in fields(UnitTables)}:
        raise CheckpointError(f"{path}: damaged; copy the model again")
    return UnitTables(**tensors), hashlib.sha256(data).hexdigest()
