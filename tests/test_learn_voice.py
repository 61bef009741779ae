from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import TINY_AUTOENCODER, make_voice
from vc.adapt import _error_db
from vc.audio import Audio, write_audio
from vc.cli import main
from vc.config import FeatureConfig
from vc.convert import Converter, load
from vc.errors import VoiceError
from vc.learn_voice import (
    Exercise,
    Lesson,
    cut_exercises,
    heard_loss,
    learn_voice,
    make_exercise,
    say_exercise,
)
from vc.model.autoencoder import Autoencoder, Latent
from vc.model.tuning import RANK, Tuning, mix_tunings, tunable, tuned, untuned
from vc.voice import Voice, blend_voices, load_voice, save_voice


def random_tuning(converter: Converter, seed: int) -> Tuning:
    generator = torch.Generator().manual_seed(seed)
    nothing = untuned(converter.autoencoder.decoder, generator)
    return {k: v + 0.1 * torch.randn(v.shape, generator=generator) for k, v in nothing.items()}


def effect(converter: Converter, tuning: Tuning | None) -> dict[str, torch.Tensor]:
    """How the weights of the decoder differ, by name."""
    decoder = converter.autoencoder.decoder
    before = dict(tunable(decoder))
    after = dict(tunable(tuned(decoder, tuning))) if tuning else before
    return {name: after[name].detach() - before[name].detach() for name in before}


def test_a_voice_that_is_learnt_says_other_clips_more_as_its_speaker_does(
    shipped: Converter,
) -> None:
    clips = [
        Audio(make_voice(150.0, (600.0, 1300.0, 2800.0), seconds=4.0, seed=seed), 16_000)
        for seed in (1, 2)
    ]
    before = {k: v.clone() for k, v in shipped.autoencoder.state_dict().items()}
    listened = shipped.voice(clips[0], learn=False)
    learnt = shipped.voice(clips[0])
    unheard = [shipped.lesson(shipped.hear(clips[1]), shipped.other_voices())]
    errors = [_error_db(shipped.autoencoder, unheard, voice) for voice in (listened, learnt)]
    assert errors[1] < 0.9 * errors[0]
    # what the model knows of everybody else does not change
    after = shipped.autoencoder.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items())


def test_what_is_learnt_reaches_the_conversion(tiny: Converter, low_voice: Audio) -> None:
    voice = tiny.voice(low_voice, learn=False)
    moved = replace(voice, tuning=random_tuning(tiny, 0))
    plain, changed = (tiny.convert(low_voice, v).waveform for v in (voice, moved))
    assert np.abs(plain - changed).max() > 1e-3
    nothing = replace(voice, tuning=untuned(tiny.autoencoder.decoder, torch.Generator()))
    np.testing.assert_allclose(tiny.convert(low_voice, nothing).waveform, plain, atol=1e-6)


def test_what_is_learnt_by_is_what_is_spoken_with(tiny: Converter) -> None:
    torch.manual_seed(0)
    decoder = tiny.autoencoder.decoder
    tuning = {k: v.requires_grad_(True) for k, v in random_tuning(tiny, 0).items()}
    begun, embedding = (
        torch.randn(2, decoder.config.width, 20),
        torch.randn(2, decoder.config.embedding_dim),
    )
    said = [tuned(decoder, tuning, factored).end(begun, embedding) for factored in (False, True)]
    torch.testing.assert_close(said[1], said[0], rtol=1e-4, atol=1e-4)
    gradients = [torch.autograd.grad(s.square().sum(), list(tuning.values())) for s in said]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-2)


def test_a_model_that_was_loaded_in_inference_mode_learns_too(
    shipped: Converter, low_voice: Audio
) -> None:
    clip = Audio(low_voice.waveform[:20_000], low_voice.sample_rate)
    with torch.inference_mode():
        learnt = load().voice(clip)
    usual = shipped.voice(clip)
    assert learnt.tuning and usual.tuning
    for name, tensor in learnt.tuning.items():
        torch.testing.assert_close(tensor, usual.tuning[name], rtol=0.05, atol=2e-3)


