from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import EXAMPLES
from vc.audio import Audio, active_level_db, read_audio, resample
from vc.cli import main
from vc.cli.codes import _SETTINGS
from vc.compress import STAGES, Compressed, compress, decompress
from vc.convert import Converter
from vc.errors import AudioError, UnitsError, VCError
from vc.pitch import estimate_f0, pitch_range
from vc.units import UnitModel, load_unit_model

HEAD = struct.Struct("<4sB8sBIIHBB")  # as vc/compress.py describes it
FIELDS = ("magic", "version", "model", "stages", "rate", "samples", "frames", "level", "middle")


@pytest.fixture(scope="module")
def model(shipped: Converter) -> UnitModel:
    return load_unit_model(shipped)


@pytest.fixture(scope="module")
def clip() -> Audio:
    audio = read_audio(EXAMPLES / "source.flac")
    return Audio(0.5 * resample(audio.waveform, audio.sample_rate, 22_050)[: 3 * 22_050], 22_050)


@pytest.fixture(scope="module")
def packed(shipped: Converter, model: UnitModel, clip: Audio) -> Compressed:
    return compress(shipped, clip, model=model)


def changed(data: bytes, **fields: object) -> bytes:
    """With another head, and a check sum that fits it."""
    head = dict(zip(FIELDS, HEAD.unpack(data[: HEAD.size]), strict=True)) | fields
    body = HEAD.pack(*head.values()) + data[HEAD.size : -4]
    return body + struct.pack("<I", zlib.crc32(body))


def test_a_clip_comes_back_as_long_as_loud_and_as_high(
    shipped: Converter, model: UnitModel, clip: Audio, packed: Compressed
) -> None:
    spoken = decompress(shipped, packed.data, model=model)
    assert spoken.sample_rate == clip.sample_rate
    assert len(spoken.waveform) == len(clip.waveform)
    levels = [active_level_db(a.waveform, a.sample_rate) for a in (spoken, clip)]
    assert abs(levels[0] - levels[1]) < 0.6
    config = shipped.features
    ranges = [
        pitch_range(estimate_f0(resample(a.waveform, a.sample_rate, 16_000), config))
        for a in (spoken, clip)
    ]
    assert ranges[0] is not None and ranges[1] is not None
    assert abs(ranges[0].median - ranges[1].median) < 0.1


def test_bits_are_few_and_all_of_them_are_told(
    shipped: Converter, model: UnitModel, clip: Audio, packed: Compressed
) -> None:
    assert packed.frame_bits_per_second < 760  # of this clip; the mean is in docs/compression.md
    assert 8 * (len(packed.data) - HEAD.size - 4) == packed.frame_bits + packed.voice_bits
    richer = compress(shipped, clip, "high", model)
    assert packed.frame_bits_per_second < richer.frame_bits_per_second < 2_200


def test_compressing_twice_gives_the_same_bytes(
    shipped: Converter, model: UnitModel, clip: Audio, packed: Compressed
) -> None:
    assert compress(shipped, clip, model=model).data == packed.data


def test_a_very_high_rate_comes_back_as_48_khz(
    shipped: Converter, model: UnitModel, clip: Audio
) -> None:
    high = Audio(resample(clip.waveform, clip.sample_rate, 96_000), 96_000)
    spoken = decompress(shipped, compress(shipped, high, model=model).data, model=model)
    assert spoken.sample_rate == 48_000
    assert len(spoken.waveform) == len(high.waveform) / 2


def test_another_voice_may_speak(
    shipped: Converter, model: UnitModel, packed: Compressed, clip: Audio
) -> None:
    reference = read_audio(EXAMPLES / "reference.flac")
    spoken = decompress(shipped, packed.data, reference, model=model)
    found = [
        pitch_range(estimate_f0(resample(a.waveform, a.sample_rate, 16_000), shipped.features))
        for a in (spoken, reference)
    ]
    assert found[0] is not None and found[1] is not None
    assert abs(found[0].median - found[1].median) < 0.15
    assert len(spoken.waveform) == len(clip.waveform)


