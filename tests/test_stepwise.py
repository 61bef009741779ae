"""Networks that hear a clip a few frames at a time say what they say of the whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vc.convert import Converter
from vc.model.autoencoder import Latent
from vc.model.denoiser import noise_floor
from vc.model.stepwise import Past, Step, stepwise

FRAMES = 120
STEP = Step(new=4, ahead=60)  # farther than any network here looks


def in_steps(network: Callable[[slice], Tensor], rate: int = 1) -> Tensor:
    """All new frames that come out, whatever `network` is given; `rate` frames in for one out."""
    made = []
    for low in range(0, FRAMES - STEP.frames + 1, STEP.new):
        made.append(network(slice(low, low + STEP.frames))[..., : STEP.new // rate])
    return torch.cat(made, dim=-1)


def given(channels: int) -> Tensor:
    return torch.randn(1, channels, FRAMES, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_a_decoder_says_in_steps_what_it_says_of_the_whole(shipped: Converter) -> None:
    model = shipped.autoencoder
    twin = stepwise(model, STEP)
    content, log_f0 = given(model.config.content_dim), 5 + 0.1 * given(1)[0]
    voiced = (log_f0 > 5).float()
    speaker = given(model.config.embedding_dim)[..., 0]
    whole = model.decode(Latent(content, speaker), log_f0, voiced)
    made = in_steps(
        lambda at: twin.decode(Latent(content[..., at], speaker), log_f0[:, at], voiced[:, at])
    )
    torch.testing.assert_close(made, whole[..., : made.shape[-1]], rtol=1e-3, atol=1e-4)
    again = model.decode(Latent(content, speaker), log_f0, voiced)
    torch.testing.assert_close(again, whole)  # the network itself remembers nothing


@torch.inference_mode()
def test_so_does_a_strided_network(shipped: Converter) -> None:
    encoder = shipped.autoencoder.vocal_tract_encoder
    assert encoder is not None
    twin, mel = stepwise(encoder, STEP), given(80)
    made = in_steps(lambda at: twin.look(mel[..., at]), rate=2)
    torch.testing.assert_close(made, encoder.look(mel)[..., : made.shape[-1]], rtol=1e-3, atol=1e-4)


@torch.inference_mode()
def test_so_does_a_denoiser_that_is_told_the_floor(shipped: Converter) -> None:
    denoiser = shipped.need_denoiser()
    twin, log_mel = stepwise(denoiser, STEP), given(80) - 5
    floor = noise_floor(log_mel)
    torch.testing.assert_close(denoiser(log_mel, floor), denoiser(log_mel))
    made = in_steps(lambda at: twin(log_mel[..., at], floor))
    torch.testing.assert_close(made, denoiser(log_mel)[..., : made.shape[-1]], rtol=1e-3, atol=1e-4)


def test_weights_are_shared() -> None:
    network = nn.Sequential(nn.Conv1d(3, 3, 5, padding=2), nn.GELU(), nn.Conv1d(3, 2, 1))
    twin = stepwise(network, STEP)
    assert [id(x) for x in twin.parameters()] == [id(x) for x in network.parameters()]


@pytest.mark.parametrize("remembered", [3, 9])
def test_the_past_is_what_will_not_come_again(remembered: int) -> None:
    step = Step(new=2, ahead=4)
    past, frames = Past(remembered, step), torch.arange(40)
    for low in range(0, 34, step.new):
        joined = past.join(frames[low : low + 6])
        first = max(0, low - remembered)
        assert joined.tolist() == list(range(first, low + 6))
