"""Conversion while somebody speaks."""

from __future__ import annotations

import contextlib
import copy
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.conftest import EXAMPLES
from vc.audio import Audio, read_audio, resample, write_audio
from vc.cli import main
from vc.convert import Converter
from vc.errors import AudioError, CheckpointError, VCError
from vc.features import LogMel
from vc.model.layers import smooth_bands
from vc.pitch import estimate_f0
from vc.streaming.ear import Ear
from vc.streaming.live import Exchange, SystemSoundCard, run_live
from vc.streaming.resampler import BlockResampler
from vc.streaming.running_voice import RunningVoice
from vc.streaming.statistics import RunningStatistics, load_usual
from vc.streaming.steps import STEP
from vc.streaming.stream import Stream, stream_clip

REFERENCE = EXAMPLES / "reference.flac"


@pytest.fixture(scope="module")
def source() -> Audio:
    audio = read_audio(EXAMPLES / "source.flac")
    return Audio(audio.waveform[: 2 * audio.sample_rate], audio.sample_rate)


@pytest.fixture(scope="module")
def streamed(shipped: Converter, source: Audio) -> Audio:
    return stream_clip(Stream(shipped, REFERENCE, sample_rate=16_000), source)


def in_blocks(stream: Stream, waveform: np.ndarray, sizes: Iterator[int]) -> np.ndarray:
    made, at = [], 0
    while at < len(waveform):
        block = waveform[at : at + next(sizes)]
        made.append(stream.push(block))
        assert made[-1].shape == block.shape
        at += len(block)
    return np.concatenate([*made, stream.finish()])


def some_sizes(seed: int) -> Iterator[int]:
    chance = np.random.default_rng(seed)
    while True:
        yield int(chance.integers(1, 4_000))


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_as_many_samples_come_back_within_150_ms(shipped: Converter, rate: int) -> None:
    stream = Stream(shipped, REFERENCE, sample_rate=rate)
    assert stream.latency_s < 0.15
    noise = np.random.default_rng(0).normal(0, 0.05, rate).astype(np.float32)
    made = in_blocks(stream, noise, some_sizes(1))  # asserts that no block comes back shorter
    assert len(made) == len(noise) + stream.latency_samples
    assert np.isfinite(made).all()


def test_sizes_of_blocks_make_no_difference(
    shipped: Converter, source: Audio, streamed: Audio
) -> None:
    stream = Stream(shipped, REFERENCE, sample_rate=16_000)
    made = in_blocks(stream, source.waveform, some_sizes(2))[stream.latency_samples :]
    np.testing.assert_array_equal(made, streamed.waveform)


def test_words_come_when_they_should(shipped: Converter, source: Audio, streamed: Audio) -> None:
    whole = shipped.convert(source, REFERENCE)
    log_mel = LogMel(shipped.features)
    a, b = (log_mel(torch.from_numpy(x.waveform)[None])[..., 60:-10] for x in (whole, streamed))
    distance = [float((a - b.roll(shift, -1)).abs().mean()) for shift in range(-6, 7)]
    assert int(np.argmin(distance)) == 6, "the stream must lag as much as it says, to a frame"
    assert len(streamed.waveform) == len(source.waveform)


def test_what_is_said_later_changes_nothing_before(
    shipped: Converter, source: Audio, streamed: Audio
) -> None:
    stream = Stream(shipped, REFERENCE, sample_rate=16_000)
    until = 20_000
    changed = np.concatenate([source.waveform[:until], np.zeros(len(source.waveform) - until)])
    made = stream_clip(stream, Audio(changed.astype(np.float32), 16_000)).waveform
    safe = until - stream.latency_samples
    np.testing.assert_array_equal(made[:safe], streamed.waveform[:safe])
    assert np.abs(made[until:] - streamed.waveform[until:]).max() > 0.01


def test_loudness_follows_a_quiet_speaker(shipped: Converter, source: Audio) -> None:
    stream = Stream(shipped, REFERENCE, sample_rate=16_000)
    quiet = Audio(0.1 * source.waveform, 16_000)
    made = stream_clip(stream, quiet)
    settled = slice(16_000, None)
    ratio = np.square(made.waveform[settled]).mean() / np.square(quiet.waveform[settled]).mean()
    assert 0.16 < ratio < 6.3  # 8 dB, of the 20 that it began with


def test_a_microphones_offset_is_learnt(shipped: Converter, source: Audio) -> None:
    ears = [Ear(shipped, kept=8) for _ in range(2)]
    heard = []
    for ear, offset in zip(ears, (0.0, 0.05), strict=True):
        silence = np.zeros(6 * 16_000, np.float32)
        samples = np.concatenate([silence, source.waveform[:32_000]]) + np.float32(offset)
        for at in range(0, len(samples), 256):
            ear.listen(samples[at : at + 256])
        heard.append(ear.level_db)
    assert heard[0] == pytest.approx(heard[1], abs=0.2)


