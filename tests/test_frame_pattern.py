from __future__ import annotations

import torch

from vc.vocoder import frame_pattern
from vc.vocoder.frame_pattern import CONTEXT, weaken_frame_pattern

BINS, FRAMES = 6, 40


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_what_repeats_in_every_frame_is_weakened_and_a_slope_is_kept() -> None:
    for steps in (2, 3, 4):
        slope = torch.linspace(0, 3, FRAMES * steps).expand(1, BINS, -1)
        pattern = random(1, BINS, steps)
        pattern = (pattern - pattern.mean(2, keepdim=True)).repeat(1, 1, FRAMES)
        left = weaken_frame_pattern(slope + pattern, torch.ones(1, FRAMES), steps) - slope
        inner = slice(steps * CONTEXT, -steps * CONTEXT)
        wanted = (1 - frame_pattern._SHARE) * pattern
        torch.testing.assert_close(left[..., inner], wanted[..., inner], atol=1e-4, rtol=0)


def test_what_does_not_repeat_is_hardly_touched() -> None:
    columns = random(1, 200, 2 * FRAMES)
    taken = columns - weaken_frame_pattern(columns, torch.ones(1, FRAMES), 2)
    assert taken.square().mean() < 0.01 * columns.square().mean()


def test_unvoiced_frames_and_ends_of_voiced_ones_are_neither_heard_nor_changed() -> None:
    voiced = torch.ones(1, FRAMES)
    voiced[:, 15:25] = 0
    pattern = random(1, BINS, 2).repeat(1, 1, FRAMES)
    columns = pattern.clone()
    columns[..., 30:50] = 100 * random(1, BINS, 20, seed=1)
    changed = weaken_frame_pattern(columns, voiced, 2)
    torch.testing.assert_close(changed[..., 28:52], columns[..., 28:52])
    alone = weaken_frame_pattern(pattern, voiced, 2)
    torch.testing.assert_close(changed[..., :28], alone[..., :28])
    assert not torch.allclose(alone[..., :28], pattern[..., :28], atol=0.01)


def test_a_piece_is_treated_as_in_the_whole() -> None:
    columns, voiced = random(2, BINS, 2 * FRAMES), (random(2, FRAMES, seed=1) > -1).float()
    columns = columns + 3 * random(1, BINS, 2, seed=2).repeat(1, 1, FRAMES)
    whole = weaken_frame_pattern(columns, voiced, 2)
    piece = weaken_frame_pattern(columns[..., 16:64], voiced[:, 8:32], 2)
    inner = slice(2 * CONTEXT, -2 * CONTEXT)
    torch.testing.assert_close(piece[..., inner], whole[..., 16:64][..., inner])
