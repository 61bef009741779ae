from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vc.audio import Audio
from vc.convert import Converter
from vc.model.details import (
    CONTEXT,
    MAX_FRAMES,
    MIN_FRAMES,
    finish,
    lend_details,
    thin_out,
    voiced_frames,
)
from vc.model.layers import smooth_bands
from vc.voice import Voice, blend_voices, load_voice, save_voice

N_MELS, LOWEST = 80, 45  # bands, and the lowest that is lent


def frames(count: int, seed: int = 0) -> torch.Tensor:
    """Random log-mels `(count, n_mels)`."""
    return torch.randn(count, N_MELS, generator=torch.Generator().manual_seed(seed)) - 5


def test_a_blurred_frame_gets_its_own_details_back() -> None:
    real = frames(40)
    real = real + 4 * smooth_bands(real.T[None], 8)[0].T  # frames that are not to be confused
    blurred = smooth_bands(real.T[None], 8)
    louder = blurred + 1.5  # how loud a frame is does not matter
    lent = lend_details(louder, torch.ones(1, 40), real[None])
    upper = slice(LOWEST, None)
    torch.testing.assert_close(lent[0, upper], real.T[upper] + 1.5, atol=1e-4, rtol=0)
    torch.testing.assert_close(lent[:, :LOWEST], louder[:, :LOWEST])


def test_details_flutter_less_than_if_every_frame_were_judged_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broad = smooth_bands(frames(2).T[None], 8)[0].T
    fine = frames(2, seed=1) - smooth_bands(frames(2, seed=1).T[None], 8)[0].T
    details = torch.cat([(broad[:1] + fine[i]).repeat(MIN_FRAMES, 1) for i in (0, 1)])
    details = details + 0.02 * frames(len(details), seed=2)  # chance decides which is nearest
    spoken = broad[:1] + 0.05 * smooth_bands(frames(200, seed=3).T[None], 8)[0].T

    def changes() -> int:
        lent = lend_details(spoken.T[None], torch.ones(1, 200), details[None])[0, LOWEST:]
        taken = lent - smooth_bands(spoken.T[None], 8)[0, LOWEST:]
        return int((taken.T @ fine[0, LOWEST:] > taken.T @ fine[1, LOWEST:]).diff().sum())

    steady = changes()
    monkeypatch.setattr("vc.model.details._ROUNDS", 0)
    assert steady < 0.8 * changes()


def test_a_piece_of_a_clip_is_finished_as_in_the_whole() -> None:
    log_mel, details = frames(60).T[None], frames(100, seed=1)[None]
    voiced = (frames(60, seed=2)[None, :, 0] > -5.5).float()
    whole = finish(log_mel, voiced, details)
    piece = finish(log_mel[..., 10:40], voiced[:, 10:40], details)
    inner = slice(CONTEXT, 30 - CONTEXT)
    torch.testing.assert_close(piece[..., inner], whole[..., 10:40][..., inner])


def test_unvoiced_frames_and_too_few_details_change_nothing() -> None:
    log_mel, voiced = frames(10).T[None], torch.ones(1, 10)
    voiced[0, 3:] = 0
    lent = lend_details(log_mel, voiced, frames(30, seed=1)[None])
    assert torch.equal(lent[..., 3:], log_mel[..., 3:])
    assert not torch.equal(lent[..., :3], log_mel[..., :3])
    assert torch.equal(lend_details(log_mel, voiced, None), log_mel)
    assert torch.equal(lend_details(log_mel, voiced, frames(MIN_FRAMES - 1)[None]), log_mel)


def test_each_clip_of_a_batch_borrows_of_its_own_reference() -> None:
    log_mel, voiced = torch.stack([frames(9).T, frames(9, 1).T]), torch.ones(2, 9)
    details = torch.stack([frames(30, 2), frames(30, 3)])
    both = lend_details(log_mel, voiced, details)
    for one in range(2):
        alone = lend_details(log_mel[one : one + 1], voiced[:1], details[one : one + 1])
        torch.testing.assert_close(both[one : one + 1], alone)


def test_voiced_frames_are_kept_in_no_order_of_time_and_thinned_evenly() -> None:
    log_mel = frames(5).T + torch.tensor([0.0, 3, 1, 2, 9])
    kept = voiced_frames(log_mel, torch.tensor([0.0, 1, 1, 1]))
    assert torch.equal(kept, log_mel.T[[2, 3, 1]])
    many = torch.arange(3 * MAX_FRAMES)[:, None]
    thin = thin_out(many)
    assert len(thin) == MAX_FRAMES and thin[0] == 0 and thin[-1] == 3 * MAX_FRAMES - 1
    assert thin.diff(dim=0).max() <= 4


def test_the_cleanest_frames_are_lent() -> None:
    log_mel, voiced = frames(300).T, torch.ones(300)
    taken_out = torch.zeros_like(log_mel)
    taken_out[:50] = 3  # words lie there, details do not
    taken_out[60:, 100:] = torch.linspace(0.1, 2, 200)
    assert len(voiced_frames(log_mel, voiced)) == 300
    kept = voiced_frames(log_mel, voiced, taken_out)
    wanted = log_mel.T[:100]
    assert torch.equal(kept, wanted[wanted.mean(dim=1).argsort()])
    few = voiced_frames(log_mel[:, :30], voiced, taken_out)
    assert len(few) == 30  # a short clip keeps what it has


def test_a_voice_keeps_its_details_in_its_file(
    tiny: Converter, high_voice: Audio, low_voice: Audio, tmp_path: Path
) -> None:
    voice = tiny.voice(high_voice)
    assert voice.details is not None and len(voice.details) >= MIN_FRAMES
    save_voice(tmp_path / "a.voice", voice, tiny.model_sha256)
    assert (tmp_path / "a.voice").stat().st_size < 90_000
    again = load_voice(tmp_path / "a.voice", tiny.model_sha256)
    assert again.details is not None and torch.equal(again.details, voice.details)
    ours, theirs = (tiny.convert(low_voice, v).waveform for v in (voice, again))
    assert np.array_equal(ours, theirs)
    plain = Voice(voice.speaker_embedding, voice.pitch)
    assert not np.allclose(tiny.convert(low_voice, plain).waveform, ours, atol=1e-3)


def test_a_voice_without_details_borrows_those_of_many(tiny: Converter, low_voice: Audio) -> None:
    invented = tiny.new_voice(seed=3)
    assert invented.details is None
    common = tiny.details(invented)
    assert common is not None and common.shape[0] == 1 and common.shape[1] >= MIN_FRAMES
    alone = Converter(tiny.autoencoder, tiny.vocoder)  # a model without a prior has none to lend
    assert alone.details(invented) is None
    ours, theirs = (c.convert(low_voice, invented).waveform for c in (tiny, alone))
    assert not np.allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize(("weights", "shares"), [((3, 1), (0.75, 0.25)), ((0, 1), (0.0, 1.0))])
def test_a_blend_draws_details_by_weight(
    tiny: Converter, weights: tuple[float, float], shares: tuple[float, float]
) -> None:
    config = tiny.autoencoder.config
    first, second = (
        Voice(torch.ones(config.embedding_dim), None, "", torch.full((MAX_FRAMES, 4), value))
        for value in (0.0, 1.0)
    )
    blend = blend_voices([first, second], weights, config)
    assert blend.details is not None and len(blend.details) == MAX_FRAMES
    assert float((blend.details == 1).float().mean()) == pytest.approx(shares[1], abs=0.01)
    nobody = Voice(torch.ones(config.embedding_dim), None)
    assert blend_voices([first, nobody], [1, 1], config).details is None
