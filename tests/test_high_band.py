"""What a conversion has above the model's band, at rates that have more."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from tests.conftest import make_voice
from vc.audio import Audio, fit_length, resample
from vc.convert import Converter
from vc.vocoder.high_band import HighBand, HighBandEar, HighBandMouth, add_high_band

RATE, MODEL_RATE = 44_100, 16_000


def level_db(waveform: np.ndarray, low: float, high: float, rate: int = RATE) -> float:
    """Of a band, in dBFS."""
    hertz, density = signal.welch(waveform, rate, nperseg=1024)
    power = density[(hertz >= low) & (hertz < high)].sum() * (hertz[1] - hertz[0])
    return float(10 * np.log10(power + 1e-12))


def hisses(rate: int = RATE) -> np.ndarray:
    """One second: hissing in the second half, nothing but a hum in the first."""
    noise = 0.1 * np.random.default_rng(5).standard_normal(rate)
    noise[: rate // 2] = 0.0
    return (noise + 0.1 * np.sin(2 * np.pi * 150 * np.arange(rate) / rate)).astype(np.float32)


def without_high_band(waveform: np.ndarray) -> np.ndarray:
    """What is left of it at the model's rate, at its own."""
    narrow = resample(waveform, RATE, MODEL_RATE)
    return fit_length(resample(narrow, MODEL_RATE, RATE), len(waveform))


def test_what_was_cut_off_is_as_loud_again_where_it_was() -> None:
    source = hisses()
    spoken = without_high_band(source)
    made = add_high_band(spoken, source, MODEL_RATE, RATE)
    half = RATE // 2
    for low, high in ((8_000, 11_000), (11_000, 15_000), (15_000, 20_000)):
        assert level_db(spoken[half:], low, high) < level_db(source[half:], low, high) - 15
        assert level_db(made[half:], low, high) == pytest.approx(
            level_db(source[half:], low, high), abs=1.5
        )
        assert level_db(made[: half - RATE // 50], low, high) < -80


def test_below_nothing_changes() -> None:
    source = hisses()
    spoken = without_high_band(source)
    added = add_high_band(spoken, source, MODEL_RATE, RATE) - spoken
    assert level_db(added, 100, 7_000) < level_db(spoken, 100, 7_000) - 50


def test_it_follows_the_conversions_level_and_not_the_sources() -> None:
    source = hisses()
    spoken = 0.1 * without_high_band(source)
    made = add_high_band(spoken, source, MODEL_RATE, RATE)
    expected = level_db(source, 9_000, 15_000) - 20
    assert level_db(made, 9_000, 15_000) == pytest.approx(expected, abs=1.5)
    silent = add_high_band(np.zeros_like(source), source, MODEL_RATE, RATE)
    assert np.abs(silent).max() < 1e-4


def test_a_sources_steady_noise_is_turned_down() -> None:
    generator = np.random.default_rng(6)
    loud, hiss = (generator.standard_normal(RATE).astype(np.float32) for _ in range(2))
    spoken = without_high_band(0.1 * loud)
    half = RATE // 2
    source = spoken + 0.01 * (hiss - without_high_band(hiss))  # steady, above the model's band
    source[half:] = 0.1 * loud[half:]
    made = add_high_band(spoken, source, MODEL_RATE, RATE)
    steady, speech = slice(0, half - RATE // 50), slice(half + RATE // 50, None)
    assert level_db(made[steady], 9_000, 20_000) == pytest.approx(
        level_db(source[steady], 9_000, 20_000) - 10, abs=1
    )
    assert level_db(made[speech], 9_000, 20_000) == pytest.approx(
        level_db(source[speech], 9_000, 20_000), abs=1
    )


def test_a_source_that_has_nothing_there_adds_nothing() -> None:
    spoken = without_high_band(hisses())
    made = add_high_band(spoken, spoken, MODEL_RATE, RATE)
    before_its_end = slice(0, -RATE // 50)  # which cuts the hissing off, and clicks
    assert np.abs(made - spoken)[before_its_end].max() < 1e-3
    assert level_db(made[before_its_end], 9_000, 20_000) < -80


@pytest.mark.parametrize("rate", [22_050, 24_000, 44_100, 48_000, 96_000])
def test_blocks_of_any_size_give_what_the_whole_gives(rate: int) -> None:
    source = hisses(rate)
    spoken = fit_length(resample(resample(source, rate, MODEL_RATE), MODEL_RATE, rate), rate)
    whole = add_high_band(spoken, source, MODEL_RATE, rate)
    band = HighBand(MODEL_RATE, rate)
    cuts = np.sort(np.random.default_rng(1).integers(0, rate, 12))
    ear = HighBandEar(band)
    parts = np.split(source, cuts)
    heard = np.concatenate([ear.push(part) for part in parts] + [ear.push(source[:0], last=True)])
    mouth = HighBandMouth(band, lambda start, stop: heard[start:stop], ear.noise)
    made = [mouth.push(part) for part in np.split(spoken, cuts[::2])]
    made.append(mouth.push(spoken[:0], last=True))
    np.testing.assert_allclose(np.concatenate(made), whole, atol=1e-6)
    assert len(whole) == rate


@pytest.mark.parametrize("rate", [16_000, 17_000, 8_000])
def test_rates_that_have_no_room_for_it_do_without(rate: int) -> None:
    assert not HighBand.is_wanted(MODEL_RATE, rate)


def test_a_conversion_of_a_full_recording_is_not_dull(tiny: Converter, high_voice: Audio) -> None:
    voice = make_voice(seconds=1.0, sample_rate=RATE)
    hiss = hisses()[RATE // 2 :]
    source = Audio(np.concatenate([voice, hiss, voice]).astype(np.float32), RATE)
    converted = tiny.convert(source, high_voice)
    narrow = tiny.convert(Audio(without_high_band(source.waveform), RATE), high_voice)
    at = slice(RATE, RATE + len(hiss))
    assert level_db(converted.waveform[at], 9_000, 15_000) > (
        level_db(narrow.waveform[at], 9_000, 15_000) + 20
    )
    cleaned = tiny.denoise(source)
    assert level_db(cleaned.waveform, 9_000, 15_000) > -60
