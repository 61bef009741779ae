from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.conftest import TINY_AUTOENCODER
from vc.config import AutoencoderConfig, FeatureConfig
from vc.model.autoencoder import Autoencoder, Latent
from vc.model.layers import ConvNeXtBlock, instance_norm


def make_model(**changes: object) -> Autoencoder:
    torch.manual_seed(0)
    config = replace(TINY_AUTOENCODER, **changes)  # type: ignore[arg-type]
    return Autoencoder(config, FeatureConfig()).eval()


def make_mel(batch: int = 1, frames: int = 60, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 80, frames, generator=generator) * 2 - 5


def pitch(batch: int, frames: int) -> tuple[Tensor, Tensor]:
    return torch.full((batch, frames), 5.0), torch.ones(batch, frames)


@pytest.mark.parametrize("frames", [1, 2, 15, 60, 61])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_shapes(frames: int, batch: int, stride: int) -> None:
    model = make_model(content_stride=stride)
    mel = make_mel(batch, frames)
    latent = model.encode(mel)
    assert latent.content.shape == (batch, 4, -(-frames // stride))
    assert latent.speaker_embedding.shape == (batch, 128)
    assert model.decode(latent, *pitch(batch, frames)).shape == mel.shape


def test_a_batch_is_as_good_as_one_by_one() -> None:
    model, mel = make_model(), make_mel(3)
    together = model(mel, *pitch(3, 60))
    for i in range(3):
        torch.testing.assert_close(
            together[i : i + 1], model(mel[i : i + 1], *pitch(1, 60)), atol=1e-4, rtol=1e-4
        )


def test_content_cannot_hold_what_is_constant_in_a_clip() -> None:
    model, mel = make_model(), make_mel()
    colouration = torch.linspace(-1, 2, 80)[None, :, None]
    torch.testing.assert_close(
        model.encode_content(mel + colouration), model.encode_content(mel), atol=1e-3, rtol=1e-3
    )
    without = make_model(input_norm=False)
    assert not torch.allclose(
        without.encode_content(mel + colouration), without.encode_content(mel), atol=1e-2
    )


def test_speaker_embedding_forgets_where_in_the_clip_sounds_were() -> None:
    model = make_model()
    first, second = make_mel(seed=1, frames=80), make_mel(seed=2, frames=80)
    one = model.encode_speaker(torch.cat([first, second], dim=-1))
    other = model.encode_speaker(torch.cat([second, first], dim=-1))
    assert torch.cosine_similarity(one, other).item() > 0.995
    torch.testing.assert_close(one.norm(dim=-1), torch.ones(1))


def test_swapping_is_one_line_and_changes_the_result() -> None:
    model = make_model()
    a, b = model.encode(make_mel(seed=1)), model.encode(make_mel(seed=2))
    swapped = model.decode(Latent(a.content, b.speaker_embedding), *pitch(1, 60))
    assert not torch.allclose(swapped, model.decode(a, *pitch(1, 60)), atol=1e-3)


def test_noise_in_the_bottleneck_is_for_training_only() -> None:
    model, mel = make_model(bottleneck_noise=0.5), make_mel()
    torch.testing.assert_close(model.encode_content(mel), model.encode_content(mel))
    content = model.encode_content(mel)
    torch.testing.assert_close(content.std(-1, unbiased=False), torch.ones(1, 4), atol=1e-3, rtol=0)
    model.train()
    noise = model.encode_content(mel) - content
    assert 0.35 < noise.std().item() < 0.65
    narrow = make_model(bottleneck="narrow").train()
    torch.testing.assert_close(narrow.encode_content(mel), narrow.encode_content(mel))


def test_every_weight_learns() -> None:
    model = make_model().train()
    rebuilt = model(make_mel(2), *pitch(2, 60))
    rebuilt.square().mean().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None]
    assert still == []


def test_without_pitch_conditioning_pitch_changes_nothing() -> None:
    model, mel = make_model(f0_conditioning=False), make_mel()
    low, voiced = pitch(1, 60)
    torch.testing.assert_close(model(mel, low, voiced), model(mel, low + 0.5, voiced))


def test_pitch_statistics_travel_with_the_weights() -> None:
    model = make_model()
    model.set_statistics(torch.full((80,), -4.0), torch.full((80,), 3.0))
    other = make_model()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.normalize(torch.full((1, 80, 2), -1.0)), torch.ones(1, 80, 2))


def test_instance_norm_by_hand() -> None:
    x = torch.tensor([[[1.0, 3.0], [5.0, 5.0]]])
    torch.testing.assert_close(
        instance_norm(x), torch.tensor([[[-1.0, 1.0], [0.0, 0.0]]]), atol=1e-4, rtol=1e-4
    )


def test_film_scales_and_shifts_each_clip_by_its_own_condition() -> None:
    torch.manual_seed(0)
    block = ConvNeXtBlock(8, 2, 3, condition_dim=4)
    x, condition = torch.randn(1, 8, 10).expand(2, -1, -1), torch.randn(2, 4)
    out = block(x, condition)
    assert not torch.allclose(out[0], out[1], atol=1e-3)


def test_the_default_is_small() -> None:
    model = Autoencoder(AutoencoderConfig(), FeatureConfig())
    assert sum(p.numel() for p in model.parameters()) < 9e6