def test_a_clip_of_the_speaker_settles_the_stream(shipped: Converter, source: Audio) -> None:
    whole = shipped.convert(source, REFERENCE)
    log_mel = LogMel(shipped.features)

    def off(stream: Stream) -> float:
        made = stream_clip(stream, source)
        a, b = (log_mel(torch.from_numpy(x.waveform)[None])[..., 5:60] for x in (whole, made))
        return float((a - b).abs().mean())

    heard_before = Stream(shipped, REFERENCE, sample_rate=16_000, source=source)
    assert off(heard_before) < off(Stream(shipped, REFERENCE, sample_rate=16_000))


def test_what_the_latents_lose_is_given_back(shipped: Converter, source: Audio) -> None:
    plain = copy.copy(shipped)
    plain.autoencoder = copy.copy(shipped.autoencoder)
    plain.autoencoder.config = replace(shipped.autoencoder.config, residual=0.0)
    log_mel = LogMel(shipped.features)

    def off(converter: Converter) -> float:
        """Of the speaker's own voice, said by a stream that has heard it."""
        stream = Stream(converter, source, sample_rate=16_000, source=source, learn=False)
        made = stream_clip(stream, source)
        a, b = (log_mel(torch.from_numpy(x.waveform)[None])[..., 5:-5] for x in (source, made))
        return float(smooth_bands(a - b, 20).abs().mean())

    assert off(shipped) < 0.95 * off(plain)


def test_a_microphone_can_be_denoised(shipped: Converter, source: Audio) -> None:
    noise = 0.01 * np.random.default_rng(4).standard_normal(len(source.waveform))
    noisy = Audio(source.waveform + noise.astype(np.float32), 16_000)
    log_mel = LogMel(shipped.features)

    def off(denoise: bool) -> float:
        """Of the same stream without the noise."""
        clean, made = (
            stream_clip(Stream(shipped, REFERENCE, 0.0, 16_000, clip, denoise), clip)
            for clip in (source, noisy)
        )
        a, b = (log_mel(torch.from_numpy(x.waveform)[None])[..., 5:-5] for x in (clean, made))
        return float(smooth_bands(a - b, 20).abs().mean())

    assert off(denoise=True) < off(denoise=False)
    deaf = copy.copy(shipped)
    deaf.denoiser = None
    with pytest.raises(CheckpointError, match="no denoiser"):
        Stream(deaf, REFERENCE, denoise=True)


def test_a_voice_that_speaks_on_is_the_voice_of_the_clip(shipped: Converter, source: Audio) -> None:
    model, log_mel = shipped.autoencoder, LogMel(shipped.features)
    with torch.inference_mode():
        frames = log_mel(torch.from_numpy(source.waveform)[None])
        running = RunningVoice(model, first_s=0.5)
        for part in frames.split(4, dim=-1):
            running.hear(part)
        assert running.embedding is not None
        whole = model.encode_speaker(frames, repaired=False)
    assert torch.cosine_similarity(running.embedding, whole) > 0.8
    identity = running.embedding[0, : model.config.speaker_dim]
    assert identity.norm() == pytest.approx(1.0, abs=1e-4)


