"""Speech as text: a clip becomes a list of units that can be read, edited, sent and spoken again.

    vc units 1
    model 5b1c0f6a2d9e
    middle 118 Hz
    # unit : frames of 48 ms : semitones from the middle (none where unvoiced)
    812:2 17:3:+1.5 640:1:+1 ...

A unit is the code of the first codebook of the unit coder (`vc.model.unit_coder`); the same unit
over several frames is one token, with one pitch. Who spoke is not in the text: whoever decodes it
says in whose voice. Brackets may stand around tokens and say which belong together
(`vc.unit_tree`); they change nothing. What follows a `#` is not read.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from vc.audio import Audio, Waveform, check_speech, normalize_level, read_audio
from vc.checkpoint import load_unit_coder, weights_sha256
from vc.config import FeatureConfig
from vc.convert import Clip, Converter, Reference
from vc.errors import AudioError, CheckpointError, UnitsError
from vc.model.unit_coder import UnitCoder
from vc.pitch import Pitch
from vc.safe_write import write_bytes
from vc.unit_tables import TABLES_FILE, UnitTables, load_tables
from vc.unit_tree import bracketed, grow_trees

FORMAT_VERSION = 1
MAX_DURATION_S = 300.0  # of what is coded as one piece: speaking so much takes 1.7 GB
SUFFIX = ".units"

_TOKENS_A_LINE = 8
_MAX_BYTES = 1_000_000
_MAX_SEMITONES = 36.0  # from the middle; what was tracked further away was tracked wrongly
_MODEL_DIGITS = 12
_TOKEN = re.compile(r"(\d{1,6}):(\d{1,6})(?::([+-]?\d{1,2}(?:\.\d{1,2})?))?", re.ASCII)
_PIECES = re.compile(r"[()]|[^\s()]+")


class Run(NamedTuple):
    """A unit that lasts for a while."""

    unit: int
    frames: int  # of units
    semitones: float | None  # from the clip's middle; None where unvoiced


@dataclass(frozen=True)
class Units:
    """What a clip says, as symbols."""

    runs: tuple[Run, ...]
    middle_hz: float  # median F0 of who said it
    model: str  # checksum of the model, or its beginning

    @property
    def frames(self) -> int:
        """Units in all, repetitions counted."""
        return sum(run.frames for run in self.runs)


@dataclass(frozen=True)
class UnitModel:
    """What makes units of a converter's content, and content of units."""

    coder: UnitCoder
    tables: UnitTables
    sha256: str  # of autoencoder, coder and tables together
    mel_frames: int  # that a unit lasts


def load_unit_model(converter: Converter) -> UnitModel:
    """The unit coder that belongs to a converter.

    Raises:
        CheckpointError: the model has none, or one of another model.
    """
    folder = converter.folder / "units" if converter.folder is not None else None
    if folder is None or not folder.is_dir():
        raise CheckpointError("this model has no units; train them (recipes/shipped/units.toml)")
    coder = load_unit_coder(folder)
    model = counted_model(converter, coder)
    config = converter.autoencoder.config
    tables, tables_sha256 = load_tables(
        folder / TABLES_FILE, model, coder.config, coder.features, config.embedding_dim
    )
    sha256 = hashlib.sha256(f"{model} {tables_sha256}".encode()).hexdigest()
    mel_frames = config.content_stride * coder.config.stride
    return UnitModel(coder.to(converter.device), tables, sha256, mel_frames)


def counted_model(converter: Converter, coder: UnitCoder) -> str:
    """Checksum of autoencoder and coder: what tables are counted with."""
    parts = f"{converter.model_sha256} {weights_sha256(coder)}"
    return hashlib.sha256(parts.encode()).hexdigest()


