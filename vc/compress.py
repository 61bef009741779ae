"""Speech in a few hundred bits a second: what the model knows of a clip, entropy-coded.

A `.vcz` file holds a head, and one stream of a range coder (Martin 1979; the library
`constriction`, Bamler 2022, arXiv:2201.01741): the speaker embedding, the voicing of each frame,
the pitch of each unit in semitones, and the codes of the first few codebooks of the unit
coder. The chances that the coder needs are counted on training speech (`vc.unit_tables`).

    bytes   what
    4       89 56 43 5A
    1       version of the format
    8       beginning of the model's checksum
    1       codebooks in use
    4, 4    sample rate in Hz, samples
    2       mel frames
    1, 1    level in half dB below full scale, middle pitch in semitones
    ...     the stream, in words of four bytes
    4       CRC-32 of all before it

All numbers are little-endian. The size of everything follows from the head, which is checked
against the stream's length before anything is made of it.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vc.audio import (
    RATES,
    Audio,
    Waveform,
    active_level_db,
    fit_length,
    normalize_level,
    resample,
)
from vc.config import FeatureConfig
from vc.convert import Clip, Converter, Reference
from vc.errors import UnitsError, VCError
from vc.pitch import PitchRange
from vc.safe_write import write_bytes
from vc.unit_tables import (
    PITCH_CONTEXTS,
    STEPS_AN_OCTAVE,
    VOICE_LIMIT,
    VOICE_STEP,
    UnitTables,
    pitch_count,
)
from vc.units import (
    MAX_DURATION_S,
    UnitModel,
    load_unit_model,
    read_small,
    restored_content,
    short_clip,
    spread_pitch,
    unit_log_f0,
)
from vc.voice import Voice

SUFFIX = ".vcz"
STAGES = {"low": 3, "medium": 6, "high": 9}  # codebooks by setting

_MAGIC, _VERSION = b"\x89VCZ", 1
_HEAD = struct.Struct("<4sB8sBIIHBB")
_CHECK = struct.Struct("<I")
_WORD = 4  # bytes
_MAX_BYTES = 1_000_000
_HIGHEST_RATE = 48_000  # Hz; a clip of a higher one comes back at this
_PAUSE_CONTEXT, _LARGEST_CHANGE = PITCH_CONTEXTS - 1, PITCH_CONTEXTS // 2 - 1


@dataclass(frozen=True)
class Compressed:
    """A compressed clip, and what its bits are spent on."""

    data: bytes
    duration_s: float
    frame_bits: int  # codes, voicing and pitch
    voice_bits: int  # the speaker embedding, once a clip

    @property
    def frame_bits_per_second(self) -> float:
        """What each further second of speech costs."""
        return self.frame_bits / self.duration_s

    @property
    def file_bits_per_second(self) -> float:
        """Of the whole file: head, voice and check too."""
        return 8 * len(self.data) / self.duration_s


@dataclass(frozen=True)
class Head:
    """What a file begins with, beside magic number, version and model."""

    stages: int  # codebooks in use
    sample_rate: int
    samples: int
    frames: int  # of mel
    level: int  # half dB below full scale
    middle: int  # median pitch in semitones above the lowest


@dataclass(frozen=True)
class Unpacked:
    """All that a file says of a clip."""

    head: Head
    speaker_embedding: np.ndarray  # (embedding_dim,)
    voiced: np.ndarray  # (frames,), 1 where voiced
    levels: np.ndarray  # (units,), pitch as `pitch_levels` gives it
    codes: np.ndarray  # (stages, units)


def compress(
    converter: Converter, clip: Clip, setting: str = "low", model: UnitModel | None = None
) -> Compressed:
    """Compress a clip.

    Args:
        converter: with a unit coder.
        clip: a file or `Audio`, at most `MAX_DURATION_S` long.
        setting: one of `STAGES`.
        model: the converter's, where it is loaded already.

    Raises:
        AudioError: the clip cannot be read, is silent, too short or too long.
        CheckpointError: the model has no units.
        VCError: an unknown setting, or `constriction` is not installed.
    """
    if setting not in STAGES:
        raise VCError(f"setting {setting!r}: choose one of {', '.join(STAGES)}")
    library = _constriction()
    model = model or load_unit_model(converter)
    audio = short_clip(clip)
    embedding = converter.embed(audio)
    stages = min(STAGES[setting], model.coder.config.stages)
    content = torch.from_numpy(embedding.content.T)[None].to(converter.device)
    with torch.inference_mode():
        codes = model.coder.encode(content, stages)[0].cpu().numpy()
    f0, features = embedding.f0, converter.features
    levels = pitch_levels(f0, model.mel_frames, features)[: codes.shape[1]]
    heard = levels[levels >= 0]
    middle = int(np.median(heard)) if len(heard) else 0
    level_db = active_level_db(audio.waveform, audio.sample_rate)
    sample_rate = min(audio.sample_rate, _HIGHEST_RATE)
    head = _HEAD.pack(
        _MAGIC,
        _VERSION,
        bytes.fromhex(model.sha256)[:8],
        stages,
        sample_rate,
        round(len(audio.waveform) * sample_rate / audio.sample_rate),
        len(f0),
        int(np.clip(round(-2 * level_db), 0, 255)),
        middle,
    )
    encoder = library.stream.queue.RangeEncoder()
    voice = quantize_voice(embedding.speaker_embedding, model.tables)
    encoder.encode(voice + VOICE_LIMIT, _model(model.tables.voice_steps))
    voice_bits = encoder.num_bits()
    coder = _Encoder(encoder)
    _code_voicing(coder, model.tables, len(f0), (f0 > 0).astype(np.int32))
    _code_pitch(coder, model.tables, levels >= 0, middle, levels)
    _code_codes(coder, model.tables, codes)
    stream = encoder.get_compressed().astype("<u4").tobytes()
    data = head + stream
    data += _CHECK.pack(zlib.crc32(data))
    return Compressed(data, audio.duration_s, 8 * len(stream) - voice_bits, voice_bits)


def decompress(
    converter: Converter,
    data: bytes,
    references: Reference | list[Reference] | None = None,
    name: str = "file",
    model: UnitModel | None = None,
) -> Audio:
    """Speak a compressed clip.

    Args:
        converter: with the unit coder that it was compressed with.
        data: the file's bytes.
        references: clips, voice files or `Voice`s to speak with; the clip's own voice by default.
        name: of the file, for messages.
        model: the converter's, where it is loaded already.

    Returns:
        As long as the clip was, at its level and its rate (48 kHz at most).

    Raises:
        UnitsError: not such a file, damaged, of another version or model, or too long.
        CheckpointError: the model has no units.
        VCError: `constriction` is not installed.
    """
    model = model or load_unit_model(converter)
    unpacked = unpack(data, model, name)
    head, voiced = unpacked.head, unpacked.voiced.astype(np.float32)
    log_f0 = level_log_f0(unpacked.levels, converter.features)
    middle = _log_f0(head.middle, converter.features)
    if references is None:
        embedding = torch.from_numpy(unpacked.speaker_embedding)
        voice = Voice(embedding, PitchRange(middle, 0.0))
    else:
        voice = converter.voice(references)
        if voice.pitch is not None:
            log_f0 = log_f0 + np.float32(voice.pitch.median - middle)
    line = spread_pitch(log_f0, model.mel_frames, converter.features)[0][: head.frames]
    content = restored_content(model, unpacked.codes)
    content = content[..., : -(-head.frames // converter.autoencoder.config.content_stride)]
    waveform = converter.speak(content, voice, torch.from_numpy(line), torch.from_numpy(voiced))
    if not np.isfinite(waveform).all():
        raise UnitsError(f"{name}: damaged; there is no such voice")
    rate = converter.features.sample_rate
    waveform = fit_length(waveform, round(head.samples * rate / head.sample_rate))
    waveform = fit_length(resample(waveform, rate, head.sample_rate), head.samples)
    return Audio(normalize_level(waveform, head.sample_rate, -head.level / 2), head.sample_rate)


def unpack(data: bytes, model: UnitModel, name: str = "file") -> Unpacked:
    """What a compressed clip says, before any network has seen it.

    Args:
        data: the file's bytes.
        model: that it was compressed with.
        name: of the file, for messages.

    Raises:
        UnitsError: not such a file, damaged, of another version or model, or too long.
        VCError: `constriction` is not installed.
    """
    library = _constriction()
    head = _read_head(data, model, name)
    tables, units = model.tables, -(-head.frames // model.mel_frames)
    words = np.frombuffer(data[_HEAD.size : -_CHECK.size], "<u4").astype(np.uint32)
    try:
        decoder = library.stream.queue.RangeDecoder(words)
        steps = decoder.decode(_model(tables.voice_steps), tables.voice.shape[1])
        coder = _Decoder(decoder)
        voiced = _code_voicing(coder, tables, head.frames)
        has_pitch = _by_unit(voiced, model.mel_frames).max(axis=1) > 0
        levels = _code_pitch(coder, tables, has_pitch, head.middle)
        codes = _code_codes(coder, tables, np.zeros((head.stages, units), np.int64))
    except (AssertionError, ValueError) as error:  # a stream that no encoder writes
        raise UnitsError(f"{name}: damaged; copy it again") from error
    embedding = restored_voice(steps - VOICE_LIMIT, tables)
    return Unpacked(head, embedding, voiced, levels, codes)


def save_compressed(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a compressed clip, whole or not at all.

    Raises:
        UnitsError: it cannot be written.
    """
    write_bytes(Path(path), data, UnitsError)


