"""Properties that hold for all input, tried on input that nobody would think of.

A few examples of each, the same every time; many more with `VC_TEST_EXAMPLES=500`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import string
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.conftest import make_voice
from vc.audio import (
    WRITABLE_SUFFIXES,
    Audio,
    active_level_db,
    fit_length,
    normalize_level,
    read_audio,
    resample,
    writable_rate,
    write_audio,
)
from vc.batch import Settings
from vc.batch.plan import plan
from vc.config import (
    AutoencoderConfig,
    DataConfig,
    DenoiserConfig,
    FeatureConfig,
    VocoderConfig,
    apply_overrides,
    from_dict,
    to_dict,
)
from vc.convert import Converter
from vc.errors import ConfigError, DataError, VCError, VoiceError
from vc.evaluation.score import read_pairs
from vc.on_disk import LevelMeter
from vc.pitch import PitchRange
from vc.training.autoencoder import AutoencoderRecipe
from vc.voice import Voice, load_voice, save_voice

EXAMPLES = int(os.environ.get("VC_TEST_EXAMPLES", "12"))
few = settings(
    derandomize=True,
    deadline=None,
    max_examples=EXAMPLES,
    suppress_health_check=list(HealthCheck),
    database=None,
)
many = settings(few, max_examples=8 * EXAMPLES)

rates = st.sampled_from([4_000, 8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
rates |= st.integers(4_000, 192_000)


@st.composite
def samples(draw: Any) -> tuple[np.ndarray, int]:
    """A recording `(samples, channels)` and its rate: a voice, or whatever else can be in one."""
    rate, channels = draw(rates), draw(st.integers(1, 8))
    seconds = draw(st.sampled_from([0.0, 1e-4, 0.01, 0.19, 0.21, 0.5, 1.0, 1.7]))
    kind = draw(st.sampled_from(["voice", "noise", "tone", "steps", "clicks", "silence"]))
    length, seed = round(seconds * rate), draw(st.integers(0, 2**16))
    generator = np.random.default_rng(seed)
    time = np.arange(length) / rate
    mono = {
        "voice": lambda: resample(make_voice(seconds=2.0), 16_000, rate)[:length],
        "noise": lambda: generator.uniform(-1, 1, length),
        "tone": lambda: np.sin(2 * np.pi * draw(st.floats(0, rate)) * time),
        "steps": lambda: np.sign(np.sin(2 * np.pi * 90 * time)),  # full scale all the time
        "clicks": lambda: (generator.random(length) < 1e-3).astype(float),
        "silence": lambda: np.zeros(length),
    }[kind]()
    gain = 10.0 ** draw(st.sampled_from([-40, -5, -3, -1, 0, 0, 0, 1, 4, 30]))
    offset = draw(st.sampled_from([0.0, 0.0, 0.3, -1.0]))
    wide = np.tile((np.asarray(mono) * gain + offset)[:, None], (1, channels))
    wide *= generator.uniform(0, 1, channels)  # channels of different levels
    if length and draw(st.integers(0, 5)) == 0:
        wide[draw(st.integers(0, length - 1))] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    return wide, rate


CONTAINERS = [
    (container, subtype)
    for container in ("WAV", "WAVEX", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64", "RF64")
    for subtype in soundfile.available_subtypes(container)
    if "ADPCM" not in subtype and "GSM" not in subtype and "DWVW" not in subtype
]


@few
@given(samples(), st.sampled_from(CONTAINERS), st.sampled_from(WRITABLE_SUFFIXES))
def test_any_recording_is_converted_whole_or_refused_in_one_line(
    tiny: Converter, recording: tuple[np.ndarray, int], kind: tuple[str, str], suffix: str
) -> None:
    from vc.blockwise import convert_file

    wide, rate = recording
    container, subtype = kind
    voice = Voice(torch.ones(tiny.autoencoder.config.embedding_dim), PitchRange(5.0, 0.2))
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "source", Path(folder) / f"result{suffix}"
        try:
            soundfile.write(source, wide, rate, format=container, subtype=subtype)
        except (soundfile.LibsndfileError, ValueError):
            return  # the format has no such rate or so many channels
        try:
            done = convert_file(tiny, source, voice, output)
        except VCError as error:
            assert len(str(error).splitlines()) == 1
            assert not output.exists()
            return
        original, result = read_audio(source), read_audio(output)
        assert result.sample_rate == done.sample_rate == writable_rate(output, rate)
        assert np.isfinite(result.waveform).all() and np.abs(result.waveform).max() <= 1
        wanted = round(len(original.waveform) * result.sample_rate / rate)
        padding = {".mp3": 2_500, ".opus": 2, ".ogg": 2}.get(suffix, 0)  # of lossy encoders
        assert abs(len(result.waveform) - wanted) <= padding
        assert len(list(Path(folder).iterdir())) == 2


@few
@given(samples())
def test_a_clip_in_memory_is_converted_whole_or_refused(
    tiny: Converter, recording: tuple[np.ndarray, int]
) -> None:
    wide, rate = recording
    clip = Audio(wide[:, 0].astype(np.float32), rate)
    voice = Voice(torch.zeros(tiny.autoencoder.config.embedding_dim), None)
    for role in ("source", "reference"):
        try:
            result = tiny.convert(clip, voice) if role == "source" else tiny.voice(clip)
        except VCError as error:
            assert len(str(error).splitlines()) == 1
            continue
        if isinstance(result, Voice):
            assert torch.isfinite(result.speaker_embedding).all()
        else:
            assert result.sample_rate == rate and len(result.waveform) == len(clip.waveform)
            assert np.isfinite(result.waveform).all()


@many
@given(samples(), st.floats(-60, 0))
def test_a_level_is_met_whatever_the_sound(
    recording: tuple[np.ndarray, int], level_db: float
) -> None:
    wide, rate = recording
    waveform = wide[:, 0].astype(np.float32)
    if not len(waveform) or not np.isfinite(waveform).all() or np.abs(waveform).max() > 1e10:
        return
    level = active_level_db(waveform, rate)
    levelled = normalize_level(waveform, rate, level_db)
    if np.isfinite(level):
        assert active_level_db(levelled, rate) == pytest.approx(level_db, abs=0.1)
    else:
        np.testing.assert_array_equal(levelled, waveform)
    meter = LevelMeter(rate, None)  # what comes in pieces has the level of the whole
    for start in range(0, len(waveform), 1_000):
        meter.push(waveform[start : start + 1_000])
    if len(waveform) >= 0.02 * rate + 1:
        assert meter.active_level_db() == pytest.approx(level, abs=1e-6)
    meter.close()


@many
@given(st.integers(0, 5_000), st.integers(0, 5_000))
def test_a_length_is_met_and_the_beginning_kept(length: int, wanted: int) -> None:
    waveform = np.arange(1, length + 1, dtype=np.float32)
    fitted = fit_length(waveform, wanted)
    assert len(fitted) == wanted
    kept = min(length, wanted)
    np.testing.assert_array_equal(fitted[:kept], waveform[:kept])
    assert not fitted[kept:].any()


@few
@given(samples(), st.sampled_from(WRITABLE_SUFFIXES))
def test_what_is_written_is_read_back(recording: tuple[np.ndarray, int], suffix: str) -> None:
    wide, rate = recording
    waveform = wide[:, 0].astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"clip{suffix}"
        try:
            write_audio(path, Audio(waveform, rate))
            back = read_audio(path)
        except VCError as error:  # of no length, or not finite
            assert len(str(error).splitlines()) == 1
            assert {file.name for file in Path(folder).iterdir()} <= {path.name}
            return
        assert np.isfinite(back.waveform).all()
        if suffix in (".wav", ".flac", ".aiff"):
            peak = np.abs(waveform).max()
            scaled = waveform * np.float32(min(1, 0.99 / peak)) if peak else waveform
            np.testing.assert_allclose(back.waveform, scaled, atol=2 / 32_768)


names = st.text(string.ascii_letters + "._-/ \t\n\0'\"é\\", max_size=12) | st.sampled_from(
    ["width", "n_mels", "run", "steps", "features", "base", "..", "con", "a.wav", ""]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, -1, 2**31, 10**400])
    | st.floats()
    | names
)
values = st.recursive(scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(names, v))


def plausible(cls: type) -> SearchStrategy[dict[str, Any]]:
    """Dictionaries with a configuration's own keys, and values near those it has."""
    default = to_dict(cls())
    near = {
        key: st.just(value)
        | values
        | (st.integers(-2, 70_000) if isinstance(value, int) else st.floats())
        for key, value in default.items()
    }
    return st.fixed_dictionaries({}, optional=near) | st.dictionaries(names, values)