def test_an_ear_hears_mel_and_pitch_as_a_whole_clip_has_them(
    shipped: Converter, source: Audio
) -> None:
    waveform = shipped._level(source.waveform)
    ear, low, heard = Ear(shipped, kept=0), 0, []
    for block in np.split(waveform[: 256 * (len(waveform) // 256)], len(waveform) // 256):
        ear.listen(block)
        if ear.frames >= low + STEP.frames:
            with torch.inference_mode():
                heard.append(ear.frames_from(low))
            low += STEP.new
    gains = np.repeat([step.gain for step in heard], STEP.new)
    log_mel = torch.cat([step.log_mel[..., : STEP.new] for step in heard], dim=-1)[0]
    whole = shipped.log_mel(torch.from_numpy(waveform)[None])[0, :, :low]
    settled = slice(60, None)
    off = (log_mel - whole - torch.from_numpy(np.log(gains)).float())[:, settled].abs()
    assert off.median() < 0.05  # but for the gain, which moves within a frame's window
    f0 = np.concatenate([step.f0[: STEP.new] for step in heard])
    wanted = estimate_f0(shipped._clean(waveform), shipped.features)[:low]
    assert np.mean((f0 > 0) == (wanted > 0)) > 0.9
    both = (f0 > 0) & (wanted > 0)
    assert np.mean(np.abs(np.log2(f0[both] / wanted[both])) < 0.03) > 0.9


def test_silence_stays_silence_and_what_is_no_number_harms_nothing(shipped: Converter) -> None:
    stream = Stream(shipped, REFERENCE, sample_rate=16_000)
    assert np.abs(stream.push(np.zeros(16_000, np.float32))).max() < 1e-3
    broken = np.full(4_000, np.nan, np.float32)
    broken[::2] = np.inf
    assert np.isfinite(stream.push(broken)).all()
    with pytest.raises(AudioError, match="shape"):
        stream.push(np.zeros((100, 2), np.float32))


def test_models_and_rates_that_cannot_be_streamed_are_refused(
    shipped: Converter, tiny: Converter
) -> None:
    with pytest.raises(CheckpointError, match="cannot be streamed"):
        Stream(tiny, REFERENCE)
    with pytest.raises(AudioError, match="44101 Hz cannot be streamed"):
        Stream(shipped, REFERENCE, sample_rate=44_101)
    for rate in (0, -16_000):  # told of before a voice is learnt, or even looked for
        with pytest.raises(AudioError, match=f"{rate} Hz cannot be streamed"):
            Stream(shipped, "missing.wav", sample_rate=rate)


def test_a_pitch_shift_is_heard(shipped: Converter, source: Audio, streamed: Audio) -> None:
    higher = stream_clip(Stream(shipped, REFERENCE, pitch=7.0, sample_rate=16_000), source)

    def median(waveform: np.ndarray) -> float:
        f0 = estimate_f0(waveform, shipped.features)
        return float(np.median(f0[f0 > 0]))

    assert median(higher.waveform) / median(source.waveform) == pytest.approx(
        2 ** (7 / 12), rel=0.1
    )


@pytest.mark.parametrize(("to_rate", "from_rate"), [(16_000, 48_000), (44_100, 16_000)])
def test_resampled_blocks_are_the_resampled_whole(from_rate: int, to_rate: int) -> None:
    time = np.arange(from_rate, dtype=np.float32) / from_rate
    tone = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    resampler, sizes, made, at = BlockResampler(from_rate, to_rate), some_sizes(3), [], 0
    while at < len(tone):
        block = tone[at : at + next(sizes)]
        made.append(resampler.push(block))
        at += len(block)
        lag_s = at / from_rate - sum(map(len, made)) / to_rate
        assert lag_s <= resampler.delay_s
    got = np.concatenate(made)
    wanted = resample(tone, from_rate, to_rate)[: len(got)]
    assert np.abs(got - wanted)[200:-200].max() < 2e-3


def test_statistics_move_from_the_usual_to_what_is_heard(shipped: Converter) -> None:
    assert shipped.folder is not None
    usual = load_usual(shipped.folder / "stream.safetensors", shipped.model_sha256)
    running = RunningStatistics(usual[1], frames=50, horizon=1_000)
    np.testing.assert_allclose(running.statistics.mean, usual[1].mean)
    generator = torch.Generator().manual_seed(1)
    x = 3 + 2 * torch.randn(1, usual[1].mean.shape[1], 2_000, generator=generator)
    for part in x.split(7, dim=-1):
        running.push(part)
    assert (running.statistics.mean - 3).abs().mean() < 0.3
    assert (running.statistics.variance.sqrt() - 2).abs().mean() < 0.3
    with pytest.raises(CheckpointError, match="another model"):
        load_usual(shipped.folder / "stream.safetensors", "0" * 64)


class Loopback:
    """A sound card that hears a waveform and keeps what it is told to play."""

    def __init__(self, waveform: np.ndarray, until: threading.Event, patient: bool) -> None:
        self.waveform, self.until, self.patient = waveform, until, patient
        self.played: list[np.ndarray] = []

    @contextlib.contextmanager
    def run(self, exchange: Exchange, sample_rate: int, block: int) -> Iterator[None]:
        def play() -> None:
            for at in range(0, len(self.waveform) - block + 1, block):
                self.played.append(exchange(self.waveform[at : at + block]))
                if self.patient:  # a worker that is never late, however slow the machine
                    threading.Event().wait(0.05)
            self.until.set()

        thread = threading.Thread(target=play)
        thread.start()
        yield
        thread.join()


class Echo:
    """A stream that gives back what it is given, slowly or not at all."""

    sample_rate, latency_s = 16_000, 0.0

    def __init__(self, fail: bool = False) -> None:
        self.fail = fail

    def push(self, waveform: np.ndarray) -> np.ndarray:
        if self.fail:
            raise AudioError("stream: broken")
        return waveform


def test_what_the_microphone_hears_is_played_a_block_later() -> None:
    ended, said = threading.Event(), np.arange(6_400, dtype=np.float32)
    card = Loopback(said, ended, patient=True)
    report = run_live(Echo(), card, ended, block=640)  # type: ignore[arg-type]
    played = np.concatenate(card.played)
    begin = 640 * (1 + report.late)
    np.testing.assert_array_equal(played[begin : begin + 640], said[:640])
    assert report.blocks == 10


def test_a_hurried_sound_card_never_waits(shipped: Converter, source: Audio) -> None:
    ended = threading.Event()
    card = Loopback(source.waveform[:16_000], ended, patient=False)
    stream = Stream(shipped, REFERENCE, sample_rate=16_000)
    report = run_live(stream, card, ended, block=512)
    assert report.blocks == 31 == len(card.played)
    assert 0 < report.late <= 31  # it asked faster than anyone can convert
    assert 1 < report.spare <= 4


class Uneven(Echo):
    """Every second block takes until the one after it has been asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.pushed, self.asked = 0, threading.Semaphore(0)

    def push(self, waveform: np.ndarray) -> np.ndarray:
        self.pushed += 1
        if self.pushed % 2 == 0:
            for _ in range(3 if self.pushed == 2 else 2):
                assert self.asked.acquire(timeout=10)
        return waveform


def test_a_worker_that_is_late_now_and_then_is_so_only_at_first() -> None:
    ended, said, stream = threading.Event(), np.arange(1, 12_801, dtype=np.float32), Uneven()

    class Card(Loopback):
        def run(
            self, exchange: Exchange, sample_rate: int, block: int
        ) -> contextlib.AbstractContextManager[None]:
            def counted(waveform: np.ndarray) -> np.ndarray:
                played = exchange(waveform)
                stream.asked.release()
                return played

            return super().run(counted, sample_rate, block)

    card = Card(said, ended, patient=True)
    report = run_live(stream, card, ended, block=640)  # type: ignore[arg-type]
    assert 1 <= report.late <= 2 and report.spare == 1 + report.late
    settled = np.concatenate(card.played[8:])
    np.testing.assert_array_equal(np.diff(settled), 1.0)  # not a sample is missing


def test_failures_of_the_worker_reach_the_caller() -> None:
    ended = threading.Event()
    card = Loopback(np.zeros(6_400, np.float32), ended, patient=False)
    with pytest.raises(VCError, match="broken"):
        run_live(Echo(fail=True), card, ended, block=640)  # type: ignore[arg-type]


def test_a_sound_card_that_does_not_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class PortAudioError(Exception):
        pass

    class Busy:
        def __init__(self, **options: object) -> None:
            assert options["samplerate"] == 48_000

        def __enter__(self) -> None:
            raise PortAudioError("Device unavailable [PaErrorCode -9985]")

        def __exit__(self, *error: object) -> None:
            raise AssertionError("it was never started")

    library = SimpleNamespace(Stream=Busy, PortAudioError=PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    card = SystemSoundCard()
    with (
        pytest.raises(VCError, match=r"cannot be used \(Device unavailable .*`vc live --list`"),
        card.run(lambda heard: heard, 48_000, 960),
    ):
        raise AssertionError("it was never started")


def test_vc_live_from_file_to_file(
    tmp_path: Path, source: Audio, capsys: pytest.CaptureFixture[str]
) -> None:
    spoken, played = tmp_path / "spoken.wav", tmp_path / "played.wav"
    write_audio(spoken, source)
    arguments = ["live", str(REFERENCE), "--from-file", str(spoken)]
    assert main([*arguments, "--to-file", str(played)]) == 0
    assert len(read_audio(played).waveform) == len(source.waveform)
    assert main(arguments) == 2
    assert "belong together" in capsys.readouterr().err
    assert main(["live"]) == 2
    assert "at least one reference" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["live", str(REFERENCE), "--sample-rate", "0"])
    assert "use a rate from 4000 to 400000 Hz" in capsys.readouterr().err


def test_vc_live_never_writes_over_a_clip_of_who_speaks(
    tmp_path: Path, source: Audio, capsys: pytest.CaptureFixture[str]
) -> None:
    spoken, known = tmp_path / "spoken.wav", tmp_path / "me.wav"
    write_audio(spoken, source)
    write_audio(known, source)
    before = known.read_bytes()
    arguments = ["live", str(REFERENCE), "--quick", "--from-file", str(spoken)]
    assert main([*arguments, "--source", str(known), "--to-file", str(known)]) == 2
    assert "me.wav: is an input as well" in capsys.readouterr().err
    assert known.read_bytes() == before
