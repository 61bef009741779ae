"""Made-up voices and tiny networks, so that tests need no recordings and no long training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vc.audio import Audio, write_audio
from vc.checkpoint import load_autoencoder, save_checkpoint, weights_sha256
from vc.config import AutoencoderConfig, DenoiserConfig, FeatureConfig, VocoderConfig
from vc.convert import SHIPPED, Converter, load
from vc.model.autoencoder import Autoencoder
from vc.model.denoiser import Denoiser
from vc.vocoder.source_filter import SourceFilterVocoder
from vc.voice_prior import PRIOR_FILE, fit_prior, save_prior

EXAMPLES = Path(__file__).parent.parent / "vc" / "examples"
TINY_AUTOENCODER = AutoencoderConfig(
    width=32,
    content_blocks=2,
    content_dim=4,
    content_coefficients=40,
    speaker_width=32,
    speaker_blocks=1,
    decoder_blocks=2,
    unvoiced_bypass=0.5,
)
TINY_VOCODER = VocoderConfig(width=32, blocks=1)
TINY_DENOISER = DenoiserConfig(width=16, blocks=1)


def make_voice(
    f0: float = 120.0,
    formants: tuple[float, ...] = (600.0, 1200.0, 2500.0),
    seconds: float = 2.0,
    sample_rate: int = 16_000,
    seed: int = 0,
) -> np.ndarray:
    """A buzzing voice: harmonics under moving formants, in syllables, with a little breath."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    melody = f0 * 2 ** (0.15 * np.sin(2 * np.pi * 0.7 * time + generator.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(melody) / sample_rate
    moving = 1 + 0.2 * np.sin(2 * np.pi * 2.1 * time + generator.uniform(0, 6))
    waveform = np.zeros_like(time)
    for number in range(1, int(0.45 * sample_rate / f0)):
        frequency = number * melody
        gain = sum(1 / (1 + ((frequency - f * moving) / 150) ** 2) for f in formants)
        waveform += gain * np.sin(number * phase)
    syllables = np.clip(np.sin(2 * np.pi * 2.5 * time) + 0.8, 0, 1)
    waveform = waveform / np.abs(waveform).max() * syllables
    waveform += 0.003 * generator.standard_normal(len(time))
    return (0.3 * waveform).astype(np.float32)


@pytest.fixture
def low_voice() -> Audio:
    return Audio(make_voice(110.0), 16_000)


@pytest.fixture
def high_voice() -> Audio:
    return Audio(make_voice(220.0, (800.0, 1500.0, 2900.0), seed=1), 16_000)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model with random weights."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    features = FeatureConfig()
    save_checkpoint(Autoencoder(TINY_AUTOENCODER, features), folder / "autoencoder", 1, {})
    save_checkpoint(SourceFilterVocoder(TINY_VOCODER, features), folder / "vocoder", 1, {})
    save_checkpoint(Denoiser(TINY_DENOISER, features), folder / "denoiser", 1, {})
    autoencoder = load_autoencoder(folder / "autoencoder")
    vectors = np.random.default_rng(0).normal(0, 0.3, (20, TINY_AUTOENCODER.embedding_dim + 2))
    vectors[:, -2:] = np.abs(vectors[:, -2:]) + np.array(
        [5.0, 0.1]
    )  # pitch: median and spread of log-F0
    prior = fit_prior(vectors.astype(np.float32), 4)
    save_prior(folder / PRIOR_FILE, prior, weights_sha256(autoencoder))
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_checkpoint: Path) -> Converter:
    return load(tiny_checkpoint)


@pytest.fixture(scope="session")
def shipped() -> Converter:
    assert SHIPPED.is_dir(), "the package must ship its weights"
    return load()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight voices with three clips each, as speaker/utterance.wav."""
    root = tmp_path_factory.mktemp("corpora")
    for speaker in range(8):
        folder = root / "toy" / f"voice{speaker}"
        folder.mkdir(parents=True)
        for clip in range(3):
            formants = tuple(f * (0.8 + 0.05 * speaker) for f in (600.0, 1200.0, 2500.0))
            waveform = make_voice(90 + 20 * speaker, formants, 1.6, seed=10 * speaker + clip)
            write_audio(folder / f"clip{clip}.wav", Audio(waveform, 16_000))
    return root


def hold_out_last_voice(cache: Path) -> None:
    """Make the last speaker of a prepared toy corpus the validation speaker."""
    manifest = (cache / "manifest.jsonl").read_text()
    train = 'toy/voice7", "split": "train"'
    assert train in manifest
    held_out = manifest.replace(train, train.replace("train", "validation"))
    (cache / "manifest.jsonl").write_text(held_out)
