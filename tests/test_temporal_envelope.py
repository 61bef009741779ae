from __future__ import annotations

import torch
from torch import Tensor

from tests.conftest import make_voice
from vc.config import FeatureConfig
from vc.vocoder.temporal_envelope import TemporalEnvelope

ENVELOPE = TemporalEnvelope(FeatureConfig())


def noise(seed: int, samples: int = 16_000) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.05 * torch.randn(1, samples, generator=generator)


def level_db(waveform: Tensor, start_s: float, stop_s: float) -> float:
    part = waveform[0, round(16_000 * start_s) : round(16_000 * stop_s)]
    return float(10 * part.square().mean().log10())


def test_speech_that_moves_as_its_source_stays_as_it_is() -> None:
    voice = torch.from_numpy(make_voice(140.0))[None].float()
    torch.testing.assert_close(ENVELOPE(voice, voice), voice, atol=1e-5, rtol=0)


def test_a_burst_is_as_short_as_in_the_source() -> None:
    gate = torch.full((1, 16_000), 0.01)
    gate[:, 8_000:8_320] = 1.0
    spoken_gate = torch.full((1, 16_000), 0.01)
    spoken_gate[:, 7_680:8_640] = torch.hann_window(960)  # what a mel's window leaves of it
    spoken = noise(1) * spoken_gate
    followed = ENVELOPE(spoken, noise(2) * gate)

    def contrast(waveform: Tensor) -> float:
        return level_db(waveform, 0.500, 0.520) - level_db(waveform, 0.525, 0.540)

    assert contrast(followed) > contrast(spoken) + 2


def test_loudness_that_mels_have_seen_is_left_to_the_decoder() -> None:
    swelling = torch.linspace(-30, 0, 16_000)
    followed = ENVELOPE(noise(1), noise(2) * 10 ** (swelling / 20))
    for start in (0.2, 0.5, 0.8):
        before, after = (level_db(x, start, start + 0.1) for x in (noise(1), followed))
        assert abs(after - before) < 0.6


def test_silence_does_not_move() -> None:
    silence = torch.zeros(1, 16_000)
    assert ENVELOPE(silence, noise(1)).abs().max() == 0
    spoken = noise(1) * 1e-4  # what a vocoder says of silence
    assert abs(level_db(ENVELOPE(spoken, silence), 0, 1) - level_db(spoken, 0, 1)) < 0.1


def test_any_hop_is_divided_into_whole_steps() -> None:
    for hop_length in (200, 255, 300):
        config = FeatureConfig(sample_rate=22_050, hop_length=hop_length)
        envelope = TemporalEnvelope(config)
        assert hop_length % envelope.hop_length == 0
        spoken = noise(1, 4 * hop_length)
        torch.testing.assert_close(envelope(spoken, spoken), spoken)
