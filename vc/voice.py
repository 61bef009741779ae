"""A voice: what conversion needs to know of a speaker; blended, and kept in a file.

A voice file is a safetensors file (suffix `.voice` or `.safetensors`) of about 0.3 MB: the speaker
embedding, frames that lend their details (`vc.model.details`), what the decoder has learnt of the
voice (`vc.model.tuning`) and, as JSON in its metadata, name, pitch, loudness and the checksum of
the model that listened. All this means nothing to another model, so a foreign voice is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from vc.config import AutoencoderConfig
from vc.errors import VoiceError
from vc.json_text import parse_json
from vc.model.details import MAX_FRAMES, thin_out
from vc.model.speaker_encoder import average_embeddings
from vc.model.tuning import Tuning, mix_tunings
from vc.pitch import PitchRange
from vc.safe_write import check_output, write_bytes

VOICE_SUFFIXES = (".voice", ".safetensors")
FORMAT_VERSION = 4  # 1 had no details, 2 no tuning, 3 no level; all are read still

_METADATA_KEY, _EMBEDDING, _DETAILS = "vc_voice", "speaker_embedding", "details"
_TUNING = "decoder."  # before the name of each of its tensors
_FIELDS = {"format_version", "name", "model", "pitch", "level_db", "sha256"}
_MAX_BYTES, _MAX_NAME = 1_000_000, 100


@dataclass(frozen=True)
class Voice:
    """What conversion needs to know of whose voice it imitates."""

    speaker_embedding: Tensor  # (embedding_dim,)
    pitch: PitchRange | None  # None: no voiced speech was found
    name: str = ""
    details: Tensor | None = None  # (kept, n_mels), half precision; None: has none of its own
    tuning: Tuning | None = None  # in half precision; None: the decoder knows the embedding alone
    level_db: float | None = None  # dBFS of active speech; None: is as loud as whoever it replaces


def is_voice_file(path: str | os.PathLike[str]) -> bool:
    """Whether the file's name says that it holds a voice rather than a clip."""
    return Path(path).suffix.lower() in VOICE_SUFFIXES


def blend_voices(
    voices: Sequence[Voice], weights: Sequence[float], config: AutoencoderConfig, name: str = ""
) -> Voice:
    """A voice between others: all that is known of them averaged, but for details, drawn by weight.

    Args:
        voices: one or more, of the same model.
        weights: one for each, not negative, not all 0; only their proportions count.
        config: of that model's autoencoder.
        name: of the blend.

    Raises:
        VoiceError: no voice, or weights that do not fit.
    """
    if not voices or len(voices) != len(weights):
        raise VoiceError(f"{len(voices)} voices need as many weights, not {len(weights)}")
    if not np.isfinite(weights).all() or min(weights) < 0 or sum(weights) <= 0:
        raise VoiceError("weights of a blend must not be negative, and one must be above 0")
    embeddings = torch.stack([voice.speaker_embedding for voice in voices])
    embedding = average_embeddings(embeddings, torch.tensor(weights).float(), config)
    pitch = _average([voice.pitch for voice in voices], weights)
    level_db = _average([voice.level_db for voice in voices], weights)
    shares = [weight / sum(weights) for weight in weights]
    tuning = mix_tunings([voice.tuning for voice in voices], shares)
    if tuning is not None:
        tuning = {key: tensor.half() for key, tensor in tuning.items()}
    return Voice(
        embedding,
        None if pitch is None else PitchRange(*pitch.tolist()),
        name,
        _blend_details(voices, weights),
        tuning,
        None if level_db is None else float(level_db),
    )


def _average(values: Sequence[Any], weights: Sequence[float]) -> Any:
    """The mean of those that are known and count; None where there are none."""
    known = [
        (value, weight)
        for value, weight in zip(values, weights, strict=True)
        if value is not None and weight > 0
    ]
    if not known:
        return None
    return np.average([v for v, _ in known], axis=0, weights=[weight for _, weight in known])


def _blend_details(voices: Sequence[Voice], weights: Sequence[float]) -> Tensor | None:
    """As many frames of each voice as its weight is of all; None if one that counts has none."""
    drawn = []
    for voice, weight in zip(voices, weights, strict=True):
        if weight == 0:
            continue
        if voice.details is None:
            return None
        drawn.append(thin_out(voice.details, math.ceil(MAX_FRAMES * weight / sum(weights))))
    return thin_out(torch.cat(drawn))


