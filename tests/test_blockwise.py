from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

import vc.blockwise
import vc.convert
from tests.conftest import make_voice
from vc.audio import (
    Audio,
    Loudness,
    active_level_db,
    frame_levels_db,
    read_audio,
    read_blocks,
    trim_silence,
    write_audio,
    write_blocks,
)
from vc.blockwise import convert_file, convert_waveform
from vc.cli import main
from vc.convert import Converter
from vc.errors import AudioError, VCError
from vc.on_disk import LevelMeter, Rows
from vc.vocoder.excitation import WhiteNoise


def long_voice(seconds: float, sample_rate: int = 16_000) -> Audio:
    """Phrases of changing level and pitch, with pauses between them that are too long to count."""
    phrases = []
    for number in range(int(seconds / 3) + 1):
        phrase = make_voice(
            90 + 15 * (number % 5), seconds=2.5, seed=number, sample_rate=sample_rate
        )
        phrases += [phrase * np.float32(0.3 + 0.2 * (number % 4))]
        phrases += [np.full(sample_rate, 1e-4, np.float32)]
    return Audio(np.concatenate(phrases)[: round(seconds * sample_rate)], sample_rate)


def difference_db(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Level of the difference relative to `theirs`."""
    assert len(ours) == len(theirs)
    return float(10 * np.log10(np.mean((ours - theirs) ** 2) / np.mean(theirs**2)))


@pytest.fixture
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything beyond two seconds is long, and a block is shorter than that."""
    monkeypatch.setattr(vc.convert, "LONG_S", 2.0)
    monkeypatch.setattr(vc.blockwise, "LONG_S", 2.0)
    monkeypatch.setattr(vc.blockwise, "BLOCK_S", 1.7)


@pytest.mark.parametrize(
    ("source_rate", "target_rate", "seconds"),
    [
        (16_000, 16_000, 12.0),
        (16_000, 48_000, 9.001),
        (22_050, 22_050, 11.2345),
        (8_000, 16_000, 8),
        (44_100, 44_100, 7.5),
        (48_000, 32_000, 5.4321),
    ],
)
def test_blocks_give_what_the_whole_clip_gives(
    tiny: Converter,
    high_voice: Audio,
    monkeypatch: pytest.MonkeyPatch,
    source_rate: int,
    target_rate: int,
    seconds: float,
) -> None:
    source, voice = long_voice(seconds, source_rate), tiny.voice(high_voice)
    for denoise in (False, True):
        whole = tiny.convert(source, voice, sample_rate=target_rate, denoise=denoise)
        for block_s in (1.3, 100.0):
            monkeypatch.setattr(vc.blockwise, "BLOCK_S", block_s)
            ours = convert_waveform(
                tiny, source, voice, "match", target_rate, lambda share: None, denoise
            )
            assert ours.sample_rate == whole.sample_rate
            assert difference_db(ours.waveform, whole.waveform) < -90


@pytest.mark.parametrize("offset", [0.005, 0.2])
def test_blocks_take_an_offset_away_as_whole_clips_do(
    tiny: Converter, high_voice: Audio, offset: float
) -> None:
    source, voice = long_voice(6.0), tiny.voice(high_voice)
    shifted = Audio(source.waveform + np.float32(offset), source.sample_rate)
    ours = convert_waveform(tiny, shifted, voice, "match", 16_000, lambda share: None)
    assert difference_db(ours.waveform, tiny.convert(shifted, voice).waveform) < -90


def test_blocks_of_the_shipped_model_give_what_the_whole_clip_gives(
    shipped: Converter, high_voice: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, voice = long_voice(10.0), shipped.voice(high_voice)
    whole = shipped.convert(source, voice, pitch=3.0)
    monkeypatch.setattr(vc.blockwise, "BLOCK_S", 2.5)
    ours = convert_waveform(shipped, source, voice, 3.0, 16_000, lambda share: None)
    assert difference_db(ours.waveform, whole.waveform) < -90


def test_blocks_rehearse_as_much_of_a_clip_as_the_whole_does(
    tiny: Converter, high_voice: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, voice = long_voice(6.0), tiny.voice(high_voice)
    of_all = tiny.convert(source, voice)
    monkeypatch.setattr(tiny.autoencoder, "heard_frames", 100)
    whole = tiny.convert(source, voice)
    monkeypatch.setattr(vc.blockwise, "BLOCK_S", 1.3)
    ours = convert_waveform(tiny, source, voice, "match", 16_000, lambda share: None)
    assert difference_db(ours.waveform, whole.waveform) < -90
    assert difference_db(of_all.waveform, whole.waveform) > -60


@pytest.mark.parametrize("loudness", ["match", "keep"])
def test_blocks_are_as_loud_as_the_whole_clip(
    tiny: Converter, high_voice: Audio, loudness: Loudness
) -> None:
    source, voice = long_voice(6.0), tiny.voice(high_voice, learn=False)
    quiet = Audio(source.waveform * np.float32(0.05), source.sample_rate)
    whole = tiny.convert(quiet, voice, loudness=loudness)
    ours = convert_waveform(
        tiny, quiet, voice, "match", 16_000, lambda share: None, loudness=loudness
    )
    level_db = active_level_db(*whole)
    assert active_level_db(*ours) == pytest.approx(level_db, abs=0.1)
    assert (level_db > active_level_db(*quiet) + 10) == (loudness == "match")


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".opus", ".mp3"])
def test_a_long_file_becomes_a_file_of_the_same_length(
    tiny: Converter, high_voice: Audio, tmp_path: Path, suffix: str
) -> None:
    source = tmp_path / "long.wav"
    write_audio(source, long_voice(7.3, 22_050))
    output = tmp_path / f"out{suffix}"
    shares: list[float] = []
    done = convert_file(tiny, source, high_voice, output, progress=shares.append)
    assert not done.is_partial
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert abs(read_audio(output).duration_s - 7.3) < (0.1 if suffix == ".mp3" else 1e-3)
    with soundfile.SoundFile(output) as file:
        assert "Converted speech" in file.comment
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["long.wav", output.name])


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize("seconds", [1.5, 3.0])
def test_the_rate_that_is_told_is_that_of_the_file(
    tiny: Converter, high_voice: Audio, tmp_path: Path, seconds: float
) -> None:
    source, output = tmp_path / "source.wav", tmp_path / "out.opus"
    write_audio(source, long_voice(seconds, 44_100))
    done = convert_file(tiny, source, high_voice, output)
    assert done.sample_rate == soundfile.info(output).samplerate == 48_000


