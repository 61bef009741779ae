from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import make_voice
from vc.audio import (
    Audio,
    active_level_db,
    check_speech,
    find_audio,
    normalize_level,
    read_audio,
    resample,
    trim_silence,
    writable_rate,
    write_audio,
)
from vc.errors import AudioError


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff"])
def test_every_format_comes_back_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    original = make_voice(150.0)
    write_audio(tmp_path / f"clip{suffix}", Audio(original, 16_000))
    audio = read_audio(tmp_path / f"clip{suffix}")
    assert audio.sample_rate == 16_000
    assert abs(len(audio.waveform) - len(original)) <= (2500 if suffix == ".mp3" else 0)
    lossless = suffix in (".wav", ".flac", ".aiff")
    if lossless:
        np.testing.assert_allclose(audio.waveform, original, atol=1e-4)
    assert active_level_db(*audio) == pytest.approx(active_level_db(original, 16_000), abs=0.5)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_sample_format_and_channel_count_is_mixed_to_mono(
    tmp_path: Path, subtype: str, channels: int
) -> None:
    original = make_voice(150.0, seconds=0.5)
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.tile(original[:, None], (1, channels)), 44_100, subtype=subtype)
    audio = read_audio(path)
    assert audio.sample_rate == 44_100
    tolerance = 1 / 64 if subtype == "PCM_U8" else 1e-4
    np.testing.assert_allclose(audio.waveform, original, atol=tolerance)


def test_mono_is_the_mean_of_the_channels(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "clip.wav", np.array([[0.5, -0.25]] * 100), 8_000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "clip.wav").waveform, 0.125)


def _bad_files(folder: Path) -> dict[str, Path]:
    good = folder / "good.flac"
    write_audio(good, Audio(make_voice(seconds=1.0), 16_000))
    names = ("missing", "empty", "text", "truncated", "nan", "header")
    files = {name: folder / f"{name}.wav" for name in names}
    files["empty"].write_bytes(b"")
    files["text"].write_text("this is not audio, whatever its name says\n" * 20)
    files["truncated"] = folder / "truncated.flac"
    files["truncated"].write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    soundfile.write(files["nan"], np.array([0.1, np.nan, 0.1]), 16_000, subtype="FLOAT")
    soundfile.write(files["header"], np.zeros(0), 16_000)
    files["folder"] = folder
    return files


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "no such file"),
        ("empty", "is empty"),
        ("text", "not audio"),
        ("truncated", "truncated|not audio"),
        ("nan", "NaN"),
        ("header", "no samples"),
        ("folder", "is a folder"),
    ],
)
def test_unreadable_file_is_named_with_the_reason(tmp_path: Path, kind: str, reason: str) -> None:
    path = _bad_files(tmp_path)[kind]
    with pytest.raises(AudioError, match=reason) as caught:
        read_audio(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".wav", ".aiff"])
def test_half_a_copy_is_refused_and_what_was_streamed_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    write_audio(path, Audio(make_voice(seconds=2.0), 16_000))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudioError, match=r"truncated \(1\d+ of 3\d+ samples\)"):
        read_audio(path)
    if suffix == ".wav":  # whoever writes to a pipe cannot know how much will come
        at = whole.index(b"data") + 4
        path.write_bytes(whole[:at] + b"\xff" * 4 + whole[at + 4 :])
        assert len(read_audio(path).waveform) == 32_000


def test_what_is_no_clip_is_not_written(tmp_path: Path) -> None:
    stereo = np.zeros((100, 2), np.float32)
    for audio, reason in ((Audio(stereo, 16_000), "mono"), (Audio(stereo[:, 0], 0), "rate of 0")):
        with pytest.raises(AudioError, match=reason):
            write_audio(tmp_path / "clip.wav", audio)
    assert not list(tmp_path.iterdir())


def test_loud_audio_is_turned_down_not_clipped(tmp_path: Path) -> None:
    loud = 5 * make_voice(150.0)
    write_audio(tmp_path / "clip.wav", Audio(loud, 16_000))
    written = read_audio(tmp_path / "clip.wav").waveform
    assert np.abs(written).max() < 1
    assert np.corrcoef(written, loud)[0, 1] > 0.9999  # clipping would change the shape


@pytest.mark.parametrize(
    ("suffix", "rate", "written"),
    [
        (".mp3", 96_000, 48_000),
        (".mp3", 22_050, 22_050),
        (".opus", 44_100, 48_000),
        (".flac", 100_001, 48_000),
        (".flac", 96_000, 96_000),
        (".ogg", 192_000, 192_000),
        (".ogg", 384_000, 48_000),
        (".wav", 384_000, 384_000),
    ],
)
def test_a_rate_that_a_format_lacks_becomes_one_that_it_has(
    tmp_path: Path, suffix: str, rate: int, written: int
) -> None:
    path = tmp_path / f"clip{suffix}"
    assert writable_rate(path, rate) == written
    write_audio(path, Audio(make_voice(seconds=0.5), rate))
    assert read_audio(path).sample_rate == written


def test_metadata_says_what_the_file_is(tmp_path: Path) -> None:
    write_audio(tmp_path / "clip.flac", Audio(make_voice(), 16_000), comment="converted speech")
    with soundfile.SoundFile(tmp_path / "clip.flac") as file:
        assert file.comment == "converted speech"


def test_writing_is_refused_with_a_remedy(tmp_path: Path) -> None:
    audio = Audio(make_voice(seconds=0.3), 16_000)
    with pytest.raises(AudioError, match="does not exist; create it"):
        write_audio(tmp_path / "no" / "clip.wav", audio)
    with pytest.raises(AudioError, match=r"end the name in .*\.flac"):
        write_audio(tmp_path / "clip.xyz", audio)
    with pytest.raises(AudioError, match="NaN"):
        write_audio(tmp_path / "clip.wav", Audio(np.full(100, np.nan, np.float32), 16_000))


