from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import EXAMPLES, make_voice
from vc.audio import Audio, read_audio
from vc.clip_check import check_clip, estimate_snr_db

RATE = 16_000


def with_noise(audio: Audio, snr_db: float) -> Audio:
    noise = np.random.default_rng(0).standard_normal(len(audio.waveform)).astype(np.float32)
    gain = np.sqrt(np.mean(audio.waveform**2) * 10 ** (-snr_db / 10))
    return Audio((audio.waveform + gain * noise).astype(np.float32), audio.sample_rate)


@pytest.mark.parametrize("role", ["source", "reference"])
@pytest.mark.parametrize("name", ["source.flac", "reference.flac"])
def test_nothing_is_said_of_good_clips(name: str, role: str) -> None:
    assert check_clip(read_audio(EXAMPLES / name), role) == []


def test_each_fault_is_named_in_plain_words() -> None:
    good = read_audio(EXAMPLES / "source.flac")
    time = np.arange(4 * RATE) / RATE
    noise = 0.1 * np.random.default_rng(0).standard_normal(4 * RATE)
    loud = 3 * good.waveform / np.abs(good.waveform).max()
    clips = {
        "overloaded": np.clip(loud, -1, 1),
        "very quiet": good.waveform * 0.003,
        "noisy": with_noise(good, 5).waveform,
        "not sound like speech": noise,
        "sound like speech;": 0.3 * np.sin(2 * np.pi * 220 * time),
        "minutes long": np.tile(good.waveform, 20),
    }
    for words, waveform in clips.items():
        problems = check_clip(Audio(waveform.astype(np.float32), RATE))
        assert any(words in p.message for p in problems), (words, problems)
        assert not any(p.blocking for p in problems)


def test_what_cannot_be_converted_is_blocking() -> None:
    silent = check_clip(Audio(np.zeros(RATE, np.float32), RATE))
    assert silent[0].blocking and "is silent" in silent[0].message
    short = check_clip(Audio(make_voice(seconds=0.1), RATE))
    assert short[0].blocking and "only 0.10 s" in short[0].message
    assert check_clip(Audio(make_voice(seconds=0.4), RATE), "reference")[0].blocking


@pytest.mark.parametrize("snr_db", [0, 5, 10, 15])
def test_noise_is_measured_to_a_few_decibels(snr_db: float) -> None:
    noisy = with_noise(read_audio(EXAMPLES / "reference.flac"), snr_db)
    assert abs(estimate_snr_db(noisy) - snr_db) < 3
