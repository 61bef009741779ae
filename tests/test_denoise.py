from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vc.convert
import vc.denoise
from tests.conftest import EXAMPLES, make_voice
from vc.audio import Audio, active_level_db, read_audio, resample, write_audio
from vc.checkpoint import load_denoiser
from vc.cli import main
from vc.config import SHIPPED
from vc.convert import Converter
from vc.denoise import clean_blocks, clean_waveform
from vc.errors import CheckpointError
from vc.features import mel_centres_hz
from vc.model.denoiser import denoising_loss
from vc.model.speaker_encoder import split_embedding
from vc.pitch import estimate_f0
from vc.training.rooms import RoomConfig, draw_rooms, early_part, play


def snr_db(waveform: np.ndarray, clean: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(clean**2) / np.sum((waveform - clean) ** 2)))


def noisy_clip(level: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """The example's speech with white noise, and without."""
    clean = read_audio(EXAMPLES / "source.flac").waveform
    noise = np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32)
    return clean + level * noise, clean


def test_the_shipped_denoiser_takes_noise_out_and_leaves_clean_speech(shipped: Converter) -> None:
    noisy, clean = noisy_clip()
    cleaned = shipped.denoise(Audio(noisy, 16_000)).waveform
    assert snr_db(cleaned, clean) > snr_db(noisy, clean) + 4
    assert snr_db(shipped.denoise(Audio(clean, 16_000)).waveform, clean) > 15


def test_speech_keeps_level_length_and_rate(shipped: Converter) -> None:
    voice = 0.05 * make_voice(seconds=1.7, sample_rate=44_100)
    cleaned = shipped.denoise(Audio(voice, 44_100))
    assert cleaned.sample_rate == 44_100 and len(cleaned.waveform) == len(voice)
    assert abs(active_level_db(cleaned.waveform, 44_100) - active_level_db(voice, 44_100)) < 2


