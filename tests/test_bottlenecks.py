from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.conftest import TINY_AUTOENCODER
from vc.config import AutoencoderConfig, FeatureConfig
from vc.errors import ConfigError
from vc.model.autoencoder import Autoencoder
from vc.model.bottleneck import BinaryQuantizer, OneHotQuantizer, VectorQuantizer
from vc.model.layers import instance_norm

DISCRETE = ("vq", "fsq", "binary", "one_hot")


def make_model(**changes: object) -> Autoencoder:
    torch.manual_seed(0)
    config = replace(TINY_AUTOENCODER, **changes)  # type: ignore[arg-type]
    return Autoencoder(config, FeatureConfig()).eval()


def make_mel(batch: int = 1, frames: int = 60) -> Tensor:
    return torch.randn(batch, 80, frames, generator=torch.Generator().manual_seed(0)) * 2 - 5


@pytest.mark.parametrize("kind", DISCRETE)
def test_codes_are_the_whole_content(kind: str) -> None:
    model = make_model(bottleneck=kind)
    mel = make_mel(2)
    bottled = model.squeeze(model.content_encoder(model.normalize(mel)))
    assert bottled.codes is not None
    assert bottled.codes.shape == (2, bottled.content.shape[-1])
    assert bottled.codes.min() >= 0
    assert len(bottled.codes.unique()) > (1 if kind == "one_hot" else 5)
    looked_up = model.bottleneck.look_up(bottled.codes)
    torch.testing.assert_close(looked_up, bottled.content)


@pytest.mark.parametrize("kind", DISCRETE)
def test_codes_of_a_clip_are_always_the_same(kind: str) -> None:
    model, mel = make_model(bottleneck=kind), make_mel()
    torch.testing.assert_close(model.encode_content(mel), model.encode_content(mel))


@pytest.mark.parametrize("kind", DISCRETE)
def test_the_encoder_learns_in_half_precision_too(kind: str) -> None:
    model = make_model(bottleneck=kind).train()
    with torch.autocast("cpu", torch.bfloat16):
        bottled = model.squeeze(model.content_encoder(model.normalize(make_mel(2))))
        (bottled.content.float().square().mean() + bottled.loss).backward()
    gradient = model.content_encoder.project.weight.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_a_codebook_learns_what_it_is_shown() -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(16, 4).train()
    centres = 3 * torch.randn(6, 4)
    for _ in range(400):
        frames = centres[torch.randint(6, (2, 64))] + 0.05 * torch.randn(2, 64, 4)
        shown = instance_norm(frames.transpose(1, 2))
        quantizer(shown)
    bottled = quantizer.eval()(shown)
    assert float(bottled.loss) < 0.05
    assert bottled.codes is not None
    assert len(bottled.codes.unique()) >= 6


def test_a_codebook_begins_among_the_frames_that_it_is_shown() -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(32, 4).train()
    frames = 5 + torch.randn(2, 4, 64)
    quantizer(frames)
    codes = quantizer.eval()(frames).codes
    assert codes is not None
    assert len(codes.unique()) > 24


def test_a_dead_code_comes_back() -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(4, 2).train()
    quantizer(torch.randn(2, 2, 32))
    quantizer.get_buffer("codebook")[3] = 1e3  # far from everything
    for _ in range(600):
        quantizer(torch.randn(2, 2, 32))
    assert quantizer.get_buffer("codebook").abs().max() < 10


def test_bits_are_as_likely_as_the_encoder_says() -> None:
    torch.manual_seed(0)
    content = torch.tensor([-3.0, 0.0, 1.0])[None, :, None].expand(1, 3, 20_000)
    bits = BinaryQuantizer(3).train()(content).content
    assert set(bits.unique().tolist()) == {-1.0, 1.0}
    shares = (bits > 0).float().mean(dim=-1)[0]
    torch.testing.assert_close(shares, torch.sigmoid(content[0, :, 0]), atol=0.02, rtol=0)


def test_a_binary_code_by_hand() -> None:
    content = torch.tensor([[[1.0, -1.0], [2.0, -0.1], [-3.0, 0.1]]])  # (1, 3, 2)
    bottled = BinaryQuantizer(3).eval()(content)
    assert bottled.codes is not None
    assert bottled.codes.tolist() == [[0b011, 0b100]]


def test_classes_are_drawn_as_the_encoder_says_and_one_at_a_time() -> None:
    torch.manual_seed(0)
    share = torch.tensor([0.6, 0.3, 0.1])
    content = share.log()[None, :, None].expand(1, 3, 20_000)
    chosen = OneHotQuantizer(3, temperature=0.5).train()(content).content
    torch.testing.assert_close(chosen.sum(dim=1), torch.ones(1, 20_000))
    torch.testing.assert_close(chosen.mean(dim=-1)[0], share, atol=0.02, rtol=0)


def test_uneven_use_of_classes_costs_what_it_lacks_in_bits() -> None:
    quantizer = OneHotQuantizer(4, temperature=1.0).eval()
    even = 20 * torch.eye(4)[None]
    one = 20 * torch.eye(4)[None, :, :1].expand(1, 4, 8)
    assert float(quantizer(even).loss) == pytest.approx(0, abs=1e-4)
    assert float(quantizer(one).loss) == pytest.approx(2, abs=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"bottleneck": "binary", "content_dim": 63},
        {"bottleneck": "one_hot", "content_dim": 1},
        {"one_hot_temperature": 0.0},
        {"bottleneck": "fsq", "content_dim": 3},
        {"bottleneck": "fsq", "content_dim": 32, "quantizer_levels": (5,) * 32},
    ],
)
def test_settings_that_make_no_code_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="autoencoder: "):
        replace(AutoencoderConfig(), **changes)  # type: ignore[arg-type]