def test_cut_files_are_refused_at_every_cut(
    shipped: Converter, model: UnitModel, packed: Compressed
) -> None:
    for length in range(len(packed.data)):
        with pytest.raises(UnitsError, match=r"a\.vcz"):
            decompress(shipped, packed.data[:length], name="a.vcz", model=model)


def test_every_changed_byte_is_noticed(
    shipped: Converter, model: UnitModel, packed: Compressed
) -> None:
    for place in range(len(packed.data)):
        damaged = bytearray(packed.data)
        damaged[place] ^= 0x41
        with pytest.raises(UnitsError):
            decompress(shipped, bytes(damaged), model=model)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"version": 2}, "format 2"),
        ({"model": b"12345678"}, "another model"),
        ({"samples": 2**32 - 1}, "longer than 5 minutes"),
        ({"samples": 22_050 * 299, "frames": 18_688}, "cannot be"),  # more than the stream holds
        ({"frames": 60_000}, "cannot be"),
        ({"frames": 0}, "cannot be"),
        ({"stages": 0}, "cannot be"),
        ({"stages": 200}, "cannot be"),
        ({"rate": 0}, "cannot be"),
        ({"rate": 400_000}, "cannot be"),
        ({"rate": 2**32 - 1}, "cannot be"),
        ({"middle": 255}, "cannot be"),
    ],
)
def test_a_head_that_lies_is_refused_before_anything_is_made(
    shipped: Converter, model: UnitModel, packed: Compressed, fields: dict, reason: str
) -> None:
    with pytest.raises(UnitsError, match=reason):
        decompress(shipped, changed(packed.data, **fields), model=model)


def test_nonsense_with_a_right_check_sum_does_no_harm(
    shipped: Converter, model: UnitModel, packed: Compressed
) -> None:
    generator = np.random.default_rng(0)
    size = len(packed.data) - HEAD.size - 4
    for stream in (generator.bytes(size), b"\xff" * size, b"\0" * size):
        body = packed.data[: HEAD.size] + stream
        data = body + struct.pack("<I", zlib.crc32(body))
        try:
            spoken = decompress(shipped, data, model=model)
        except UnitsError:
            continue
        assert np.isfinite(spoken.waveform).all()


def test_what_cannot_be_compressed(shipped: Converter, model: UnitModel, clip: Audio) -> None:
    with pytest.raises(VCError, match="choose one of low, medium, high"):
        compress(shipped, clip, "best", model)
    with pytest.raises(AudioError, match="longer than"):
        compress(shipped, Audio(np.tile(clip.waveform, 101), clip.sample_rate), model=model)
    with pytest.raises(AudioError, match="silent"):
        compress(shipped, Audio(np.zeros(16_000, np.float32), 16_000), model=model)
    with pytest.raises(UnitsError, match="not a compressed clip"):
        decompress(shipped, b"RIFF" + bytes(100), model=model)


def test_the_command_offers_every_setting() -> None:
    assert tuple(STAGES) == _SETTINGS


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, packed, output = EXAMPLES / "source.flac", tmp_path / "a.vcz", tmp_path / "a.wav"
    assert main(["compress", str(source), "-o", str(packed)]) == 0
    assert "b/s" in capsys.readouterr().out
    assert main(["decompress", str(packed), "-o", str(output)]) == 0
    assert len(read_audio(output).waveform) == len(read_audio(source).waveform)
    packed.write_bytes(packed.read_bytes()[:-9])
    assert main(["decompress", str(packed), "-o", str(output)]) == 2
    assert "a.vcz: damaged or cut" in capsys.readouterr().err
    packed.write_bytes(bytes(2_000_000))
    assert main(["decompress", str(packed), "-o", str(output)]) == 2
    assert "too large" in capsys.readouterr().err
    assert main(["decompress", str(tmp_path / "no.vcz"), "-o", str(output)]) == 2
    assert main(["compress", str(source), "-o", str(tmp_path / "no" / "a.vcz")]) == 2
