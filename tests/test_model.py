from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import TINY_AUTOENCODER
from vc.config import AutoencoderConfig, FeatureConfig
from vc.model.autoencoder import Autoencoder, Latent
from vc.model.details import steady_harmonics
from vc.model.layers import ConvNeXtBlock, instance_norm, smooth_bands
from vc.model.speaker_encoder import average_embeddings, spectral_statistics, split_embedding
from vc.model.speech_frames import near_speech

BOTTLENECKS = ("noise", "narrow", "variational", "sigmoid", "vq", "fsq", "binary", "one_hot")


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
    assert latent.speaker_embedding.shape == (batch, model.config.embedding_dim)
    assert model.decode(latent, *pitch(batch, frames)).shape == mel.shape


def test_a_batch_is_as_good_as_one_by_one() -> None:
    model, mel = make_model(), make_mel(3)
    together = model(mel, *pitch(3, 60))
    for i in range(3):
        torch.testing.assert_close(
            together[i : i + 1], model(mel[i : i + 1], *pitch(1, 60)), atol=1e-4, rtol=1e-4
        )


def test_content_cannot_hold_what_is_constant_in_a_clip() -> None:
    model, mel = make_model(tract_width=0), make_mel()
    colouration = torch.linspace(-1, 2, 80)[None, :, None]
    torch.testing.assert_close(
        model.encode_content(mel + colouration), model.encode_content(mel), atol=1e-3, rtol=1e-3
    )
    without = make_model(input_norm=False)
    assert not torch.allclose(
        without.encode_content(mel + colouration), without.encode_content(mel), atol=1e-2
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("block_norm", ["instance", "layer"])
def test_silence_before_and_after_does_not_change_what_is_said(
    stride: int, block_norm: str
) -> None:
    model, speech = make_model(content_stride=stride, block_norm=block_norm), make_mel(frames=80)
    model.set_statistics(torch.full((80,), -5.0), torch.full((80,), 2.0))
    said = []
    for silent in (60, 400):
        silence = torch.full((1, 80, silent), -11.0)
        content = model.encode_content(torch.cat([silence, speech, silence], dim=-1))
        said.append(content[..., silent // stride : (silent + 80) // stride])
    torch.testing.assert_close(*said, atol=1e-4, rtol=1e-4)


def test_pauses_count_where_they_are_short() -> None:
    levels = torch.zeros(2, 200)
    levels[0, 50:60] = levels[0, 100:150] = -5.0
    levels[1] = torch.linspace(0, 1, 200)
    counted = near_speech(levels).squeeze(1)
    expected = torch.ones(2, 200)
    expected[0, 115:135] = 0  # farther than 15 frames from speech
    torch.testing.assert_close(counted, expected)


def test_smooth_bands_keeps_formants_and_takes_harmonics_out() -> None:
    band = torch.arange(80)[None, :, None] + 0.5
    formants = torch.cos(torch.pi / 80 * 5 * band)
    harmonics = torch.cos(torch.pi / 80 * 30 * band)
    torch.testing.assert_close(
        smooth_bands(formants + harmonics, 14), formants, atol=1e-5, rtol=1e-5
    )


def test_steady_harmonics_smooths_only_what_is_fine_over_the_bands() -> None:
    band = torch.arange(80)[None, :, None] + 0.5
    frame = torch.arange(40)[None, None, :]
    onset = torch.cos(torch.pi / 80 * 5 * band) * (frame > 20)
    torch.testing.assert_close(steady_harmonics(onset), onset, atol=1e-5, rtol=1e-5)
    steady = torch.cos(torch.pi / 80 * 40 * band).expand(1, 80, 40)
    torch.testing.assert_close(steady_harmonics(steady), steady, atol=1e-5, rtol=1e-5)
    flutter = steady * (-1.0) ** frame
    assert steady_harmonics(flutter)[..., 1:-1].abs().max() < 0.34


def test_content_read_from_few_coefficients_cannot_hold_the_pitch() -> None:
    comb = torch.cos(torch.pi / 80 * 30 * (torch.arange(80) + 0.5))
    harmonics = 3 * comb[:, None] * torch.randn(60, generator=torch.Generator().manual_seed(1))
    plain = {"input_norm": False, "tract_width": 0}
    blind, seeing = (make_model(content_coefficients=n, **plain) for n in (14, 0))
    mel = smooth_bands(make_mel(), 14)
    for model, same in ((blind, True), (seeing, False)):
        changed = model.encode_content(mel + harmonics)
        close = torch.allclose(changed, model.encode_content(mel), atol=0.01)
        assert close is same


def test_speaker_embedding_forgets_where_in_the_clip_sounds_were() -> None:
    model = make_model()
    first, second = make_mel(seed=1, frames=80), make_mel(seed=2, frames=80)
    one = model.encode_speaker(torch.cat([first, second], dim=-1))
    other = model.encode_speaker(torch.cat([second, first], dim=-1))
    assert torch.cosine_similarity(one, other).item() > 0.995
    identity = split_embedding(one, model.config).identity
    torch.testing.assert_close(identity.norm(dim=-1), torch.ones(1))


def test_spectral_statistics_leave_pauses_out() -> None:
    speech = torch.tensor([2.0, 3.0]).repeat(10).expand(1, 3, 20)
    pause = torch.full((1, 3, 30), -9.0)
    for mel in (speech, torch.cat([pause, speech], dim=-1)):
        mean, log_deviation = spectral_statistics(mel)
        torch.testing.assert_close(mean, torch.full((1, 3), 2.5))
        torch.testing.assert_close(log_deviation.exp(), torch.full((1, 3), 0.5))


def test_a_clip_is_repaired_to_the_mean_spectrum_that_its_speaker_is_said_to_have() -> None:
    model, mel = make_model(speaker_repair=True), make_mel(2, frames=60)
    mel[:, 50:] -= 6.0  # three deviations: over a telephone, as it were
    embedding = model.encode_speaker(mel)
    repaired = model.repair(mel, embedding)
    said = split_embedding(embedding, model.config)
    heard = spectral_statistics(model.normalize(repaired))
    torch.testing.assert_close(heard.mean, said.mean, atol=1e-4, rtol=0)
    assert (repaired - mel).std(dim=-1).max() < 1e-5  # the same all the time
    plain = make_model()
    heard = spectral_statistics(plain.normalize(mel))
    moved = (said.mean - heard.mean).abs()  # nothing was learnt yet: the guess is an average voice
    assert moved[:, 50:].min() > 1.0 and moved[:, :50].max() < 0.01
    assert plain.repair(mel, plain.encode_speaker(mel)) is mel


def test_no_repair_leads_beyond_what_speech_has() -> None:
    model, mel = make_model(speaker_repair=True), make_mel(2, frames=60)
    repair = model.speaker_encoder.repair
    assert repair is not None
    heard = torch.cat(spectral_statistics(model.normalize(mel)), dim=-1)
    for wild in (-50.0, 50.0):
        torch.nn.init.constant_(repair.guess.bias, wild)
        said = model.encode_speaker(mel)[:, model.config.speaker_dim :]
        assert (said - heard).abs().max() < 5
        assert said[:, :80].abs().max() < max(2.1, heard[:, :80].abs().max())
        assert said[:, 80:].max() < max(0.6, heard[:, 80:].max())


def test_decoded_mel_takes_the_speakers_mean_spectrum() -> None:
    model, mel = make_model(), make_mel(frames=200)
    latent = model.encode(mel)
    parts = split_embedding(latent.speaker_embedding, model.config)
    tilted = torch.cat(
        [parts.identity, parts.mean + torch.linspace(-1, 1, 80), parts.log_deviation], dim=-1
    )
    same = model.normalize(model.decode(latent, *pitch(1, 200))).mean(-1)
    moved = model.decode(latent._replace(speaker_embedding=tilted), *pitch(1, 200))
    shift = model.normalize(moved).mean(-1) - same
    assert np.corrcoef(shift[0].detach(), np.linspace(-1, 1, 80))[0, 1] > 0.9


def test_without_statistics_the_embedding_is_a_unit_vector() -> None:
    model = make_model(speaker_statistics=False)
    latent = model.encode(make_mel(2))
    assert latent.speaker_embedding.shape == (2, 128)
    assert model.decode(latent, *pitch(2, 60)).shape == (2, 80, 60)


def test_average_embedding_weighs_clips() -> None:
    config = TINY_AUTOENCODER
    embeddings = torch.zeros(2, config.embedding_dim)
    embeddings[0, 0], embeddings[1, 1] = 1.0, 1.0
    embeddings[:, 128:] = torch.tensor([[1.0], [5.0]])
    average = average_embeddings(embeddings, torch.tensor([3.0, 1.0]), config)
    assert average[:128].norm().item() == pytest.approx(1.0)
    assert average[0].item() == pytest.approx(3 * average[1].item())
    torch.testing.assert_close(average[128:], torch.full((160,), 2.0))


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


def test_bottlenecks_bound_what_they_let_through() -> None:
    mel = make_mel()
    squeezed = make_model(bottleneck="sigmoid").encode_content(mel)
    assert 0.3 < squeezed.min() < squeezed.max() < 0.7
    variational = make_model(bottleneck="variational")
    torch.testing.assert_close(variational.encode_content(mel), variational.encode_content(mel))
    variational.train()
    first, second = variational.encode_content(mel), variational.encode_content(mel)
    assert 1.2 < (first - second).std().item() < 1.6  # two unit-variance noises apart


@pytest.mark.parametrize("kind", BOTTLENECKS)
def test_every_weight_learns(kind: str) -> None:
    model = make_model(bottleneck=kind).train()
    rebuilt = model(make_mel(2), *pitch(2, 60))
    rebuilt.square().mean().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None]
    # the vocal tract has a loss of its own: it would help rebuilding to bend content as it likes
    assert all(name.startswith("vocal_tract_encoder.") for name in still)
    assert len(still) == len(list(model.vocal_tract_encoder.parameters()))


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