@pytest.mark.usefixtures("short_blocks")
def test_a_share_of_the_way_that_is_none_is_refused(
    tiny: Converter, high_voice: Audio, tmp_path: Path
) -> None:
    write_audio(tmp_path / "long.wav", long_voice(3.0))
    with pytest.raises(VCError, match="strength 7: must lie between 0 and 1"):
        convert_file(tiny, tmp_path / "long.wav", high_voice, tmp_path / "out.wav", strength=7.0)


@pytest.mark.usefixtures("short_blocks")
def test_the_sources_own_voice_is_heard_where_it_speaks(
    tiny: Converter, high_voice: Audio, tmp_path: Path
) -> None:
    speech = long_voice(3.0)
    hiss = 1e-5 * np.random.default_rng(2).standard_normal(3 * 16_000)
    late = Audio(np.concatenate([hiss, speech.waveform]).astype(np.float32), 16_000)
    write_audio(tmp_path / "late.wav", late)
    convert_file(tiny, tmp_path / "late.wav", high_voice, tmp_path / "out.wav", strength=0.5)
    converted = tiny.convert(late, high_voice, strength=0.5)
    assert len(converted.waveform) == len(late.waveform)


@pytest.mark.usefixtures("short_blocks")
def test_file_and_waveform_in_memory_give_the_same(
    tiny: Converter, high_voice: Audio, tmp_path: Path
) -> None:
    write_audio(tmp_path / "long.wav", long_voice(6.0))
    convert_file(tiny, tmp_path / "long.wav", high_voice, tmp_path / "out.wav")
    in_memory = tiny.convert(tmp_path / "long.wav", high_voice)
    written = read_audio(tmp_path / "out.wav")
    np.testing.assert_allclose(written.waveform, in_memory.waveform, atol=1 / 32768)


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize("share", [0.02, 0.5, 0.7])
@pytest.mark.parametrize("keep_partial", [False, True])
def test_interrupting_leaves_a_valid_file_or_nothing(
    tiny: Converter, high_voice: Audio, tmp_path: Path, share: float, keep_partial: bool
) -> None:
    write_audio(tmp_path / "long.wav", long_voice(12.0))
    output = tmp_path / "out.wav"
    convert_file(tiny, tmp_path / "long.wav", high_voice, tmp_path / "whole.wav")

    def interrupt(done: float) -> None:
        if done >= share:
            raise KeyboardInterrupt

    if not keep_partial or share <= 0.5:  # until then nothing was synthesised
        with pytest.raises(KeyboardInterrupt):
            convert_file(
                tiny,
                tmp_path / "long.wav",
                high_voice,
                output,
                "match",
                None,
                interrupt,
                keep_partial,
            )
        assert sorted(p.name for p in tmp_path.iterdir()) == ["long.wav", "whole.wav"]
        return
    done = convert_file(
        tiny, tmp_path / "long.wav", high_voice, output, progress=interrupt, keep_partial=True
    )
    partial, whole = read_audio(output).waveform, read_audio(tmp_path / "whole.wav").waveform
    assert done.is_partial and 0 < len(partial) < len(whole)
    assert len(partial) == round(done.duration_s * 16_000)
    assert np.corrcoef(partial, whole[: len(partial)])[0, 1] > 0.999