def test_unwritable_folder_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # root may write anywhere, so the answer of the system is stood in for
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(AudioError, match="cannot be written"):
        write_audio(tmp_path / "clip.wav", Audio(make_voice(), 16_000))


def test_failed_write_keeps_the_old_file_and_leaves_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clip.wav"
    write_audio(path, Audio(make_voice(seconds=0.3), 16_000))
    before = path.read_bytes()

    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(soundfile.SoundFile, "write", disk_full)
    with pytest.raises(AudioError, match="No space left"):
        write_audio(path, Audio(make_voice(seconds=0.5), 16_000))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_level_is_met_to_a_tenth_of_a_decibel_whatever_the_pauses() -> None:
    voice = make_voice(150.0)
    silence = np.zeros(32_000, np.float32)
    for waveform in (voice, np.concatenate([silence, 0.01 * voice, silence])):
        level = active_level_db(normalize_level(waveform, 16_000, -26.0), 16_000)
        assert level == pytest.approx(-26.0, abs=0.1)


def test_silence_has_no_level_and_is_left_alone() -> None:
    silence = np.zeros(16_000, np.float32)
    assert active_level_db(silence, 16_000) == -np.inf
    np.testing.assert_array_equal(normalize_level(silence, 16_000, -26.0), silence)


def test_only_leading_and_trailing_silence_is_cut() -> None:
    voice = make_voice(150.0, seconds=1.0)
    pause = np.zeros(8_000, np.float32)
    trimmed = trim_silence(np.concatenate([pause, voice, pause, voice, pause]), 16_000)
    assert len(trimmed) == pytest.approx(2 * len(voice) + len(pause), abs=0.2 * 16_000)


def test_where_speech_lies_is_told_at_rates_whose_hundredths_are_no_whole_samples() -> None:
    rate = 22_050
    voice = make_voice(150.0, seconds=1.0, sample_rate=rate)
    padded = np.concatenate([np.zeros(60 * rate, np.float32), voice])
    assert len(trim_silence(padded, rate)) >= 0.98 * len(trim_silence(voice, rate))


def test_resampling_keeps_a_tone_and_removes_what_would_alias() -> None:
    time = np.arange(48_000) / 48_000
    tone = np.sin(2 * np.pi * 1_000 * time).astype(np.float32)
    alias = np.sin(2 * np.pi * 15_000 * time).astype(np.float32)
    assert len(resample(tone, 48_000, 16_000)) == 16_000
    assert np.std(resample(tone, 48_000, 16_000)) == pytest.approx(np.std(tone), rel=0.01)
    assert np.std(resample(alias, 48_000, 16_000)) < 1e-3


@pytest.mark.parametrize(
    ("waveform", "reason"),
    [
        (np.zeros(32_000, np.float32), "is silent"),
        (make_voice(seconds=0.1), "at least"),
        (np.full(16_000, np.inf, np.float32), "NaN or infinite"),
        (np.zeros((2, 16_000), np.float32), "shape"),
        (np.pad(make_voice(seconds=0.1), (0, 32_000)), "not silence"),
    ],
)
def test_what_is_not_speech_is_refused(waveform: np.ndarray, reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        check_speech(Audio(waveform, 16_000), "source")


def test_a_long_file_is_refused_before_its_samples_fill_the_memory(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.flac"  # an hour of silence in a few kilobytes
    soundfile.write(bomb, np.zeros(3600 * 8_000, np.int16), 8_000)
    assert bomb.stat().st_size < 200_000
    with pytest.raises(AudioError, match=r"bomb\.flac: longer than 5 minutes"):
        read_audio(bomb, max_duration_s=300)
    lying = tmp_path / "lying.flac"  # a header that does not tell the length
    data = bytearray(bomb.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    lying.write_bytes(data)
    with pytest.raises(AudioError, match=r"lying\.flac: longer than 5 minutes"):
        read_audio(lying, max_duration_s=300)


def _foreign(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    source = Path(__file__).parent.parent / "vc" / "examples" / "source.flac"
    subprocess.run(["ffmpeg", "-v", "error", "-i", source, path], check=True)
    return path


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("name", ["clip.webm", "clip.m4a"])
def test_webm_and_m4a_are_read_through_ffmpeg(tmp_path: Path, name: str) -> None:
    path = _foreign(tmp_path, name)
    audio = read_audio(path)
    assert audio.duration_s == pytest.approx(6.3, abs=0.2)
    assert np.std(audio.waveform) > 0.01
    with pytest.raises(AudioError, match="longer than"):
        read_audio(path, max_duration_s=3)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(AudioError, match="ffmpeg finds no sound"):
        read_audio(path)


def test_recordings_of_phones_are_found_and_what_is_hidden_is_not(tmp_path: Path) -> None:
    folder = tmp_path / ".mine"  # named by the user, hidden or not
    names = ["a.M4A", "b.mp4", "c.webm", "d.mka", "e/f.wav"]
    for name in [*names, ".g.wav", ".Trash/gone.wav", "e/.Trash/deep/gone.wav", "notes.txt"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    assert find_audio(folder) == [folder / name for name in names]


def test_without_ffmpeg_the_message_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    path = tmp_path / "clip.webm"
    path.write_bytes(b"\x1a\x45\xdf\xa3" + bytes(100))
    with pytest.raises(AudioError, match="only where ffmpeg is installed"):
        read_audio(path)
