"""Vocal tracts: bending a clip, hearing the bend, and straightening it."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import EXAMPLES
from vc.audio import read_audio
from vc.config import AutoencoderConfig
from vc.convert import Converter
from vc.errors import ConfigError
from vc.model.vocal_tract import bend, draw_stretches


def log_mel(converter: Converter, name: str) -> torch.Tensor:
    waveform = converter.reference_waveform(read_audio(EXAMPLES / name))
    return converter.log_mel(torch.from_numpy(waveform)[None])


@pytest.mark.parametrize("stretch", [(0.1, 0.1, 0.1), (-0.1, -0.1, -0.1), (0.0, 0.0, 0.1)])
def test_bending_moves_a_formant_by_its_stretch(stretch: tuple[float, ...]) -> None:
    band = torch.arange(80.0)
    for place, share in ((8.0, stretch[0]), (52.0, stretch[2])):
        formant = -((band - place) ** 2)[None, :, None].expand(1, 80, 3)
        bent = bend(formant, torch.tensor([stretch]))
        assert abs(bent[0, :, 1].argmax() - place * torch.tensor(-share).exp()) <= 1


def test_bending_is_as_exact_in_half_precision() -> None:
    torch.manual_seed(0)
    mel, stretch = torch.randn(2, 80, 5), draw_stretches(2, torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = bend(mel, stretch)
    torch.testing.assert_close(rounded, bend(mel, stretch))


def test_no_stretch_changes_nothing() -> None:
    mel = torch.randn(2, 80, 5)
    torch.testing.assert_close(bend(mel, torch.zeros(2, 3)), mel)


@pytest.mark.parametrize("name", ["source.flac", "reference.flac"])
def test_the_shipped_model_hears_by_how_much_a_clip_is_bent(shipped: Converter, name: str) -> None:
    model, mel = shipped.autoencoder, log_mel(shipped, name)
    assert model.vocal_tract_encoder is not None
    for amount in (-0.1, 0.1):
        stretch = torch.full((1, 3), amount)
        with torch.inference_mode():
            before, after = (
                model.vocal_tract_encoder(model.normalize(x)) for x in (mel, bend(mel, stretch))
            )
        assert (after - before - stretch).abs().max() < 0.05


def test_content_of_a_bent_clip_is_that_of_the_clip(shipped: Converter) -> None:
    model, mel = shipped.autoencoder, log_mel(shipped, "source.flac")
    bent = bend(mel, torch.full((1, 3), 0.1))
    with torch.inference_mode():
        straight = (model.encode_content(bent) - model.encode_content(mel)).square().mean()
        as_it_is = [model.content_encoder(model.normalize(x)) for x in (bent, mel)]
        crooked = (model.squeeze(as_it_is[0]).content - model.squeeze(as_it_is[1]).content).square()
    assert straight < 0.5 * crooked.mean()


def test_stretches_are_about_as_wide_as_speakers_differ() -> None:
    torch.manual_seed(0)
    drawn = draw_stretches(200, torch.device("cpu"))
    assert 0.05 < float(drawn.std()) < 0.15 and float(drawn.abs().max()) <= 0.23


def test_a_model_of_few_bands_must_do_without() -> None:
    with pytest.raises(ConfigError, match="tract_width"):
        AutoencoderConfig(n_mels=8, content_coefficients=8)
    AutoencoderConfig(n_mels=8, content_coefficients=8, tract_width=0)
