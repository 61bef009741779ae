from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import EXAMPLES
from vc.cli import main
from vc.config import SHIPPED
from vc.convert import Converter
from vc.errors import CheckpointError, VoiceError
from vc.model.speaker_encoder import split_embedding
from vc.voice import Voice, load_voice
from vc.voice_prior import PRIOR_FILE, fit_prior, load_prior


def test_the_prior_keeps_mean_and_spread_of_what_it_was_fitted_to() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((4000, 3)) @ generator.standard_normal((3, 10)) + 2
    vectors = vectors.astype(np.float32)
    prior = fit_prior(vectors, 3, np.zeros((0, 80), np.float32))
    drawn = generator.standard_normal((4000, 3))
    again = prior.mean + prior.scale * ((prior.deviation * drawn) @ prior.components)
    np.testing.assert_allclose(again.mean(0), vectors.mean(0), atol=0.15)
    np.testing.assert_allclose(np.cov(again.T), np.cov(vectors.T), atol=0.5)


def test_voices_are_new_reproducible_and_different(shipped: Converter) -> None:
    first, again, other = (shipped.new_voice(seed) for seed in (7, 7, 8))
    assert torch.equal(first.speaker_embedding, again.speaker_embedding)
    config = shipped.autoencoder.config
    identities = [
        split_embedding(v.speaker_embedding[None], config).identity[0] for v in (first, other)
    ]
    assert float(identities[0].norm()) == pytest.approx(1.0, abs=1e-5)
    assert float(identities[0] @ identities[1]) < 0.8
    assert first.pitch is not None and 60 < np.exp(first.pitch.median) < 400


def test_a_voice_like_another_is_nearer_to_it(shipped: Converter) -> None:
    model = shipped.voice(EXAMPLES / "reference.flac", learn=False)
    prior = load_prior(SHIPPED / PRIOR_FILE, shipped.model_sha256)
    place = prior.coordinates(model)

    def distance(voice: Voice) -> float:
        return float(np.linalg.norm(prior.coordinates(voice) - place))

    for seed in range(5):
        assert distance(shipped.new_voice(seed, like=model)) < distance(shipped.new_voice(seed))


def test_command_makes_a_voice_that_convert_takes(
    tmp_path: Path, shipped: Converter, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "nobody.voice"
    assert main(["new-voice", "--seed", "7", "-o", str(output)]) == 0
    voice = load_voice(output, shipped.model_sha256)
    assert voice.name == "nobody"
    assert torch.equal(voice.speaker_embedding, shipped.new_voice(7).speaker_embedding)
    source, result = EXAMPLES / "source.flac", tmp_path / "x.wav"
    assert main(["convert", str(source), str(output), "-o", str(result), "--quiet"]) == 0
    assert main(["new-voice", "--seed", "-1", "-o", str(output)]) == 2
    assert "negative" in capsys.readouterr().err
    assert main(["new-voice", "-o", str(tmp_path / "voice.wav")]) == 2


def test_a_foreign_damaged_or_missing_prior_is_refused(tmp_path: Path, tiny: Converter) -> None:
    with pytest.raises(CheckpointError, match="missing"):
        Converter(tiny.autoencoder, tiny.vocoder, folder=tmp_path).new_voice(1)
    with pytest.raises(CheckpointError, match="from a folder"):
        Converter(tiny.autoencoder, tiny.vocoder).new_voice(1)
    with pytest.raises(CheckpointError, match="another model"):
        load_prior(SHIPPED / PRIOR_FILE, "0" * 64)
    damaged = tmp_path / PRIOR_FILE
    damaged.write_bytes((SHIPPED / PRIOR_FILE).read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged"):
        load_prior(damaged, "0" * 64)
    silent = replace(tiny.new_voice(1), pitch=None)
    with pytest.raises(VoiceError, match="no voiced"):
        tiny.new_voice(1, like=silent)