def save_voice(path: str | os.PathLike[str], voice: Voice, model_sha256: str) -> None:
    """Write a voice file, whole or not at all.

    Args:
        path: ends in `.voice` or `.safetensors`.
        voice: its name is kept too.
        model_sha256: of the autoencoder that the embedding comes from.

    Raises:
        VoiceError: another suffix, or the folder is missing or cannot be written.
    """
    path = Path(path)
    check_voice_name(path)
    embedding = voice.speaker_embedding.detach().float().cpu().contiguous()
    tensors = {_EMBEDDING: embedding}
    if voice.details is not None:
        tensors[_DETAILS] = voice.details.detach().half().cpu().contiguous()
    for key, tensor in (voice.tuning or {}).items():
        tensors[_TUNING + key] = tensor.detach().half().cpu().contiguous()
    description = {
        "format_version": FORMAT_VERSION,
        "name": voice.name[:_MAX_NAME],
        "model": model_sha256,
        "pitch": None if voice.pitch is None else [voice.pitch.median, voice.pitch.spread],
        "level_db": voice.level_db,
        "sha256": _hash(tensors),
    }
    data = save(tensors, {_METADATA_KEY: json.dumps(description)})
    write_bytes(path, data, VoiceError)


def check_voice_name(path: Path) -> None:
    """Refuse a file name that would not be taken for a voice when it is read again.

    Raises:
        VoiceError: another suffix, or it cannot be written there.
    """
    check_output(path, VOICE_SUFFIXES, VoiceError)


def load_voice(path: str | os.PathLike[str], model_sha256: str) -> Voice:
    """Read a voice file.

    Args:
        path: the file.
        model_sha256: of the autoencoder that is to speak with the voice.

    Raises:
        VoiceError: missing, damaged, not a voice, of another version or of another model.
    """
    path = Path(path)
    try:
        is_file, size = path.is_file(), path.stat().st_size
    except (OSError, ValueError):  # none, or a name that there cannot be
        is_file, size = False, 0
    if not is_file:
        raise VoiceError(f"{path}: no such file; check the name")
    if size > _MAX_BYTES:
        raise VoiceError(f"{path}: too large for a voice file; is it a model's weights?")
    try:
        data = path.read_bytes()  # safe_open refuses names that are not text
        tensors = load(data)
        header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")].decode())
        metadata = header.get("__metadata__") or {}
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise VoiceError(f"{path}: not a voice file, or damaged; save or copy it again") from error
    named = {name for name in tensors if not name.startswith(_TUNING)}
    known = {_EMBEDDING} <= named <= {_EMBEDDING, _DETAILS}
    if _METADATA_KEY not in metadata or not known:
        raise VoiceError(f"{path}: a safetensors file, but not a voice; use `vc voice` to make one")
    return _checked(path, metadata[_METADATA_KEY], tensors, model_sha256)


def _checked(path: Path, text: str, tensors: dict[str, Tensor], model_sha256: str) -> Voice:
    damaged = VoiceError(f"{path}: damaged; save or copy the voice again")
    try:
        stored: dict[str, Any] = parse_json(text)
        version = stored["format_version"]
    except (ValueError, TypeError, KeyError) as error:
        raise damaged from error
    if version not in range(1, FORMAT_VERSION + 1):
        raise VoiceError(
            f"{path}: voice format {version}, but this program reads {FORMAT_VERSION}; update it"
        )
    fields = _FIELDS if version > 3 else _FIELDS - {"level_db"}
    if set(stored) != fields or not isinstance(stored["name"], str):
        raise damaged
    if stored["model"] != model_sha256:
        raise VoiceError(
            f"{path}: made with another model; make the voice again from its clips with this one"
        )
    embedding, details = tensors[_EMBEDDING], tensors.get(_DETAILS)
    if embedding.dtype != torch.float32 or embedding.ndim != 1:
        raise damaged
    if details is not None and (details.dtype != torch.float16 or details.ndim != 2):
        raise damaged
    tuning = {k.removeprefix(_TUNING): v for k, v in tensors.items() if k.startswith(_TUNING)}
    if any(tensor.dtype != torch.float16 for tensor in tuning.values()):
        raise damaged
    if _hash(tensors) != stored["sha256"]:
        raise damaged
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise damaged
    pitch = stored["pitch"]
    if pitch is not None:
        try:
            pitch = PitchRange(*(float(value) for value in pitch))
        except (ValueError, TypeError, OverflowError) as error:
            raise damaged from error
        # no voice speaks below 1 Hz or above 22 kHz
        if not (0 <= pitch.median <= 10 and 0 <= pitch.spread <= 10):
            raise damaged
    level_db = stored.get("level_db")
    if level_db is not None and not (isinstance(level_db, float) and -200 <= level_db <= 200):
        raise damaged
    return Voice(embedding, pitch, stored["name"], details, tuning or None, level_db)


def _hash(tensors: dict[str, Tensor]) -> str:
    names = [name for name in (_EMBEDDING, _DETAILS) if name in tensors]
    names += sorted(name for name in tensors if name.startswith(_TUNING))
    values = [tensors[name].numpy().tobytes() for name in names]
    return hashlib.sha256(b"".join(values)).hexdigest()
