from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import make_voice, num_frames
from vc.config import FeatureConfig
from vc.pitch import (
    PitchRange,
    estimate_f0,
    interpolate_log_f0,
    match_range,
    moved_f0,
    pitch_range,
    shift_semitones,
    within_range,
)


@pytest.mark.parametrize("f0", [80.0, 150.0, 300.0])
def test_pitch_of_a_known_voice(f0: float) -> None:
    track = estimate_f0(make_voice(f0), FeatureConfig())
    assert len(track) == num_frames(32_000, 256)
    found = pitch_range(track)
    assert found is not None
    assert abs(12 * np.log2(np.exp(found.median) / f0)) < 1.5  # the melody swings by 1.8


@pytest.mark.parametrize("hop_length", [256, 275])
def test_a_fast_glide_is_followed_frame_by_frame(hop_length: int) -> None:
    seconds = np.arange(16_000) / 16_000
    hertz = 120 * 2 ** (2 * seconds)  # two octaves in a second
    phase = 2 * np.pi * np.cumsum(hertz) / 16_000
    harmonics = [np.cos(k * phase) / k for k in range(1, 9)]
    waveform = np.sum(harmonics, axis=0).astype(np.float32)
    track = estimate_f0(waveform, FeatureConfig(hop_length=hop_length))
    assert len(track) == num_frames(16_000, hop_length)
    inner = slice(4, 54)  # windows that lie within the clip
    np.testing.assert_allclose(track[inner], hertz[::hop_length][inner], rtol=0.03)


def test_noise_and_silence_have_no_pitch() -> None:
    for waveform in (np.zeros(16_000, np.float32), np.full(16_000, 1e-7, np.float32)):
        assert pitch_range(estimate_f0(waveform, FeatureConfig())) is None


@pytest.mark.parametrize("mains", [50.0, 60.0])
def test_mains_hum_is_no_voice(mains: float) -> None:
    seconds = np.arange(16_000) / 16_000
    hum = 0.01 * np.sin(2 * np.pi * mains * seconds).astype(np.float32)
    voice = make_voice(180.0, seconds=1.0)
    assert 0.03 < hum.max() / np.abs(voice).max() < 0.1  # loud enough to be heard in pauses
    track = estimate_f0(np.concatenate([voice + hum, hum, hum]), FeatureConfig())
    assert np.all(track[66:] == 0)
    found, alone = (pitch_range(f0[:60]) for f0 in (track, estimate_f0(voice, FeatureConfig())))
    assert found is not None and alone is not None
    assert abs(found.median - alone.median) < 0.02


def test_interpolation_fills_gaps_in_the_logarithm() -> None:
    log_f0 = interpolate_log_f0(np.array([0, 100, 0, 400, 0], np.float32))
    np.testing.assert_allclose(np.exp(log_f0), [100, 100, 200, 400, 400], rtol=1e-5)
    np.testing.assert_allclose(np.exp(interpolate_log_f0(np.zeros(3, np.float32))), 150, rtol=1e-5)


def test_matching_moves_the_median_and_keeps_intonation() -> None:
    f0 = np.array([100, 0, 110, 120, 90, 105], np.float32)
    reference = PitchRange(float(np.log(210.0)), 0.1)
    matched = match_range(f0, pitch_range(f0), reference)
    assert np.median(matched[matched > 0]) == pytest.approx(210.0, rel=1e-4)
    np.testing.assert_allclose(matched / np.maximum(f0, 1), np.where(f0 > 0, 2.0, 0.0), rtol=1e-4)
    np.testing.assert_array_equal(match_range(f0, None, reference), f0)


def test_a_pitch_that_does_not_move_is_not_bent() -> None:
    f0 = np.array([0, 62, 70, 580, 0, 75, 66], np.float32)
    for pitch in ("match", "keep", 0.0):  # nobody knows the range that "match" should match
        np.testing.assert_array_equal(moved_f0(f0, None, pitch, FeatureConfig()), f0)
    assert moved_f0(f0, None, 0.1, FeatureConfig())[3] < 560


def test_an_octave_is_twelve_semitones() -> None:
    np.testing.assert_allclose(shift_semitones(np.array([0, 100.0]), 12), [0, 200])


def test_f0_is_held_where_models_have_heard_speech() -> None:
    f0 = np.array([10, 30, 50, 60, 70, 80, 100, 390, 450, 600, 1_200, 5_000], np.float32)
    held = within_range(f0, FeatureConfig())
    assert (held[1:] - held[:-1] > 0.001).all()  # a melody stays one
    assert held.min() > 64 and held.max() < 560  # 60 to 600 Hz is what they have heard
    np.testing.assert_allclose(held[6:8], f0[6:8], rtol=1e-5)
    np.testing.assert_array_equal(within_range(np.zeros(3, np.float32), FeatureConfig()), 0)