CONFIGURATIONS = [FeatureConfig, AutoencoderConfig, VocoderConfig, DenoiserConfig, DataConfig]


@pytest.mark.parametrize("cls", CONFIGURATIONS)
def test_a_configuration_is_valid_or_refused_in_one_line(cls: type) -> None:
    @many
    @given(plausible(cls))
    def check(given_values: dict[str, Any]) -> None:
        try:
            config = from_dict(cls, given_values)
        except ConfigError as error:
            assert len(str(error).splitlines()) == 1
            return
        again = from_dict(cls, json.loads(json.dumps(to_dict(config))))
        assert again == config or any(v != v for v in dataclasses.astuple(config))
        if isinstance(config, FeatureConfig):
            assert 0 < config.frame_rate < np.inf

    check()


@many
@given(st.lists(names.map(str) | st.just("run.steps=3"), max_size=4), names, scalars)
def test_overrides_make_a_recipe_or_are_refused(texts: list[str], name: str, value: object) -> None:
    try:
        changed = apply_overrides({"run": {"steps": 1}}, [*texts, f"{name}={value}"])
        from_dict(AutoencoderRecipe, changed)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1


@many
@given(
    st.lists(st.floats(width=32), min_size=1, max_size=20),
    st.none() | st.tuples(st.floats(0, 10), st.floats(0, 10)),
    st.text(max_size=150),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=3),
)
def test_a_voice_comes_back_as_it_was_or_is_refused(
    embedding: list[float],
    pitch: tuple[float, float] | None,
    name: str,
    flips: list[tuple[int, int]],
) -> None:
    voice = Voice(torch.tensor(embedding), PitchRange(*pitch) if pitch else None, name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.voice"
        try:
            save_voice(path, voice, "0" * 64)
        except VoiceError as error:
            assert len(str(error).splitlines()) == 1
            return
        data = bytearray(path.read_bytes())
        for place, mask in flips:
            data[place % len(data)] ^= mask
        damaged = bytes(data) != path.read_bytes()
        path.write_bytes(data)
        try:
            back = load_voice(path, "0" * 64)
        except VoiceError as error:
            assert len(str(error).splitlines()) == 1
            assert damaged or not np.isfinite(embedding).all()
            return
        assert torch.equal(back.speaker_embedding, voice.speaker_embedding)
        assert damaged or (back.pitch, back.name) == (voice.pitch, name[:100])


@many
@given(st.lists(st.lists(names, min_size=1, max_size=5), max_size=5))
def test_a_table_of_pairs_is_read_or_refused(rows: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "pairs.tsv"
        text = "\n".join("\t".join(row) for row in [["set", "source", "reference"], *rows])
        table.write_text(text)
        try:
            pairs = read_pairs(table, Path(folder))
        except DataError as error:
            assert len(str(error).splitlines()) == 1
            return
        assert all(pair.references and pair.group for pair in pairs)
        assert len({pair.name for pair in pairs}) == len(pairs)


@many
@given(st.lists(st.dictionaries(st.sampled_from(["source", "output"]), values), max_size=5))
def test_no_manifest_leads_out_of_the_output_folder(rows: list[dict[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        manifest, output = folder / "list.jsonl", folder / "out"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        output.mkdir()
        try:
            tasks = plan([manifest], {"": (folder / "r.wav",)}, output, Settings())
        except DataError as error:
            assert len(str(error).splitlines()) == 1
            return
        used = [task.output for task in tasks if not task.problem]
        assert all(path.resolve().is_relative_to(output) for path in used)
        assert len({str(path).lower() for path in used}) == len(used)
