from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.conftest import TINY_VOCODER, make_voice
from vc.config import FeatureConfig
from vc.convert import Converter
from vc.features import LogMel
from vc.pitch import estimate_f0, interpolate_log_f0, pitch_range
from vc.vocoder.correction import MelCorrection, Shares
from vc.vocoder.excitation import pulse_train, upsample_log_f0
from vc.vocoder.griffin_lim import griffin_lim
from vc.vocoder.source_filter import SourceFilterVocoder

FEATURES = FeatureConfig()


def test_pulses_are_the_sum_of_all_harmonics_below_half_the_rate() -> None:
    f0 = torch.full((1, 16_000), 200.0)
    spectrum = torch.fft.rfft(pulse_train(f0, 16_000)[0]).abs() / 8_000
    harmonics = spectrum[200:8000:200]
    expected = (2 / 40) ** 0.5
    torch.testing.assert_close(harmonics, torch.full_like(harmonics, expected), rtol=0.02, atol=0)
    between = spectrum.clone()
    between[::200] = 0
    assert between.max() < 0.01 * expected


def test_pulses_have_unit_power_and_follow_pitch() -> None:
    for hertz in (70.0, 123.4, 500.0):
        pulses = pulse_train(torch.full((1, 32_000), hertz), 16_000)
        assert pulses.square().mean().item() == pytest.approx(1.0, rel=0.05)
    assert torch.isfinite(pulse_train(torch.linspace(60, 600, 48_000)[None], 16_000)).all()


def test_pitch_is_interpolated_from_frame_centres() -> None:
    dense = upsample_log_f0(torch.tensor([[1.0, 2.0, 4.0]]), 4, 12)
    torch.testing.assert_close(
        dense[0], torch.tensor([1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 4, 4, 4])
    )