def encode_units(
    converter: Converter, clip: Clip, flat: bool = False, model: UnitModel | None = None
) -> Units:
    """A clip as units.

    Args:
        converter: with a unit coder.
        clip: a file or `Audio`, at most `MAX_DURATION_S` long.
        flat: leave the melody out: every voiced unit lies at the middle.
        model: the converter's, where it is loaded already.

    Raises:
        AudioError: the clip cannot be read, is silent, too short or too long.
        CheckpointError: the model has no units.
    """
    model = model or load_unit_model(converter)
    embedding = converter.embed(short_clip(clip))
    content = torch.from_numpy(embedding.content.T)[None].to(converter.device)
    with torch.inference_mode():
        codes = model.coder.encode(content, 1)[0, 0].cpu().numpy()
    log_f0 = unit_log_f0(embedding.f0, model.mel_frames, model.mel_frames // 2 + 1)[: len(codes)]
    voiced = np.isfinite(log_f0)
    middle = float(np.median(log_f0[voiced])) if voiced.any() else math.log(150.0)
    features = converter.features  # a pitch may be tracked a little beyond the limits of these
    middle = min(max(middle, math.log(features.f0_min)), math.log(features.f0_max))
    runs: list[Run] = []
    edges = np.flatnonzero(np.diff(codes)) + 1
    for part in np.split(np.arange(len(codes)), edges):
        pitches = log_f0[part][voiced[part]]
        semitones = None
        if 2 * len(pitches) >= len(part):
            moved = 12 / math.log(2) * (float(pitches.mean()) - middle)
            moved = min(max(moved, -_MAX_SEMITONES), _MAX_SEMITONES)
            semitones = 0.0 if flat else round(2 * moved) / 2
        runs.append(Run(int(codes[part[0]]), len(part), semitones))
    return Units(tuple(runs), round(math.exp(middle), 1), model.sha256)


def short_clip(clip: Clip) -> Audio:
    """A clip that may be coded as one piece.

    Raises:
        AudioError: it cannot be read, is silent, too short or longer than `MAX_DURATION_S`.
    """
    if isinstance(clip, Audio):
        audio, name = clip, "clip"
    else:
        audio, name = read_audio(clip, MAX_DURATION_S), str(Path(clip))
    if audio.duration_s > MAX_DURATION_S:
        raise AudioError(f"{name}: longer than {MAX_DURATION_S / 60:g} minutes; cut it")
    check_speech(audio, name)
    return audio


def unit_log_f0(f0: Waveform, mel_frames: int, least: int) -> Waveform:
    """Mean log-F0 of each unit, nan where it has too few voiced frames.

    Args:
        f0: `(frames,)` in Hz, 0 where unvoiced.
        mel_frames: that a unit lasts.
        least: voiced ones that it needs.

    Returns:
        `(units,)`; the last unit may have fewer frames.
    """
    padded = np.pad(f0, (0, -len(f0) % mel_frames)).reshape(-1, mel_frames)
    voiced = padded > 0
    total = np.where(voiced, np.log(np.maximum(padded, 1.0)), 0).sum(axis=1)
    counts = voiced.sum(axis=1)
    mean = total / np.maximum(counts, 1)
    return np.where(counts >= least, mean, np.nan).astype(np.float32)


def decode_units(
    converter: Converter,
    units: Units,
    references: Reference | list[Reference],
    pitch: Pitch = "match",
    model: UnitModel | None = None,
) -> Audio:
    """Speak units in the references' voice.

    Args:
        converter: with the unit coder that made them.
        units: what to say.
        references: clips, voice files or `Voice`s of the wanted speaker.
        pitch: "match" puts the middle at the references' median F0, "keep" where the text says,
            a number that many semitones from there.
        model: the converter's, where it is loaded already.

    Returns:
        At the model's rate and level.

    Raises:
        UnitsError: made with another model, or nothing to say.
        AudioError: a reference cannot be used.
        VoiceError: a voice file cannot be used.
        CheckpointError: the model has no units.
    """
    model = model or load_unit_model(converter)
    if not units.runs:
        raise UnitsError("there are no units to speak")
    if not model.sha256.startswith(units.model):
        raise UnitsError("these units were made with another model; encode the clip with this one")
    voice = converter.voice(references)
    middle = math.log(units.middle_hz)
    if pitch == "match" and voice.pitch is not None:
        middle = voice.pitch.median
    elif isinstance(pitch, (int, float)):
        middle += pitch * math.log(2) / 12
    lengths = [run.frames for run in units.runs]
    codes = np.repeat([run.unit for run in units.runs], lengths)
    heights = [np.nan if run.semitones is None else run.semitones for run in units.runs]
    semitones = np.repeat(heights, lengths)
    log_f0, voiced = spread_pitch(
        (middle + semitones * math.log(2) / 12).astype(np.float32),
        model.mel_frames,
        converter.features,
    )
    content = restored_content(model, codes[None])
    waveform = converter.speak(content, voice, *(torch.from_numpy(x) for x in (log_f0, voiced)))
    features = converter.features
    return Audio(
        normalize_level(waveform, features.sample_rate, features.level_db), features.sample_rate
    )


def spread_pitch(
    log_f0: Waveform, mel_frames: int, features: FeatureConfig
) -> tuple[Waveform, Waveform]:
    """Log-F0 of units `(units,)`, nan where unvoiced -> for each mel frame, and which are voiced.

    Between the middles of units the pitch is a straight line, through unvoiced units too. It stays
    where models have heard speech, whatever an edited text asks for.
    """
    limits = np.log([features.f0_min, features.f0_max])
    frames = np.arange(len(log_f0) * mel_frames)
    voiced = np.isfinite(log_f0)
    if not voiced.any():
        return np.full(len(frames), math.log(150.0), np.float32), np.zeros(len(frames), np.float32)
    middles = np.flatnonzero(voiced) * mel_frames + (mel_frames - 1) / 2
    line = np.interp(frames, middles, log_f0[voiced].clip(*limits))
    return line.astype(np.float32), np.repeat(voiced, mel_frames).astype(np.float32)


def restored_content(model: UnitModel, codes: np.ndarray) -> torch.Tensor:
    """Content `(1, content_dim, content_frames)` of codes `(stages, units)`."""
    device = model.coder.restore_embed.weight.device
    with torch.inference_mode():
        return model.coder.decode(torch.from_numpy(codes.astype(np.int64))[None].to(device))


def tokens(units: Units) -> list[str]:
    """Each run as it is written."""
    return [
        f"{run.unit}:{run.frames}" + ("" if run.semitones is None else f":{run.semitones:+g}")
        for run in units.runs
    ]


def format_units(units: Units, model: UnitModel, tree: bool = False) -> str:
    """The text of a units file; with `tree`, frequent pieces in brackets, one a line."""
    unit_ms = 1000 * model.mel_frames / model.coder.features.frame_rate
    written = tokens(units)
    if tree:
        kinds = model.tables.classes[[run.unit for run in units.runs]]
        trees = grow_trees(kinds.tolist(), model.tables.merges, len(model.tables.first))
        lines = [bracketed(piece, written) for piece in trees]
    else:
        starts = range(0, len(written), _TOKENS_A_LINE)
        lines = [" ".join(written[start : start + _TOKENS_A_LINE]) for start in starts]
    head = [
        f"vc units {FORMAT_VERSION}",
        f"model {units.model[:_MODEL_DIGITS]}",
        f"middle {units.middle_hz:g} Hz",
        f"# unit : frames of {unit_ms:g} ms : semitones from the middle (none where unvoiced)",
    ]
    return "\n".join([*head, *lines, ""])


def parse_units(text: str, model: UnitModel, name: str = "units") -> Units:
    """Read the text of a units file, brackets or not.

    Args:
        text: all of it.
        model: that is to speak it.
        name: of the file, for messages.

    Raises:
        UnitsError: not such a text, of another version or model, or a line that is wrong.
    """
    lines = _meaningful(text)
    head = [next(lines, (1, "")) for _ in range(3)]
    (version_at, version), (model_at, model_line), (middle_at, middle_line) = head
    if not (found := re.fullmatch(r"vc units ([0-9]{1,4})", version)):
        raise UnitsError(f"{name}, line {version_at}: not a units file; begin it with 'vc units 1'")
    if int(found[1]) != FORMAT_VERSION:
        raise UnitsError(
            f"{name}: format {found[1]}, but this program reads {FORMAT_VERSION}; update it"
        )
    if not (found := re.fullmatch(rf"model ([0-9a-f]{{{_MODEL_DIGITS}}})", model_line)):
        raise UnitsError(f"{name}, line {model_at}: should say 'model' and {_MODEL_DIGITS} digits")
    if not model.sha256.startswith(found[1]):
        raise UnitsError(f"{name}: made with another model; encode the clip with this one")
    sha256 = found[1]
    found = re.fullmatch(r"middle ([0-9]{1,4}(?:\.[0-9]{1,3})?) Hz", middle_line)
    features = model.coder.features
    if not found or not features.f0_min <= float(found[1]) <= features.f0_max:
        limits = f"{features.f0_min:g} to {features.f0_max:g}"
        raise UnitsError(f"{name}, line {middle_at}: should say 'middle', {limits}, and 'Hz'")
    middle = float(found[1])
    # a clip has a frame more than it has hops
    limit = math.ceil((MAX_DURATION_S * features.frame_rate + 1) / model.mel_frames)
    runs: list[Run] = []
    total, depth = 0, 0
    for at, line in lines:
        for piece in _PIECES.findall(line):
            if piece in "()":
                depth += 1 if piece == "(" else -1
                if depth < 0:
                    raise UnitsError(f"{name}, line {at}: a bracket closes that was not opened")
                continue
            run = _parse_run(piece, model.coder.config.codebook_size, f"{name}, line {at}")
            total += run.frames
            if total > limit:
                raise UnitsError(
                    f"{name}, line {at}: here it gets longer than {MAX_DURATION_S / 60:g} minutes"
                )
            runs.append(run)
    if depth:
        raise UnitsError(f"{name}: {depth} brackets are not closed")
    if not runs:
        raise UnitsError(f"{name}: no units after the head; the file is cut")
    return Units(tuple(runs), middle, sha256)


def _parse_run(piece: str, size: int, place: str) -> Run:
    found = _TOKEN.fullmatch(piece)
    if found is None:
        raise UnitsError(f"{place}: {piece[:40]!r} should be unit:frames or unit:frames:semitones")
    unit, frames = int(found[1]), int(found[2])
    if unit >= size:
        raise UnitsError(f"{place}: '{piece}': units go from 0 to {size - 1}")
    if frames < 1:
        raise UnitsError(f"{place}: '{piece}': a unit lasts for at least 1 frame")
    semitones = None if found[3] is None else float(found[3])
    if semitones is not None and abs(semitones) > _MAX_SEMITONES:
        raise UnitsError(f"{place}: '{piece}': at most {_MAX_SEMITONES:g} semitones up or down")
    return Run(unit, frames, semitones)


def _meaningful(text: str) -> Iterator[tuple[int, str]]:
    """Lines that say something, with their numbers."""
    for number, line in enumerate(text.splitlines(), 1):
        said = line.partition("#")[0].strip()
        if said:
            yield number, said


def save_units(path: str | os.PathLike[str], text: str) -> None:
    """Write the text of a units file, whole or not at all.

    Raises:
        UnitsError: it cannot be written.
    """
    write_bytes(Path(path), text.encode(), UnitsError)


def load_units(path: str | os.PathLike[str], model: UnitModel) -> Units:
    """Read a units file.

    Raises:
        UnitsError: it cannot be read, or a line is wrong.
    """
    try:
        text = read_small(path, _MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnitsError(f"{path}: not a text; units begin with 'vc units 1'") from error
    return parse_units(text, model, str(path))


def read_small(path: str | os.PathLike[str], most_bytes: int) -> bytes:
    """All bytes of a file, which may be anything that has a name.

    Raises:
        UnitsError: it cannot be read, or there is more of it than that.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise UnitsError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # a name that there cannot be
        raise UnitsError(f"{path!r}: no such file; check the name") from error
    if len(data) > most_bytes:
        raise UnitsError(f"{path}: too large for speech as units; is it another file?")
    return data