def test_noise_of_a_reference_does_not_become_part_of_the_voice(
    shipped: Converter, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy, clean = (Audio(x, 16_000) for x in noisy_clip())
    voice = shipped.voice(clean, learn=False).speaker_embedding
    denoised = shipped.voice(noisy, learn=False).speaker_embedding
    monkeypatch.setattr(shipped, "denoiser", None)
    as_it_is = shipped.voice(noisy, learn=False).speaker_embedding
    assert (denoised - voice).norm() < 0.8 * (as_it_is - voice).norm()


def test_a_room_is_taken_out_of_a_clip(shipped: Converter) -> None:
    clean = read_audio(EXAMPLES / "source.flac").waveform
    torch.manual_seed(0)
    room = draw_rooms(1, RoomConfig(reverberation_s=(0.6, 0.6), echo_db=(0.0, 0.0)), 16_000)
    dry = torch.from_numpy(clean)[None]
    with_early, echoing = (play(dry, part)[0].numpy() for part in (early_part(room, 16_000), room))
    cleaned = shipped.denoise(Audio(echoing, 16_000)).waveform
    assert snr_db(cleaned, with_early) > snr_db(echoing, with_early) + 1
    ends = slice(-4_000, None)  # nobody speaks any more
    assert np.abs(cleaned[ends]).mean() < 0.5 * np.abs(echoing[ends]).mean()


def test_pitch_is_read_from_a_source_without_its_noise(
    shipped: Converter, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy, clean = noisy_clip(0.05)
    voice = shipped.voice(read_audio(EXAMPLES / "reference.flac"))
    heard = []

    def listening(waveform: np.ndarray, *given: Any) -> np.ndarray:
        heard.append(waveform)
        return estimate_f0(waveform, *given)

    monkeypatch.setattr(vc.convert, "estimate_f0", listening)
    shipped.convert(Audio(noisy, 16_000), voice)
    monkeypatch.setattr(shipped, "denoiser", None)
    shipped.convert(Audio(noisy, 16_000), voice)
    quiet, as_it_is = (shipped._level(waveform) for waveform in heard)
    clean = shipped._level(clean)
    assert snr_db(quiet, clean) > snr_db(as_it_is, clean) + 4


def test_a_reference_over_a_telephone_gives_a_voice_with_all_its_bands(shipped: Converter) -> None:
    clean = read_audio(EXAMPLES / "reference.flac")
    narrow = resample(clean.waveform, clean.sample_rate, 8_000)
    config = shipped.autoencoder.config
    whole, heard = (
        split_embedding(shipped.voice(clip, learn=False).speaker_embedding[None], config)
        for clip in (clean, Audio(narrow, 8_000))
    )
    lost = mel_centres_hz(shipped.features) > 4_300
    assert (heard.mean - whole.mean)[0, lost].abs().mean() < 0.5  # it had been 2.5
    assert (heard.log_deviation - whole.log_deviation)[0, lost].abs().mean() < 0.5  # 3.1
    assert (heard.identity * whole.identity).sum() > 0.5


@pytest.mark.parametrize("level", [0.1, 1.0])
def test_a_reference_that_is_all_but_noise_still_gives_sound(
    shipped: Converter, monkeypatch: pytest.MonkeyPatch, level: float
) -> None:
    noisy, clean = (Audio(x, 16_000) for x in noisy_clip(level))
    for denoiser in (shipped.denoiser, None):
        monkeypatch.setattr(shipped, "denoiser", denoiser)
        converted = shipped.convert(clean, noisy).waveform
        assert np.isfinite(converted).all() and 0.01 < np.abs(converted).max() < 2


def test_more_noise_is_taken_out_where_more_is_asked_for() -> None:
    noisy, clean = noisy_clip()
    denoiser = load_denoiser(SHIPPED / "denoiser")
    pause = np.abs(clean) < 1e-3
    left = [clean_waveform(denoiser, noisy, exponent)[pause].std() for exponent in (0, 1, 1.5)]
    assert left[0] > 2 * left[1] and left[1] > left[2]


def test_blocks_join_without_a_step(shipped: Converter, monkeypatch: pytest.MonkeyPatch) -> None:
    noisy, _ = noisy_clip()
    denoiser = load_denoiser(SHIPPED / "denoiser")
    whole = clean_waveform(denoiser, noisy)
    monkeypatch.setattr(vc.denoise, "BLOCK_S", 2.0)
    blocks = list(clean_blocks(denoiser, lambda a, b: noisy[a:b], len(noisy)))
    assert len(blocks) > 2
    joined = np.concatenate(blocks)
    assert joined.shape == whole.shape
    steps = np.abs(np.diff(joined))
    for seam in np.cumsum([len(block) for block in blocks])[:-1]:
        assert steps[seam - 1] <= 2 * np.abs(np.diff(whole))[seam - 50 : seam + 50].max()
    assert snr_db(joined, whole) > 15  # only the noise floors differ


def test_the_last_block_is_as_long_as_any(
    shipped: Converter, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy, _ = noisy_clip()
    denoiser = load_denoiser(SHIPPED / "denoiser")
    monkeypatch.setattr(vc.denoise, "BLOCK_S", 2.0)
    given: list[int] = []

    def read(start: int, stop: int) -> np.ndarray:
        given.append(stop - start)
        return noisy[start:stop]

    samples = 2 * 2 * 16_000 + 1_000  # two blocks and a little
    cleaned = np.concatenate(list(clean_blocks(denoiser, read, samples)))
    assert len(cleaned) == samples and len(given) == 3 and min(given) >= 2.0 * 16_000


def test_gains_never_amplify_and_the_loss_is_zero_for_the_right_ones() -> None:
    denoiser = load_denoiser(SHIPPED / "denoiser")
    clean = torch.randn(2, 80, 50, generator=torch.Generator().manual_seed(1)) - 4
    noisy = torch.logaddexp(clean, torch.full_like(clean, -4.0))
    gain = denoiser(noisy)
    assert gain.max() <= 0 and gain.min() >= denoiser.log_gain_min
    assert float(denoising_loss(clean - noisy, noisy, clean)) == pytest.approx(0, abs=1e-6)
    assert float(denoising_loss(torch.zeros_like(noisy), noisy, clean)) > 0.01


def test_a_model_without_denoiser_says_so(tiny: Converter, low_voice: Audio) -> None:
    without = Converter(tiny.autoencoder, tiny.vocoder)
    with pytest.raises(CheckpointError, match="no denoiser"):
        without.convert(low_voice, low_voice, denoise=True)
    with pytest.raises(CheckpointError, match="no denoiser"):
        without.denoise(low_voice)


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "noisy.wav", tmp_path / "clean.flac"
    write_audio(source, Audio(noisy_clip()[0], 16_000))
    assert main(["denoise", str(source), "-o", str(output)]) == 0
    assert len(read_audio(output).waveform) == len(read_audio(source).waveform)
    arguments = ["convert", str(source), str(EXAMPLES / "reference.flac"), "--quiet"]
    for name, options in (("plain", []), ("denoised", ["--denoise"])):
        assert main([*arguments, "-o", str(tmp_path / f"{name}.wav"), *options]) == 0
    plain, denoised = (read_audio(tmp_path / f"{n}.wav").waveform for n in ("plain", "denoised"))
    assert not np.allclose(plain, denoised)
    (tmp_path / "text.wav").write_text("no")
    assert main(["denoise", str(tmp_path / "text.wav"), "-o", str(output)]) == 2
    assert "text.wav" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "missing" / "x.wav"
    assert main(["denoise", str(EXAMPLES / "source.flac"), "-o", str(output)]) == 2
    assert "missing" in capsys.readouterr().err