def vocode(frames: int, seed: int = 0, level: float = -5.0) -> torch.Tensor:
    torch.manual_seed(0)
    vocoder = SourceFilterVocoder(TINY_VOCODER, FEATURES).eval()
    log_mel = torch.full((1, 80, frames), level)
    pitch = torch.full((1, frames), 5.0), torch.ones(1, frames)
    noise = torch.randn(1, frames * 256, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        return vocoder(log_mel, *pitch, noise)


def test_clarity_acts_on_voiced_frames_below_its_limit_only() -> None:
    torch.manual_seed(0)
    clear = replace(TINY_VOCODER, clarity_hz=4000.0, clarity_noise_db=-20.0, clarity_pulse_db=6.0)
    vocoder = SourceFilterVocoder(clear, FEATURES).eval()
    log_mel, log_f0 = torch.full((1, 80, 10), -5.0), torch.full((1, 10), 5.0)
    voiced = torch.tensor([[1.0] * 5 + [0.0] * 5])
    pulse, noise, phase, *_ = vocoder.filters(log_mel, log_f0, voiced)
    plain_pulse, plain_noise, plain_phase, *_ = vocoder.train().filters(log_mel, log_f0, voiced)
    steps, limit = 5 * vocoder.steps_per_frame, vocoder.bins // 2
    low_and_voiced = torch.zeros_like(pulse)
    low_and_voiced[:, :limit, :steps] = np.log(10) / 20
    torch.testing.assert_close(pulse - plain_pulse, 6 * low_and_voiced, atol=1e-4, rtol=0)
    torch.testing.assert_close(noise - plain_noise, -20 * low_and_voiced, atol=1e-4, rtol=0)
    torch.testing.assert_close(phase, plain_phase)


def test_voiced_frames_of_decoded_mels_have_no_noise_in_the_lowest_bands() -> None:
    torch.manual_seed(0)
    config = replace(TINY_VOCODER, breath_from_hz=2000.0)
    vocoder = SourceFilterVocoder(config, FEATURES).eval()
    log_mel, log_f0 = torch.full((1, 80, 10), -5.0), torch.full((1, 10), 5.0)
    voiced = torch.tensor([[1.0] * 5 + [0.0] * 5])
    measured = vocoder.filters(log_mel, log_f0, voiced)
    decoded = vocoder.filters(log_mel, log_f0, voiced, decoded=True)
    torch.testing.assert_close(decoded.pulse, measured.pulse)
    steps, limit = 5 * vocoder.steps_per_frame, vocoder.bins // 4
    quieter = measured.noise - decoded.noise
    assert (quieter[:, :limit, :steps] > 6).all()  # log-magnitude
    assert (quieter[:, limit + 1 :] == 0).all() and (quieter[:, :, steps:] == 0).all()


def test_decoded_mels_are_corrected_by_less_below_the_breath_and_by_more_above() -> None:
    torch.manual_seed(0)
    shares = {"correction_below": 0.5, "correction_above": 1.5}
    config = replace(TINY_VOCODER, corrections=1, breath_from_hz=1000.0, **shares)
    vocoder = SourceFilterVocoder(config, FEATURES).eval()
    mel = torch.full((1, 80, 10), -5.0), torch.full((1, 10), 5.0), torch.ones(1, 10)
    measured = vocoder.filters(*mel).shares
    decoded = vocoder.filters(*mel, decoded=True).shares
    trained = vocoder.train().filters(*mel, decoded=True).shares
    assert measured is not None and decoded is not None and trained is not None
    low = 26  # bands of 80 that lie below 1 kHz
    for mine, theirs, untouched in zip(decoded, measured, trained, strict=True):
        torch.testing.assert_close(untouched, theirs)
        torch.testing.assert_close(mine[:, :low], 0.5 * theirs[:, :low])
        torch.testing.assert_close(mine[:, low:], 1.5 * theirs[:, low:])


def test_a_rooms_rumble_is_heard_below_a_voice_too() -> None:
    frames, low = 120, 3  # bands below 130 Hz, where a voice of 200 Hz has nothing
    log_mel = torch.full((1, 80, frames), -4.0)
    pitch = torch.full((1, frames), np.log(200.0)), torch.ones(1, frames)
    noise = torch.randn(1, frames * 256, generator=torch.Generator().manual_seed(0))

    def rumble(share: float) -> float:
        config = replace(
            TINY_VOCODER,
            corrections=1,
            breath_from_hz=1000.0,
            correction_below=0.0,
            rumble_hz=130.0,
            correction_rumble=share,
        )
        torch.manual_seed(0)
        vocoder = SourceFilterVocoder(config, FEATURES).eval()
        assert vocoder.trust is not None
        with torch.inference_mode():
            vocoder.trust.bias.fill_(20.0)
            waveform = vocoder(log_mel, *pitch, noise, decoded=True)
        return float(LogMel(FEATURES)(waveform)[0, :low, 10 : frames - 10].mean())

    assert rumble(0.0) < rumble(0.5) - 0.3 and rumble(0.5) < rumble(1.0) - 0.3
    assert rumble(1.0) < float(log_mel[:, :low].mean())


def test_what_is_given_back_slowly_keeps_still() -> None:
    frames = 60
    wanted = torch.zeros(1, 80, frames)
    heard = wanted - 1 - 0.5 * (-1.0) ** torch.arange(frames)
    correct = MelCorrection(FEATURES, bins=257, steps_per_frame=2)
    nothing, all_of_it = torch.zeros_like(wanted), torch.ones_like(wanted)
    slowly = correct(wanted, heard, Shares(nothing, all_of_it)).log()
    torch.testing.assert_close(slowly, torch.ones_like(slowly), rtol=0, atol=0.05)
    at_once = correct(wanted, heard, Shares(all_of_it, nothing)).log()
    both = correct(wanted, heard, Shares(all_of_it, all_of_it)).log()
    torch.testing.assert_close(at_once + slowly, both)
    torch.testing.assert_close(both[..., ::2], (wanted - heard)[:, :1].expand(1, 257, frames))


def test_correction_moves_what_is_heard_to_what_was_wanted_as_far_as_it_is_trusted() -> None:
    speech = torch.from_numpy(make_voice(150.0))[None]
    log_mel = LogMel(FEATURES)(speech)
    frames = log_mel.shape[-1]
    pitch = torch.full((1, frames), np.log(150.0)), torch.ones(1, frames)
    noise = torch.randn(1, frames * 256, generator=torch.Generator().manual_seed(0))

    def distance(corrections: int, trust: float) -> float:
        torch.manual_seed(0)
        config = replace(TINY_VOCODER, corrections=corrections)
        vocoder = SourceFilterVocoder(config, FEATURES).eval()
        with torch.inference_mode():
            if vocoder.trust is not None:
                vocoder.trust.bias.fill_(trust)
            heard = LogMel(FEATURES)(vocoder(log_mel, *pitch, noise))[..., :frames]
        return float((heard - log_mel).abs().mean())

    none = distance(0, 0.0)
    assert distance(1, -20.0) == pytest.approx(none, rel=1e-3)
    assert distance(1, 20.0) < 0.8 * none
    assert distance(3, 20.0) < distance(1, 20.0) < distance(1, 0.0) < none


@pytest.mark.parametrize("frames", [1, 2, 7, 50])
def test_vocoder_returns_a_hop_for_each_frame(frames: int) -> None:
    waveform = vocode(frames)
    assert waveform.shape == (1, frames * 256)
    assert torch.isfinite(waveform).all()


def test_vocoder_is_deterministic_given_its_noise_and_quiet_for_silence() -> None:
    torch.testing.assert_close(vocode(20), vocode(20), rtol=0, atol=0)
    assert not torch.equal(vocode(20), vocode(20, seed=1))
    assert vocode(20, level=float(np.log(1e-5))).abs().max() < 1e-3


def copy_synthesis(converter: Converter, waveform: np.ndarray) -> np.ndarray:
    f0 = estimate_f0(waveform, FEATURES)
    log_mel = LogMel(FEATURES)(torch.from_numpy(waveform)[None])
    with torch.inference_mode():
        return converter.synthesize(
            log_mel,
            torch.from_numpy(interpolate_log_f0(f0))[None],
            torch.from_numpy((f0 > 0).astype(np.float32))[None],
            decoded=False,
        )[: len(waveform)]


def test_shipped_vocoder_rebuilds_mel_and_pitch(shipped: Converter) -> None:
    waveform = 0.2 * make_voice(140.0)
    rebuilt = copy_synthesis(shipped, waveform)
    log_mel = LogMel(FEATURES)
    distance = log_mel(torch.from_numpy(rebuilt)[None]) - log_mel(torch.from_numpy(waveform)[None])
    assert distance.abs().mean().item() < 0.6
    ours, theirs = (pitch_range(estimate_f0(w, FEATURES)) for w in (rebuilt, waveform))
    assert ours is not None and theirs is not None
    assert abs(12 * np.log2(np.exp(ours.median - theirs.median))) < 0.3


def test_griffin_lim_needs_no_weights_and_keeps_the_spectrum() -> None:
    waveform = torch.from_numpy(make_voice(140.0))[None]
    log_mel = LogMel(FEATURES)
    rebuilt = griffin_lim(log_mel(waveform), FEATURES)
    assert rebuilt.shape[-1] == 32_000
    assert (log_mel(rebuilt) - log_mel(waveform)).abs().mean().item() < 0.5