@pytest.mark.usefixtures("short_blocks")
def test_an_interrupted_command_says_what_is_left(
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_audio(tmp_path / "long.wav", long_voice(12.0))
    monkeypatch.setattr(WhiteNoise, "read", _interrupted_after(WhiteNoise.read, calls=3))
    arguments = [
        "convert",
        tmp_path / "long.wav",
        tmp_path / "long.wav",
        "--quiet",
        "--keep-partial",
    ]
    arguments += ["-o", tmp_path / "out.wav", "--checkpoint", tiny_checkpoint]
    assert main([str(a) for a in arguments]) == 130
    assert "holds the first 5." in capsys.readouterr().err
    assert 5 < read_audio(tmp_path / "out.wav").duration_s < 6


@pytest.mark.usefixtures("short_blocks")
def test_a_part_never_takes_the_place_of_a_result(
    tiny: Converter, high_voice: Audio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = tmp_path / "long.wav", tmp_path / "out.wav"
    write_audio(source, long_voice(12.0))
    output.write_bytes(b"a result")

    def convert() -> vc.blockwise.FileConversion:
        return convert_file(tiny, source, high_voice, output, keep_partial=True)

    with monkeypatch.context() as patch:
        patch.setattr(WhiteNoise, "read", _interrupted_after(WhiteNoise.read, calls=3))
        done = convert()
    assert done.is_partial and done.path.name == "out.partial.wav"
    assert abs(read_audio(done.path).duration_s - done.duration_s) < 1e-3
    done.path.unlink()
    for passes in (0, 1):  # while it is measured, and while it is written
        resampled = _interrupted_after(vc.blockwise._LongConversion._resampled, calls=passes)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(vc.blockwise._LongConversion, "_resampled", resampled)
            convert()
    assert output.read_bytes() == b"a result"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["long.wav", "out.wav"]


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize("had_result", [False, True])
def test_a_part_is_kept_whenever_it_is_interrupted(
    tiny: Converter,
    high_voice: Audio,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    had_result: bool,
) -> None:
    source, output = tmp_path / "long.wav", tmp_path / "out.wav"
    write_audio(source, long_voice(4.0))
    if had_result:
        output.write_bytes(b"a result")

    def convert() -> vc.blockwise.FileConversion:
        return convert_file(tiny, source, high_voice, output, keep_partial=True, learn=False)

    with monkeypatch.context() as patch:  # in the middle of the first block that is written
        write = _interrupted_after(soundfile.SoundFile.write, calls=1)
        patch.setattr(soundfile.SoundFile, "write", write)
        done = convert()
    assert done.is_partial and done.path.name == ("out.partial.wav" if had_result else "out.wav")
    assert read_audio(done.path).duration_s == done.duration_s == 1.0
    assert not had_result or output.read_bytes() == b"a result"
    measure, calls = vc.blockwise._LongConversion._gain, 0

    def interrupted_once(*arguments) -> float:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(vc.blockwise._LongConversion, "_gain", interrupted_once)
    done = convert()  # all of it was synthesised
    assert not done.is_partial and done.path == output
    assert read_audio(output).duration_s == 4.0


def test_an_interrupt_before_the_first_sample_leaves_no_file(tmp_path: Path) -> None:
    def blocks():
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        write_blocks(tmp_path / "out.wav", blocks(), 16_000, partial=tmp_path / "out.wav")
    assert list(tmp_path.iterdir()) == []


def _interrupted_after(function, calls: int):
    count = 0

    def wrapped(*arguments):
        nonlocal count
        count += 1
        if count > calls:
            raise KeyboardInterrupt
        return function(*arguments)

    return wrapped


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda audio: audio * 0, "silent"),
        (lambda audio: np.where(np.arange(len(audio)) < 60_000, audio, np.nan), "NaN"),
        (lambda audio: audio * (np.arange(len(audio)) < 2_000), "is not silence"),
    ],
)
def test_a_long_file_that_cannot_be_used_is_named(
    tiny: Converter, high_voice: Audio, tmp_path: Path, make, message: str
) -> None:
    source = tmp_path / "long.wav"
    soundfile.write(source, make(make_voice(seconds=5.0)), 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=rf"long\.wav: .*{message}"):
        convert_file(tiny, source, high_voice, tmp_path / "out.wav")
    assert [p.name for p in tmp_path.iterdir()] == ["long.wav"]


