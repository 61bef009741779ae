"""Networks that are given a clip while it is being said, a few frames at a time.

A convolution needs frames on both sides. Those on the left were given before, so it remembers
them; what lies beyond the last on the right it takes for silence, as at the end of a clip. While
the clip goes on that is wrong, so the last frames of a step are provisional, and are given again in
the next, with more behind them. So nothing but the few frames of a step is ever computed, however
far a network looks back.
"""

from __future__ import annotations

import copy
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

Network = TypeVar("Network", bound=nn.Module)


class Step(NamedTuple):
    """What is given at once: some new frames, and some ahead of them, which will come again."""

    new: int
    ahead: int

    @property
    def frames(self) -> int:
        """In all."""
        return self.new + self.ahead

    def count_new(self, x: Tensor) -> int:
        """Frames of `(..., frames)` that will not come again; of whatever rate, if it divides."""
        return x.shape[-1] * self.new // self.frames


class Past:
    """The last frames of whatever is given in steps.

    Args:
        frames: how many are remembered.
        step: what is given at once.
    """

    def __init__(self, frames: int, step: Step) -> None:
        self._frames, self._step = frames, step
        self._kept: Tensor | None = None

    def join(self, x: Tensor) -> Tensor:
        """The frames of a step, `(..., frames)`, behind those that are remembered."""
        joined = x if self._kept is None else torch.cat([self._kept, x], dim=-1)
        past = joined.shape[-1] - x.shape[-1] + self._step.count_new(x)
        self._kept = joined[..., max(0, past - self._frames) : past]
        return joined


class StepwiseConv1d(nn.Module):
    """A convolution over time of a clip that is given in steps; see `stepwise`."""

    def __init__(self, convolution: nn.Conv1d, step: Step) -> None:
        super().__init__()
        self.convolution = convolution
        self._reach = convolution.kernel_size[0] // 2
        self._past = Past(self._reach, step)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, frames)`, always as many, to as many again (fewer, if strided)."""
        layer, seen = self.convolution, self._past.join(x)
        missing = self._reach + x.shape[-1] - seen.shape[-1]  # silence before the clip
        seen = functional.pad(seen, (missing, self._reach))
        # of few frames, a product with what each of them sees is faster than a convolution
        windows = seen.unfold(-1, layer.kernel_size[0], layer.stride[0])  # (B, C, T, size)
        if layer.groups == 1:
            y = torch.einsum("bcts,dcs->bdt", windows, layer.weight)
        else:
            y = torch.einsum("bcts,cs->bct", windows, layer.weight.squeeze(1))
        return y if layer.bias is None else y + layer.bias[:, None]


def stepwise(network: Network, step: Step) -> Network:
    """A copy of a network that hears one clip, step by step; weights are shared.

    Args:
        network: of convolutions over time, depthwise or not, of odd sizes and padded by half of
            them, and of layers that see one frame at a time.
        step: what it will be given at once.
    """
    twin = copy.copy(network)
    twin._modules = {}
    for name, part in network._modules.items():
        if isinstance(part, nn.Conv1d) and part.kernel_size[0] > 1:
            twin._modules[name] = StepwiseConv1d(part, step)
        else:
            twin._modules[name] = part and stepwise(part, step)
    return twin
