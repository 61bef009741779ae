from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from tests.conftest import make_voice, num_frames
from vc.config import FeatureConfig
from vc.features import LogMel, mel_filterbank


@pytest.mark.parametrize(
    "config",
    [
        FeatureConfig(),
        FeatureConfig(sample_rate=24_000, n_mels=100, f_max=12_000.0),
        FeatureConfig(n_fft=512, win_length=400, hop_length=160, n_mels=40, f_min=50.0),
    ],
)
def test_log_mel_is_librosas(config: FeatureConfig) -> None:
    waveform = make_voice(150.0, sample_rate=config.sample_rate)
    ours = LogMel(config)(torch.from_numpy(waveform)[None])[0].numpy()
    mel = librosa.feature.melspectrogram(
        y=waveform,
        sr=config.sample_rate,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        win_length=config.win_length,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
        power=1,
        pad_mode="reflect",
    )
    np.testing.assert_allclose(ours, np.log(np.maximum(mel, config.log_floor)), atol=2e-3)


def test_two_configurations_do_not_share_a_filterbank() -> None:
    wide, narrow = FeatureConfig(), FeatureConfig(f_max=4_000.0)
    assert not torch.equal(mel_filterbank(wide), mel_filterbank(narrow))
    assert torch.equal(LogMel(wide).get_buffer("filterbank"), mel_filterbank(wide))


@pytest.mark.parametrize("samples", [1, 255, 256, 257, 511, 512, 513, 1024, 5_000])
def test_frame_count_is_as_promised(samples: int) -> None:
    config = FeatureConfig()
    log_mel = LogMel(config)(torch.randn(1, samples))
    assert log_mel.shape == (1, 80, num_frames(samples, config.hop_length))
    assert torch.isfinite(log_mel).all()


def test_silence_is_at_the_floor() -> None:
    config = FeatureConfig()
    log_mel = LogMel(config)(torch.zeros(1, 4_000))
    torch.testing.assert_close(log_mel, torch.full_like(log_mel, np.log(config.log_floor)))