@pytest.mark.usefixtures("short_blocks")
def test_a_full_disk_is_one_clear_line(
    tiny: Converter, high_voice: Audio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_audio(tmp_path / "long.wav", long_voice(6.0))

    class FullDisk:
        def seek(self, *_: int) -> None: ...

        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None: ...

    monkeypatch.setattr(vc.on_disk.tempfile, "TemporaryFile", lambda **_: FullDisk())
    with pytest.raises(AudioError, match="no room for scratch data"):
        convert_file(tiny, tmp_path / "long.wav", high_voice, tmp_path / "out.wav")
    assert [p.name for p in tmp_path.iterdir()] == ["long.wav"]


def test_rows_read_back_what_was_written(tmp_path: Path) -> None:
    numbers = np.arange(60, dtype=np.float32).reshape(20, 3)
    with Rows(tmp_path, 3) as rows:
        rows.append(numbers[:7])
        rows.append(numbers[7:])
        assert len(rows) == 20
        np.testing.assert_array_equal(rows.read(5, 12), numbers[5:12])
        np.testing.assert_array_equal(rows.read(18, 99), numbers[18:])
        assert not list(tmp_path.iterdir())  # a killed process leaves nothing


@pytest.mark.parametrize("sample_rate", [16_000, 22_050])
def test_level_meter_measures_as_for_the_whole_clip(sample_rate: int) -> None:
    audio = long_voice(5.0, sample_rate)
    waveform = np.pad(audio.waveform, (sample_rate, 2 * sample_rate))
    meter = LevelMeter(sample_rate, None)
    for start in range(0, len(waveform), 777):
        meter.push(waveform[start : start + 777])
    assert meter.loudest_db == pytest.approx(frame_levels_db(waveform, sample_rate).max())
    assert meter.active_level_db() == pytest.approx(active_level_db(waveform, sample_rate))
    speech = trim_silence(waveform, sample_rate, 0.0)
    assert meter.speech_s() == pytest.approx(len(speech) / sample_rate, abs=0.02)
    meter.close()


def test_reading_in_blocks_gives_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "clip.flac"
    write_audio(path, long_voice(3.3))
    blocks = [block.waveform for block in read_blocks(path, 0.7)]
    assert len(blocks) == 5
    np.testing.assert_array_equal(np.concatenate(blocks), read_audio(path).waveform)


def test_a_file_that_ends_too_early_is_called_truncated(tmp_path: Path) -> None:
    path = tmp_path / "clip.flac"
    write_audio(path, long_voice(9.0))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioError, match=r"clip\.flac: truncated \(\d+ of 144000 samples\)"):
        list(read_blocks(path, 1.0))
