"""What is fuzzed: one row for each kind of file that the program reads.

A reader is given the path of a file with hostile content. It may return or raise a `VCError`;
anything else is a finding. To fuzz another format, add a row to `READERS`.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile
import torch
from torch import nn

from vc.audio import Audio, check_speech, file_duration_s, read_audio
from vc.batch import Settings
from vc.batch.ledger import Ledger
from vc.batch.plan import plan
from vc.checkpoint import load_autoencoder, load_vocoder, save_checkpoint, weights_sha256
from vc.compress import compress, decompress, load_compressed, unpack
from vc.config import (
    AutoencoderConfig,
    FeatureConfig,
    UnitConfig,
    VocoderConfig,
    from_dict,
    read_recipe,
)
from vc.convert import Converter
from vc.corpus import MANIFEST, read_manifest, read_speakers
from vc.evaluation.results import read_results
from vc.evaluation.score import read_pairs
from vc.layouts import find_clips
from vc.model.autoencoder import Autoencoder
from vc.model.unit_coder import UnitCoder
from vc.pitch import PitchRange
from vc.training.autoencoder import AutoencoderRecipe
from vc.training.loop import load_state, save_state
from vc.unit_tables import (
    PITCH_CONTEXTS,
    VOICE_LIMIT,
    UnitTables,
    load_tables,
    pitch_count,
    save_tables,
)
from vc.units import (
    UnitModel,
    encode_units,
    format_units,
    load_units,
    parse_units,
)
from vc.vocoder.source_filter import SourceFilterVocoder
from vc.voice import Voice, load_voice, save_voice
from vc.voice_prior import fit_prior, load_prior, save_prior

MAX_CLIP_S = 60.0  # of a fuzzed clip: longer ones are refused, so that a run is not spent on them
_AUTOENCODER = AutoencoderConfig(
    width=8,
    tract_width=8,
    tract_blocks=1,
    content_blocks=1,
    content_dim=4,
    speaker_width=8,
    speaker_blocks=1,
    speaker_dim=8,
    decoder_blocks=1,
    f0_bands=4,
)
_UNITS = UnitConfig(
    content_dim=4,
    width=8,
    encoder_blocks=1,
    decoder_blocks=1,
    code_dim=4,
    codebook_size=16,
    stages=3,
)
_VOCODER = VocoderConfig(width=8, blocks=1, n_fft=256)


@dataclass(frozen=True)
class Reader:
    """One kind of file.

    `read` is given a file's path and a folder that it may write to; `seeds` yields the contents
    that fuzzing starts from, all of them valid or nearly so.
    """

    read: Callable[[Path, Path], None]
    seeds: Callable[[Path], Iterator[bytes]]
    words: tuple[str, ...] = ()  # that mutations may put in


def _audio(path: Path, folder: Path) -> None:
    file_duration_s(path)
    check_speech(read_audio(path, MAX_CLIP_S), "clip")


def _audio_seeds(folder: Path) -> Iterator[bytes]:
    tone = 0.3 * np.sin(np.arange(4_000) / 7.0)
    kinds = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("WAVEX", "PCM_24")]
    kinds += [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]
    kinds += [("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "ALAC_16"), ("W64", "PCM_16")]
    for container, subtype in kinds:
        for channels in (1, 2):
            path = folder / "seed"
            samples = np.tile(tone[:, None], (1, channels))
            soundfile.write(path, samples, 16_000, subtype=subtype, format=container)
            yield path.read_bytes()
    yield b"\x1a\x45\xdf\xa3" + bytes(40)  # Matroska, which is left to ffmpeg
    yield bytes(4) + b"ftypM4A " + bytes(40)


@lru_cache(maxsize=1)
def _models(folder: Path) -> tuple[Path, str]:
    """A tiny model, and its checksum."""
    torch.manual_seed(0)
    place, features = folder / "model", FeatureConfig()
    model = Autoencoder(_AUTOENCODER, features)
    save_checkpoint(model, place / "autoencoder", 1, {"mel": 0.5})
    save_checkpoint(SourceFilterVocoder(_VOCODER, features), place / "vocoder", 1, {})
    return place, weights_sha256(model)


def _description(path: Path, folder: Path) -> None:
    place, _ = _models(folder)
    (place / "autoencoder" / "config.json").write_bytes(path.read_bytes())
    load_autoencoder(place / "autoencoder")


def _description_seeds(folder: Path) -> Iterator[bytes]:
    place, _ = _models(folder)
    for part in ("autoencoder", "vocoder"):
        yield (place / part / "config.json").read_bytes()
        yield json.dumps(json.loads((place / part / "config.json").read_text())).encode()


def _weights(path: Path, folder: Path) -> None:
    """The checksum is made to fit, or nothing would come past it."""
    place, _ = _models(folder)
    data, config = path.read_bytes(), place / "vocoder" / "config.json"
    (place / "vocoder" / "model.safetensors").write_bytes(data)
    stored = json.loads(config.read_text())
    config.write_text(json.dumps(stored | {"sha256": hashlib.sha256(data).hexdigest()}))
    load_vocoder(place / "vocoder")


def _weights_seeds(folder: Path) -> Iterator[bytes]:
    place, _ = _models(folder)
    for part in ("vocoder", "autoencoder"):
        yield (place / part / "model.safetensors").read_bytes()


def _voice(path: Path, folder: Path) -> None:
    load_voice(path, "0" * 64)


def _voice_seeds(folder: Path) -> Iterator[bytes]:
    for pitch in (PitchRange(4.8, 0.2), None):
        save_voice(folder / "seed.voice", Voice(torch.ones(8), pitch, "Ann"), "0" * 64)
        yield (folder / "seed.voice").read_bytes()


def _prior(path: Path, folder: Path) -> None:
    prior = load_prior(path, "0" * 64)
    prior.sample(
        0, AutoencoderConfig(n_mels=1, tract_width=0, content_coefficients=1, speaker_dim=2)
    )


def _prior_seeds(folder: Path) -> Iterator[bytes]:
    vectors = np.random.default_rng(0).normal(5, 1, (6, 6)).astype(np.float32)
    save_prior(folder / "seed", fit_prior(vectors, 2, vectors), "0" * 64)
    yield (folder / "seed").read_bytes()


@lru_cache(maxsize=1)
def _converter() -> Converter:
    torch.manual_seed(0)
    return Converter(Autoencoder(_AUTOENCODER, FeatureConfig()).eval(), None)


@lru_cache(maxsize=1)
def _unit_model() -> UnitModel:
    """A tiny coder whose tables find some things likelier than others."""
    features, generator = FeatureConfig(), np.random.default_rng(0)
    size, kinds, changes = _UNITS.codebook_size, 4, 2 * pitch_count(features) - 1

    def counts(*shape: int) -> Any:
        return generator.integers(1, 1_000, shape, np.uint16)

    tables = UnitTables(
        classes=(np.arange(size) % kinds).astype(np.uint8),
        first=counts(kinds, size),
        second=counts(kinds, size),
        later=counts(_UNITS.stages - 2, size),
        voicing=counts(2, 3, 2),
        pitch=counts(PITCH_CONTEXTS, changes),
        voice=np.ones((2, _AUTOENCODER.embedding_dim), np.float32),
        voice_steps=counts(2 * VOICE_LIMIT + 1),
        merges=np.array([[1, 2], [kinds, 3]], np.uint16),
    )
    return UnitModel(UnitCoder(_UNITS, features).eval(), tables, "ab" * 32, _UNITS.stride)


def _clip(seconds: float, sample_rate: int) -> Audio:
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    tone = np.sin(2 * np.pi * 120 * time) * (np.sin(2 * np.pi * 2 * time) > -0.3)
    return Audio((0.1 * tone).astype(np.float32), sample_rate)


def _units(path: Path, folder: Path) -> None:
    """What is read can be written, and says the same again."""
    model = _unit_model()
    units = load_units(path, model)
    for tree in (False, True):
        assert parse_units(format_units(units, model, tree), model).runs == units.runs


def _units_seeds(folder: Path) -> Iterator[bytes]:
    model = _unit_model()
    units = encode_units(_converter(), _clip(1.0, 16_000), model=model)
    yield format_units(units, model).encode()
    yield format_units(units, model, tree=True).encode()
    head = "\n".join(format_units(units, model).splitlines()[:3])
    yield f"{head}\n(7:2:+1.5 8:1) 9:3:-2  # said\n".encode()


def _compressed(path: Path, folder: Path) -> None:
    """The check sum is made to fit, or nothing would come past it; what is short is spoken."""
    model, data = _unit_model(), path.read_bytes()
    if len(data) >= 4:
        path.write_bytes(data[:-4] + struct.pack("<I", zlib.crc32(data[:-4])))
    data = load_compressed(path)
    unpacked = unpack(data, model, str(path))
    assert unpacked.codes.max() < _UNITS.codebook_size, "a code that there is not"
    assert np.isfinite(unpacked.speaker_embedding).all(), "a voice that there cannot be"
    if unpacked.head.frames < 100:
        spoken = decompress(_converter(), data, name=str(path), model=model)
        assert np.isfinite(spoken.waveform).all(), "speech that is no sound"


def _compressed_seeds(folder: Path) -> Iterator[bytes]:
    for seconds, sample_rate in ((0.5, 8_000), (1.0, 44_100)):
        for setting in ("low", "high"):
            clip = _clip(seconds, sample_rate)
            yield compress(_converter(), clip, setting, _unit_model()).data


def _unit_tables(path: Path, folder: Path) -> None:
    load_tables(path, "0" * 64, _UNITS, FeatureConfig(), _AUTOENCODER.embedding_dim)


def _unit_tables_seeds(folder: Path) -> Iterator[bytes]:
    save_tables(folder / "seed", _unit_model().tables, "0" * 64)
    yield (folder / "seed").read_bytes()


def _task() -> Any:
    module = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return SimpleNamespace(modules={"net": module}, optimizers={"net": optimizer})


def _state(path: Path, folder: Path) -> None:
    load_state(_task(), path)


def _state_seeds(folder: Path) -> Iterator[bytes]:
    save_state(_task(), folder / "seed", 3)
    yield (folder / "seed").read_bytes()


def _recipe(path: Path, folder: Path) -> None:
    values = read_recipe(path)
    values.pop("kind", None)
    from_dict(AutoencoderRecipe, values)


def _recipe_seeds(folder: Path) -> Iterator[bytes]:
    yield b'kind = "autoencoder"\n[autoencoder]\nwidth = 64\n[run]\nsteps = 3\n'
    yield b'[features]\nf_max = 7e3\n[data.corpus_weights]\nx = 0.5\n[run]\nfresh = ["decoder"]\n'
    yield b'base = "no.toml"\n[loss]\nmel = 1.0\n'


def _manifest(path: Path, folder: Path) -> None:
    cache = folder / "cache"
    cache.mkdir(exist_ok=True)
    (cache / MANIFEST).write_bytes(path.read_bytes())
    for row in read_manifest(cache):
        assert isinstance(row.name, str) and isinstance(row.seconds, float)


def _manifest_seeds(folder: Path) -> Iterator[bytes]:
    row = {"name": "a/b/c", "corpus": "a", "speaker": "a/b", "split": "train", "seconds": 1.5}
    facts = {"sample_rate": 16000, "level_db": -26.0, "snr_db": 30.0, "clipped": 0.0}
    facts |= {"silent": 0.1, "sound": "00ff"}
    yield json.dumps(row).encode() + b"\n"
    yield json.dumps(row | {"facts": facts, "text": "hello", "stamp": "1-2-3"}).encode() + b"\n"


def _corpus_table(path: Path, folder: Path) -> None:
    table = path.with_suffix(".tsv" if path.read_bytes()[:1] == b"\t" else ".csv")
    os.replace(path, table)
    list(find_clips(table))


def _corpus_table_seeds(folder: Path) -> Iterator[bytes]:
    yield b"path,speaker,text,corpus\na/b.wav,ann,hello,x\nclip,bob,,\n"
    yield b"\tpath\tspeaker\n\ta.wav\tann\n"


def _speakers(path: Path, folder: Path) -> None:
    read_speakers(path)


def _speakers_seeds(folder: Path) -> Iterator[bytes]:
    yield b"corpus\tspeaker\nvctk\tp225\nx\ty\n"


def _batch_manifest(path: Path, folder: Path) -> None:
    """Whatever a manifest says, no result may lie outside the output folder."""
    table = path.with_suffix(".jsonl" if path.read_bytes()[:1] in (b"{", b"[") else ".csv")
    os.replace(path, table)
    output = folder / "output"
    output.mkdir(exist_ok=True)
    for task in plan([table], {"": (folder / "reference.wav",)}, output, Settings()):
        if not task.problem:
            assert task.output.resolve().is_relative_to(output), "a result leaves the folder"
            task.output.exists()  # a name that no file can have raises
            os.fsencode(task.source)


def _batch_manifest_seeds(folder: Path) -> Iterator[bytes]:
    yield b"source,output\na.wav,b.wav\n../c.flac,d/e.flac\n/x.mp3,\n"
    yield b'{"source": "a.wav"}\n{"source": "b.wav", "output": "../../c.wav"}\n'


def _ledger(path: Path, folder: Path) -> None:
    with Ledger(path) as ledger:
        for record in ledger.records.values():
            record.get("key")


def _ledger_seeds(folder: Path) -> Iterator[bytes]:
    yield b'{"output": "a.wav"}\n{"output": "a.wav", "key": "0f", "sha256": "ff"}\n{"outp'


def _pairs(path: Path, folder: Path) -> None:
    read_pairs(path, folder)


def _pairs_seeds(folder: Path) -> Iterator[bytes]:
    yield b"set\tsource\treference\ttranscript\nx\ta.wav\tb.wav;c.wav\thello\ny\td.wav\te.wav\t\n"
    yield b"source\treference\tlanguage\na.wav\tb.wav\tde\n"


def _scores(path: Path, folder: Path) -> None:
    read_results(path)


def _scores_seeds(folder: Path) -> Iterator[bytes]:
    row: dict[str, Any] = {"name": "a--b--c", "group": "a", "genuine_trials": [0.5]}
    row |= {"converted_trials": []}
    names = "to_reference to_source nearer_reference accepted f0_correlation semitones_off p808"
    names += " f0_correlation_harvest overall source_p808 source_overall cer_own cer wer"
    row |= dict.fromkeys(f"{names} source_cer source_wer".split(), 0.5)
    system = {"name": "x", "kind": "model"}
    for version in (1, 2, 3):
        content = {"format_version": version, "system": system, "judges": {"a": "1"}}
        yield json.dumps(content | {"pairs": [row]}).encode()


_JSON = ("null", "true", "NaN", "1e999", "[[", "{", '"', "\\ud800", "\\u0000", "-1", "1e400")

READERS: dict[str, Reader] = {
    "audio": Reader(_audio, _audio_seeds, ("RIFF", "fmt ", "data", "fLaC", "OggS", "COMM")),
    "voice": Reader(_voice, _voice_seeds, ("F32", "F16", "BF16", "vc_voice", *_JSON)),
    "prior": Reader(_prior, _prior_seeds, ("F32", "F64", "I8", "shape", *_JSON)),
    "checkpoint description": Reader(_description, _description_seeds, _JSON),
    "checkpoint weights": Reader(_weights, _weights_seeds, ("F16", "F8_E4M3", "BOOL", *_JSON)),
    "units": Reader(_units, _units_seeds, ("vc units 1", "model", "middle", " Hz", ":", "(", "+1")),
    "compressed clip": Reader(_compressed, _compressed_seeds, ("\x89VCZ",)),
    "unit tables": Reader(_unit_tables, _unit_tables_seeds, ("U16", "U8", "F32", *_JSON)),
    "training state": Reader(_state, _state_seeds, ("module/net/", "optimizer/net/0/", *_JSON)),
    "recipe": Reader(_recipe, _recipe_seeds, ("base", "run", "nan", "inf", "1979-05-27", "[[")),
    "corpus manifest": Reader(_manifest, _manifest_seeds, ("facts", "split", *_JSON)),
    "corpus table": Reader(_corpus_table, _corpus_table_seeds, ("path", "speaker", '"', ",")),
    "list of speakers": Reader(_speakers, _speakers_seeds, ("corpus", "speaker", "\t")),
    "batch manifest": Reader(_batch_manifest, _batch_manifest_seeds, ("output", "../", *_JSON)),
    "batch ledger": Reader(_ledger, _ledger_seeds, ("output", "key", "sha256", *_JSON)),
    "table of pairs": Reader(_pairs, _pairs_seeds, ("source", "reference", ";", "\t")),
    "scores": Reader(_scores, _scores_seeds, ("pairs", "system", *_JSON)),
}


def corpus_folder(name: str) -> Path:
    """Where the kept inputs of a reader lie."""
    return Path(__file__).parent / "corpus" / name.replace(" ", "-")


def read_hostile(name: str, data: bytes, folder: Path) -> None:
    """Give a reader a file of this content.

    Args:
        name: a key of `READERS`.
        data: the file's content.
        folder: for this file and others that the reader needs; used again and again.

    Raises:
        VCError: the file is refused, as it should be.
        Exception: a finding.
    """
    path = folder / "hostile.wav" if name == "audio" else folder / "hostile"
    path.write_bytes(data)
    READERS[name].read(path, folder)
