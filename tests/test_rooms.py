"""Rooms that students and denoisers are trained in."""

from __future__ import annotations

import pytest
import torch

from vc.config import FeatureConfig
from vc.features import LogMel
from vc.training.degrade import DegradeConfig, degrade
from vc.training.rooms import RoomConfig, draw_rooms, early_part, heard_in_rooms, play

RATE = 16_000


def energy_db(signal: torch.Tensor) -> torch.Tensor:
    return 10 * signal.square().sum(dim=-1).log10()


@pytest.mark.parametrize("echo_db", [-15.0, 6.0])
def test_echoes_follow_the_direct_sound_and_are_as_loud_as_asked(echo_db: float) -> None:
    torch.manual_seed(0)
    rooms = draw_rooms(8, RoomConfig(echo_db=(echo_db, echo_db)), RATE)
    assert (rooms[:, 0] == 1).all()
    assert energy_db(rooms[:, 1:]) == pytest.approx([echo_db] * 8, abs=0.1)
    assert not torch.allclose(rooms[0], rooms[1], atol=1e-3)


def test_echoes_die_away_within_the_reverberation_time_and_treble_first() -> None:
    torch.manual_seed(0)
    rooms = draw_rooms(32, RoomConfig(reverberation_s=(0.4, 0.4), echo_db=(0, 0)), RATE)
    window = torch.hann_window(256)
    spectrum = torch.stft(rooms, 256, 256, window=window, center=False, return_complex=True)
    power = spectrum.abs().square()  # (rooms, bins, frames of 16 ms)
    bass_db, treble_db = (
        10 * (band[:, 4] / band[:, 16]).log10().mean()  # fallen in 192 ms of 400
        for band in (power[:, :6].sum(dim=1), power[:, 60:].sum(dim=1))
    )
    assert 26 < bass_db < 36  # 60 dB in 400 ms are 29
    assert treble_db > bass_db + 8


def test_a_dry_room_changes_nothing_and_early_echoes_are_a_part_of_all() -> None:
    torch.manual_seed(0)
    speech = torch.randn(3, RATE)
    direct = torch.zeros(3, 100)
    direct[:, 0] = 1
    assert torch.allclose(play(speech, direct), speech, atol=1e-5)
    rooms = draw_rooms(3, RoomConfig(), RATE)
    assert torch.equal(early_part(rooms, RATE), rooms[:, : RATE // 20])


def test_a_room_fills_the_pauses_of_some_clips() -> None:
    torch.manual_seed(0)
    features = FeatureConfig()
    log_mel = LogMel(features)
    speech = 0.1 * torch.randn(16, 64 * features.hop_length)
    speech[:, 32 * features.hop_length :] *= 0.001
    dry = log_mel(speech)[..., :64]
    rooms = RoomConfig(reverberation_s=(0.5, 0.8), echo_db=(0.0, 6.0))
    echoing = heard_in_rooms(speech, draw_rooms(16, rooms, RATE), log_mel)
    filled = (echoing - dry).mean(dim=1)
    assert filled[:, 40].min() > 1.0
    assert (filled[:, 36] > filled[:, 60]).all()  # and dies away
    half = DegradeConfig(colour=0, room=0.5, noise=0, hum=0, band=0)
    heard = degrade(dry, half, features, None, echoing)
    changed = (heard != dry).flatten(1).any(dim=1)
    assert 0 < changed.sum() < 16
    assert torch.equal(heard[changed], echoing[changed])