def load_compressed(path: str | os.PathLike[str]) -> bytes:
    """Read a compressed clip's bytes.

    Raises:
        UnitsError: it cannot be read, or is too large to be one.
    """
    return read_small(path, _MAX_BYTES)


def _read_head(data: bytes, model: UnitModel, name: str) -> Head:
    """The head, after all that can be checked without decoding."""
    if data[: len(_MAGIC)] != _MAGIC:
        raise UnitsError(f"{name}: not a compressed clip of this program")
    if len(data) < _HEAD.size + _CHECK.size:
        raise UnitsError(f"{name}: damaged; copy it again")
    _, version, prefix, stages, sample_rate, samples, frames, level, middle = _HEAD.unpack(
        data[: _HEAD.size]
    )
    if version != _VERSION:
        raise UnitsError(f"{name}: format {version}, but this program reads {_VERSION}; update it")
    body, check = data[: -_CHECK.size], _CHECK.unpack(data[-_CHECK.size :])[0]
    if zlib.crc32(body) != check:
        raise UnitsError(f"{name}: damaged or cut (its check sum is wrong); copy it again")
    if prefix != bytes.fromhex(model.sha256)[:8]:
        raise UnitsError(f"{name}: made with another model; it can only be read with that")
    features = model.coder.features
    impossible = UnitsError(f"{name}: damaged; what its head says cannot be")
    stream = len(body) - _HEAD.size
    if not 1 <= stages <= model.coder.config.stages or stream % _WORD:
        raise impossible
    if not RATES[0] <= sample_rate <= _HIGHEST_RATE or middle >= pitch_count(features):
        raise impossible
    duration_s = samples / sample_rate
    if duration_s > MAX_DURATION_S:
        raise UnitsError(f"{name}: longer than {MAX_DURATION_S / 60:g} minutes")
    if frames < 1 or abs(frames / features.frame_rate - duration_s) > 2 / features.frame_rate:
        raise impossible
    # were every code the likeliest, the stream would still have so many bits
    if 8 * (stream + _WORD) < _fewest_bits(model.tables, stages) * (frames // model.mel_frames):
        raise impossible
    return Head(stages, sample_rate, samples, frames, level, middle)


def _fewest_bits(tables: UnitTables, stages: int) -> float:
    counts = [tables.first, tables.second, *tables.later][:stages]
    likeliest = [(c / c.sum(axis=-1, keepdims=True)).max() for c in counts]
    return -sum(math.log2(float(p)) for p in likeliest)


def quantize_voice(speaker_embedding: np.ndarray, tables: UnitTables) -> np.ndarray:
    """Each of `(embedding_dim,)` in steps of half its standard deviation among speakers."""
    mean, scale = tables.voice
    steps = np.round((speaker_embedding - mean) / scale / VOICE_STEP)
    return steps.clip(-VOICE_LIMIT, VOICE_LIMIT).astype(np.int32)


def restored_voice(steps: np.ndarray, tables: UnitTables) -> np.ndarray:
    """The speaker embedding that `quantize_voice` stands for."""
    mean, scale = tables.voice
    return (mean + scale * VOICE_STEP * steps).astype(np.float32)


def pitch_levels(f0: Waveform, mel_frames: int, features: FeatureConfig) -> np.ndarray:
    """Semitones above the lowest F0 of each unit, `(units,)`; -1 without a voiced frame."""
    log_f0 = unit_log_f0(f0, mel_frames, 1)
    heard = np.isfinite(log_f0)
    height = (np.where(heard, log_f0, 0) - math.log(features.f0_min)) / math.log(2)
    levels = np.round(STEPS_AN_OCTAVE * height).clip(0, pitch_count(features) - 1)
    return np.where(heard, levels, -1).astype(np.int32)


def level_log_f0(levels: np.ndarray, features: FeatureConfig) -> Waveform:
    """Log-F0 of what `pitch_levels` returns; nan for -1."""
    log_f0 = _log_f0(levels.astype(np.float32), features)
    return np.where(levels >= 0, log_f0, np.nan).astype(np.float32)


def _log_f0(level: Any, features: FeatureConfig) -> Any:
    return math.log(features.f0_min) + level * (math.log(2) / STEPS_AN_OCTAVE)


def _by_unit(frames: np.ndarray, mel_frames: int) -> np.ndarray:
    return np.pad(frames, (0, -len(frames) % mel_frames)).reshape(-1, mel_frames)


class _Encoder:
    """Writes each symbol, and returns it."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder

    def code(self, model: Any, symbol: int) -> int:
        self._encoder.encode(int(symbol), model)
        return int(symbol)


class _Decoder:
    """Reads each symbol, whatever it is said to be."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    def code(self, model: Any, symbol: int) -> int:
        return int(self._decoder.decode(model))


def _code_voicing(
    coder: _Encoder | _Decoder, tables: UnitTables, frames: int, voiced: np.ndarray | None = None
) -> np.ndarray:
    """Voicing `(frames,)`; how likely it changes depends on how long it has not."""
    models = [[_model(row) for row in rows] for rows in tables.voicing]
    longest = tables.voicing.shape[1]
    coded = np.zeros(frames, np.int32)
    state, run = 0, longest
    for frame in range(frames):
        given = 0 if voiced is None else voiced[frame]
        coded[frame] = now = coder.code(models[state][run - 1], given)
        run = min(run + 1, longest) if now == state else 1
        state = now
    return coded


def _code_pitch(
    coder: _Encoder | _Decoder,
    tables: UnitTables,
    has_pitch: np.ndarray,
    middle: int,
    levels: np.ndarray | None = None,
) -> np.ndarray:
    """Pitch levels `(units,)`; each as the change from the last, given the change before that."""
    models = [_model(row) for row in tables.pitch]
    zero = tables.pitch.shape[1] // 2
    coded = np.full(len(has_pitch), -1, np.int32)
    last, context = middle, _PAUSE_CONTEXT
    for unit in range(len(has_pitch)):
        if not has_pitch[unit]:
            context = _PAUSE_CONTEXT
            continue
        given = 0 if levels is None else levels[unit] - last
        change = coder.code(models[context], given + zero) - zero
        last = min(max(last + change, 0), zero)
        coded[unit] = last
        context = pitch_context(change)
    return coded


def pitch_context(change: int) -> int:
    """Which row of the table of pitch follows a change of pitch."""
    return min(max(change, -_LARGEST_CHANGE), _LARGEST_CHANGE) + _LARGEST_CHANGE


def _code_codes(coder: _Encoder | _Decoder, tables: UnitTables, codes: np.ndarray) -> np.ndarray:
    """Codes `(stages, units)`, one codebook after the other."""
    coded = np.zeros(codes.shape, np.int64)
    kinds = tables.classes
    models = [_model(row) for row in tables.first]
    kind = 0
    for unit, code in enumerate(codes[0]):
        coded[0, unit] = coder.code(models[kind], code)
        kind = int(kinds[coded[0, unit]])
    if len(codes) > 1:
        models = [_model(row) for row in tables.second]
        for unit, code in enumerate(codes[1]):
            coded[1, unit] = coder.code(models[int(kinds[coded[0, unit]])], code)
    for stage in range(2, len(codes)):
        model = _model(tables.later[stage - 2])
        coded[stage] = [coder.code(model, code) for code in codes[stage]]
    return coded


def _model(counts: np.ndarray) -> Any:
    return _constriction().stream.model.Categorical(
        counts / counts.sum(dtype=np.float64), perfect=False
    )


def _constriction() -> Any:
    try:
        import constriction  # its modules are attributes, which cannot be imported from
    except ImportError as error:
        raise VCError(
            "compression needs the package constriction; install it: pip install 'vc[compress]'"
        ) from error
    return constriction
