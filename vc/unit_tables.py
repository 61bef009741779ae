"""How often what comes after what, counted on training speech: the codes' and the pitch's chances.

The tables lie beside the weights of the unit coder (`tables.safetensors`). They are whole numbers,
so that every machine computes the same probabilities, as entropy coding needs.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from vc.config import FeatureConfig, UnitConfig
from vc.errors import CheckpointError
from vc.safe_write import write_bytes

TABLES_FILE = "tables.safetensors"
STEPS_AN_OCTAVE = 12  # of pitch: semitones
PITCH_CONTEXTS = 8  # what the last change of pitch was: -3 or less to 3 or more, or a pause
VOICE_STEP, VOICE_LIMIT = 0.5, 20  # standard deviations a step, steps at most

_DEEPEST_TREE = 100  # merges of merges, as brackets are written by a function that calls itself

Counts = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class UnitTables:
    """Counts, each at least 1; the last axis is what is counted."""

    classes: npt.NDArray[np.uint8]  # (codebook_size,), kind of each unit
    first: Counts  # (kinds, codebook_size): units after a unit of a kind
    second: Counts  # (kinds, codebook_size): codes of the second codebook beside a unit of a kind
    later: Counts  # (stages - 2, codebook_size): codes of the other codebooks
    voicing: Counts  # (2, run, 2): whether a frame is voiced after so many (un)voiced ones
    pitch: Counts  # (PITCH_CONTEXTS, 2 * levels - 1): change of pitch after a change of pitch
    voice: npt.NDArray[np.float32]  # (2, embedding_dim): mean and deviation among speakers
    voice_steps: Counts  # (2 * VOICE_LIMIT + 1,): steps of a speaker from the mean
    merges: npt.NDArray[np.uint16]  # (merges, 2), of kinds of units, see `vc.unit_tree`


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


def load_tables(
    path: Path, model: str, config: UnitConfig, features: FeatureConfig, embedding_dim: int
) -> tuple[UnitTables, str]:
    """Read tables and the file's checksum.

    Args:
        path: the file.
        model: checksum of autoencoder and coder.
        config: of the coder.
        features: of both.
        embedding_dim: of the autoencoder.

    Raises:
        CheckpointError: missing, damaged or of another model.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; run recipes/shipped/unit_tables.py")
    damaged = CheckpointError(f"{path}: damaged; copy the model again")
    try:
        with safe_open(path, "np") as file:
            counted_with = (file.metadata() or {}).get("model")
        data = path.read_bytes()
        tables = UnitTables(**load(data))
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        raise damaged from error
    if counted_with != model:
        raise CheckpointError(f"{path}: belongs to another model; count again with this one")
    if not _fit(tables, config, pitch_count(features), embedding_dim):
        raise damaged
    return tables, hashlib.sha256(data).hexdigest()


def pitch_count(features: FeatureConfig) -> int:
    """Levels that pitch is rounded to."""
    return 1 + math.ceil(STEPS_AN_OCTAVE * math.log2(features.f0_max / features.f0_min))


def _fit(tables: UnitTables, config: UnitConfig, levels: int, embedding_dim: int) -> bool:
    """Whether tables have the kinds, shapes and values that coding relies on."""
    size = config.codebook_size
    kinds, runs, merges = (t.shape[:1] for t in (tables.first, tables.voicing[0], tables.merges))
    shapes: dict[str, tuple[int, ...]] = {
        "classes": (size,),
        "first": (*kinds, size),
        "second": (*kinds, size),
        "later": (max(0, config.stages - 2), size),
        "voicing": (2, *runs, 2),
        "pitch": (PITCH_CONTEXTS, 2 * levels - 1),
        "voice": (2, embedding_dim),
        "voice_steps": (2 * VOICE_LIMIT + 1,),
        "merges": (*merges, 2),
    }
    types = {"classes": np.uint8, "voice": np.float32}
    for name, shape in shapes.items():
        value = getattr(tables, name)
        if value.shape != shape or value.dtype != types.get(name, np.uint16):
            return False
    counts = (tables.first, tables.second, tables.later, tables.voicing, tables.pitch)
    return (
        all((count >= 1).all() for count in (*counts, tables.voice_steps))
        and runs[0] >= 1
        and bool((tables.classes < kinds[0]).all())
        and bool(np.isfinite(tables.voice).all() and (tables.voice[1] > 0).all())
        and _tree_depth(tables.merges, kinds[0]) <= _DEEPEST_TREE
    )


def _tree_depth(merges: npt.NDArray[np.uint16], kinds: int) -> float:
    """Of the deepest symbol; infinite where a merge is made of what is not there yet."""
    depths = [0] * kinds
    for pair in merges.tolist():
        if max(pair) >= len(depths):
            return math.inf
        depths.append(1 + max(depths[symbol] for symbol in pair))
    return max(depths)
