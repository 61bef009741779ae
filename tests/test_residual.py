from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tests.conftest import TINY_AUTOENCODER
from vc.config import FeatureConfig
from vc.model.autoencoder import Autoencoder
from vc.model.layers import smooth_bands
from vc.model.residual import Source, power_left, residual
from vc.model.speaker_encoder import ask_again, split_embedding

N_MELS, FRAMES = 80, 40
HALF_VOICED = (torch.arange(FRAMES) < FRAMES // 2).float()[None]


def broad(log_mel: Tensor) -> Tensor:
    return smooth_bands(log_mel, 20)


def test_a_clip_in_its_own_voice_becomes_itself() -> None:
    torch.manual_seed(0)
    model = Autoencoder(replace(TINY_AUTOENCODER, residual=1.0), FeatureConfig()).eval()
    log_mel, log_f0 = torch.randn(1, N_MELS, FRAMES) - 5, torch.full((1, FRAMES), 5.0)
    with torch.inference_mode():
        content, voice = model.encode(log_mel)
        source = Source(log_mel, log_f0, voice, stretch=None)
        said, alone = (
            broad(model.say(content, voice, log_f0, HALF_VOICED, None, given))
            for given in (source, None)
        )
    voiced, unvoiced = slice(0, FRAMES // 2), slice(FRAMES // 2, FRAMES)
    itself = broad(log_mel)
    torch.testing.assert_close(said[..., unvoiced], itself[..., unvoiced])
    halfway = (alone + itself) / 2
    torch.testing.assert_close(said[..., voiced], halfway[..., voiced])


def test_what_is_missing_moves_with_the_formants() -> None:
    rebuilt = torch.zeros(1, N_MELS, FRAMES)
    log_mel = -0.01 * (torch.arange(N_MELS) - 40.0).square()[None, :, None].expand_as(rebuilt)
    unvoiced, log_f0 = torch.zeros(1, FRAMES), torch.zeros(1, FRAMES)
    embedding = torch.zeros(1, TINY_AUTOENCODER.embedding_dim)

    def peak(stretch: float) -> int:
        source = Source(log_mel, log_f0, embedding, torch.zeros(1, 3), torch.full((1, 3), stretch))
        return int(residual(source, rebuilt, unvoiced, 0.5)[0, :, 5].argmax())

    assert peak(0.2) < peak(0.0) == 40 < peak(-0.2)


def test_less_is_given_back_where_noise_was_taken_out() -> None:
    torch.manual_seed(0)
    recorded, unvoiced = torch.randn(1, N_MELS, FRAMES), torch.zeros(1, FRAMES)
    cleaned = recorded.clone()
    cleaned[..., :10] -= 1.0
    cleaned[..., -1] += 1e-3  # noise is never put in
    left = power_left(cleaned, recorded)
    embedding = torch.zeros(1, TINY_AUTOENCODER.embedding_dim)
    source = Source(cleaned, unvoiced, embedding, None)
    everywhere, less = (
        residual(given, torch.zeros_like(cleaned), unvoiced, 1.0)
        for given in (source, source._replace(left=left))
    )
    torch.testing.assert_close(less[..., 10:], everywhere[..., 10:])
    torch.testing.assert_close(less[..., :10], everywhere[..., :10] * torch.e**-2)


def test_pitch_of_the_source_is_not_given_back() -> None:
    rebuilt = torch.zeros(1, N_MELS, FRAMES)
    band = torch.arange(N_MELS) + 0.5
    harmonics = torch.cos(torch.pi / N_MELS * 25 * band)[None, :, None].expand_as(rebuilt)
    log_f0 = torch.zeros(1, FRAMES)
    source = Source(harmonics, log_f0, torch.zeros(1, TINY_AUTOENCODER.embedding_dim), None)
    assert residual(source, rebuilt, torch.zeros(1, FRAMES), 1.0).abs().max() < 1e-5


def test_more_is_asked_for_of_what_was_missing() -> None:
    torch.manual_seed(0)
    asked, wanted, heard = (torch.randn(2, TINY_AUTOENCODER.embedding_dim) for _ in range(3))
    again = split_embedding(
        ask_again(asked, wanted, heard, 0.5, TINY_AUTOENCODER), TINY_AUTOENCODER
    )
    parts = [split_embedding(x, TINY_AUTOENCODER) for x in (asked, wanted, heard)]
    identity = parts[0].identity + 0.5 * (parts[1].identity - parts[2].identity)
    torch.testing.assert_close(again.identity.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(again.identity * identity.norm(dim=-1, keepdim=True), identity)
    torch.testing.assert_close(again.mean, parts[0].mean)
    spread = parts[0].log_deviation + 0.5 * (parts[1].log_deviation - parts[2].log_deviation)
    torch.testing.assert_close(again.log_deviation, spread)


def test_a_rehearsal_brings_a_voice_nearer() -> None:
    torch.manual_seed(0)
    model = Autoencoder(replace(TINY_AUTOENCODER, closed_loop=0.5), FeatureConfig()).eval()
    content, log_f0, voiced = torch.randn(8, 4, FRAMES // 2), torch.full((8, FRAMES), 5.0), 1.0
    flags = torch.full((8, FRAMES), voiced)
    with torch.inference_mode():
        wanted = model.encode_speaker(torch.randn(8, N_MELS, FRAMES) - 5)
        asked = model.rehearse(content, wanted, log_f0, flags)

        def missed(embedding: Tensor) -> Tensor:
            said = model.say(content, embedding, log_f0, flags, None)
            heard = split_embedding(model.encode_speaker(said), model.config)
            target = split_embedding(wanted, model.config)
            return (heard.log_deviation - target.log_deviation).norm(dim=-1)

        assert (missed(asked) < missed(wanted)).all()
