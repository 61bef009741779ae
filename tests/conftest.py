"""Made-up voices and tiny networks, so that tests need no recordings and no long training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recipes.toy.make_corpus import make_corpus
from recipes.toy.make_corpus import make_voice as make_voice
from vc.audio import Audio
from vc.checkpoint import load_autoencoder, save_checkpoint, weights_sha256
from vc.config import SHIPPED, AutoencoderConfig, DenoiserConfig, FeatureConfig, VocoderConfig
from vc.convert import Converter, load
from vc.model.autoencoder import Autoencoder
from vc.model.denoiser import Denoiser
from vc.vocoder.source_filter import SourceFilterVocoder
from vc.voice_prior import PRIOR_FILE, fit_prior, save_prior

EXAMPLES = Path(__file__).parent.parent / "vc" / "examples"
TINY_AUTOENCODER = AutoencoderConfig(
    width=32,
    content_blocks=2,
    content_dim=4,
    content_stride=2,
    content_coefficients=40,
    tract_width=16,
    tract_blocks=1,
    speaker_width=32,
    speaker_blocks=1,
    decoder_blocks=2,
)
TINY_VOCODER = VocoderConfig(width=32, blocks=1, corrections=1)
TINY_DENOISER = DenoiserConfig(width=16, blocks=1, block_kernel=9)


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
    # as what ships: not kernel_size, and conversions are given what they lack
    config = replace(TINY_AUTOENCODER, content_kernel=9, closed_loop=0.3, residual=0.5)
    save_checkpoint(Autoencoder(config, features), folder / "autoencoder", 1, {})
    save_checkpoint(SourceFilterVocoder(TINY_VOCODER, features), folder / "vocoder", 1, {})
    save_checkpoint(Denoiser(TINY_DENOISER, features), folder / "denoiser", 1, {})
    autoencoder = load_autoencoder(folder / "autoencoder")
    vectors = np.random.default_rng(0).normal(0, 0.3, (20, TINY_AUTOENCODER.embedding_dim + 2))
    vectors[:, -2:] = np.abs(vectors[:, -2:]) + np.array(
        [5.0, 0.1]
    )  # pitch: median and spread of log-F0
    details = np.random.default_rng(1).normal(-5, 2, (40, features.n_mels)).astype(np.float32)
    prior = fit_prior(vectors.astype(np.float32), 4, details)
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
    make_corpus(root / "toy", speakers=8, clips=3)
    return root


def num_frames(samples: int, hop_length: int) -> int:
    """Mel frames of a clip of `samples` samples."""
    return samples // hop_length + 1


def hold_out_last_voice(cache: Path) -> None:
    """Make the last speaker of a prepared toy corpus the validation speaker."""
    manifest = (cache / "manifest.jsonl").read_text()
    train = 'toy/voice7", "split": "train"'
    assert train in manifest
    held_out = manifest.replace(train, train.replace("train", "validation"))
    (cache / "manifest.jsonl").write_text(held_out)