def test_lessons_are_spoken_within_the_models_range(
    tiny: Converter, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = []
    begin = tiny.autoencoder.decoder.begin

    def listen(content: Tensor, embedding: Tensor, log_f0: Tensor, voiced: Tensor) -> Tensor:
        spoken.append(log_f0.exp())
        return begin(content, embedding, log_f0, voiced)

    monkeypatch.setattr(tiny.autoencoder.decoder, "begin", listen)
    config, frames = tiny.autoencoder.config, 40
    glide = torch.linspace(70.0, 110.0, frames)  # Hz; 7 semitones lower most of it is below 60
    content = torch.zeros(2, config.content_dim, frames // config.content_stride)
    lesson = Lesson(content, torch.zeros(config.n_mels, frames), glide.log(), torch.ones(frames))
    make_exercise(tiny.autoencoder, lesson, torch.zeros(1, config.embedding_dim))
    own, _, lower = spoken
    torch.testing.assert_close(own[0], glide)
    assert lower.min() > tiny.features.f0_min and (lower.diff() > 0).all()  # no melody lies still


def test_what_is_heard_in_a_voice_comes_nearer_to_its_clip(
    shipped: Converter, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shipped.autoencoder
    clip = shipped.hear(Audio(make_voice(150.0, (600.0, 1300.0, 2800.0), seconds=4.0), 16_000))
    lesson, voice = shipped.lesson(clip, shipped.other_voices()[:4]), clip.speaker_embedding
    exercise = make_exercise(model, lesson, voice[None])
    assert exercise.is_heard.tolist() == [True, False, True, False]  # where the pitch is its own
    frames = lesson.log_mel.shape[-1]
    at_own_pitch = Exercise(*(part[exercise.is_heard] for part in exercise))

    def heard() -> float:
        decoder = tuned(model.decoder, learn_voice(model, [lesson], voice, steps=24))
        with torch.inference_mode():
            said = say_exercise(model, decoder, at_own_pitch, voice[None])
            assert said.shape[-1] == frames
            return float(heard_loss(model, said, at_own_pitch))

    with_ears = heard()
    monkeypatch.setattr("vc.learn_voice._HEARD_WEIGHT", 0.0)
    assert with_ears < 0.95 * heard()


def test_a_piece_is_heard_where_it_was_cut(tiny: Converter) -> None:
    stride, frames = tiny.autoencoder.config.content_stride, 301
    assert stride == 2
    count = torch.arange(frames, dtype=torch.float32)
    spoken = count.expand(3, 1, frames)
    exercise = Exercise(spoken, spoken, spoken[..., ::stride], torch.tensor([True, False, True]))
    piece = cut_exercises([exercise] * 20, np.random.default_rng(0), stride)
    assert piece.content.shape[-1] * stride == piece.wanted.shape[-1]
    assert torch.equal(piece.content, piece.wanted[..., ::stride])
    assert len(set(piece.wanted[:, 0, 0].tolist())) > 10


def test_a_clip_that_does_not_fill_a_piece_is_not_heard(tiny: Converter) -> None:
    config = tiny.autoencoder.config
    for frames, is_heard in ((100, False), (140, True)):
        content = torch.zeros(1, config.content_dim, frames // config.content_stride)
        still = torch.full((frames,), 5.0)
        lesson = Lesson(content, torch.zeros(config.n_mels, frames), still, torch.ones(frames))
        voice = torch.zeros(1, config.embedding_dim)
        assert make_exercise(tiny.autoencoder, lesson, voice).is_heard.tolist() == [is_heard]


def test_a_source_is_rebuilt_by_a_decoder_that_knows_no_other_voice(tiny: Converter) -> None:
    model = tiny.autoencoder
    twin = model.tuned(random_tuning(tiny, 0))
    content = torch.randn(1, model.config.content_dim, 20)
    latent = Latent(content, torch.randn(1, model.config.embedding_dim))
    log_f0, voiced = torch.full((1, 20), 5.0), torch.ones(1, 20)
    with torch.inference_mode():
        wanted = model.decode(latent, log_f0, voiced)
        torch.testing.assert_close(twin.rebuild(latent, log_f0, voiced), wanted)
        said = twin.decode(latent, log_f0, voiced)
        assert (said - wanted).abs().max() > 1e-3
        both = Latent(*(part.expand(2, -1, *part.shape[2:]) for part in latent))
        at_once = twin.decode_both(both, log_f0.expand(2, -1), voiced.expand(2, -1))
    torch.testing.assert_close(at_once, (said, wanted))


def test_a_voice_that_was_learnt_is_asked_for_as_it_is() -> None:
    model = Autoencoder(replace(TINY_AUTOENCODER, emphasis=0.3), FeatureConfig()).eval()
    voice = model.encode_speaker(torch.randn(1, 80, 40) - 5).detach()
    assert not torch.allclose(model.emphasise(voice), voice, atol=1e-3)
    learnt = model.tuned(untuned(model.decoder, torch.Generator()))
    torch.testing.assert_close(learnt.emphasise(voice), voice)


def test_the_same_clips_are_learnt_once(tiny: Converter, low_voice: Audio) -> None:
    converter = load(tiny.folder)
    first = converter.voice(low_voice)
    assert converter.voice(low_voice).tuning is first.tuning
    assert converter.voice(low_voice, learn=False).tuning is None
    converter.forget_voices()
    again = converter.voice(low_voice)
    assert again.tuning is not first.tuning
    assert first.tuning is not None
    assert again.tuning is not None
    assert all(torch.equal(value, again.tuning[name]) for name, value in first.tuning.items())


def test_what_was_learnt_is_kept_in_the_file(
    tiny: Converter, low_voice: Audio, high_voice: Audio, tmp_path: Path
) -> None:
    voice = tiny.voice(high_voice)
    save_voice(tmp_path / "her.voice", voice, tiny.model_sha256)
    from_file = tiny.convert(low_voice, tmp_path / "her.voice").waveform
    assert np.array_equal(from_file, tiny.convert(low_voice, high_voice).waveform)
    # of another decoder, or damaged in a way that the checksum cannot tell
    assert voice.tuning is not None
    wrong = dict(voice.tuning)
    name = next(iter(wrong))
    wrong[name] = wrong[name].flatten()[:1]
    save_voice(tmp_path / "wrong.voice", replace(voice, tuning=wrong), tiny.model_sha256)
    with pytest.raises(VoiceError, match=r"wrong\.voice: damaged"):
        tiny.voice(tmp_path / "wrong.voice")


def test_a_blend_is_as_far_as_its_weights_say(tiny: Converter) -> None:
    one, other = random_tuning(tiny, 1), random_tuning(tiny, 2)
    effects = [effect(tiny, tuning) for tuning in (one, other)]
    half = effect(tiny, mix_tunings([one, None], [0.5, 0.5]))
    both = mix_tunings([one, other], [0.25, 0.75])
    assert both is not None
    assert {k: v.shape for k, v in both.items()} == {k: v.shape for k, v in one.items()}
    for name, mixed in effect(tiny, both).items():
        torch.testing.assert_close(half[name], effects[0][name] / 2, atol=1e-5, rtol=1e-4)
        wanted = effects[0][name] / 4 + effects[1][name] * 3 / 4
        if min(wanted.flatten(1).shape if wanted.ndim > 1 else (0,)) <= RANK:
            torch.testing.assert_close(mixed, wanted, atol=1e-5, rtol=1e-4)
        else:  # as near as so few numbers can come
            assert (mixed - wanted).norm() < 0.5 * wanted.norm()
    assert mix_tunings([None, None], [0.5, 0.5]) is None
    voice = Voice(torch.ones(tiny.autoencoder.config.embedding_dim), None, tuning=one)
    mixed_voice = blend_voices(
        [voice, replace(voice, tuning=None)], [1, 0], tiny.autoencoder.config
    )
    assert mixed_voice.tuning is not None


def test_quick_voices_are_listened_to_alone(
    tiny: Converter, tiny_checkpoint: Path, low_voice: Audio, tmp_path: Path
) -> None:
    write_audio(tmp_path / "her.wav", low_voice)
    arguments = ["voice", str(tmp_path / "her.wav"), "--checkpoint", str(tiny_checkpoint)]
    for name, quick in (("slow", []), ("quick", ["--quick"])):
        path = tmp_path / f"{name}.voice"
        assert main([*arguments, "-o", str(path), "--quiet", *quick]) == 0
        voice = load_voice(path, tiny.model_sha256)
        assert (voice.tuning is None) == bool(quick)
