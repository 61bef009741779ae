"""A decoder tuned to one voice: the second half of its blocks, changed by a little.

A speaker embedding is all that a decoder is told of a voice that it was not trained on, and 288
numbers do not say how each sound of somebody differs from everybody else's. So the decoder itself
may learn a voice (`vc.learn_voice`). What it learns is kept apart from the model, as a `Tuning`: of
each weight matrix a product of two thin ones (low-rank adaptation, Hu et al. 2021,
arXiv:2106.09685), of every other parameter the difference. So a voice still fits in a small file,
and voices can be mixed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from vc.model.decoder import Decoder

Tuning = dict[str, Tensor]  # by parameter of the decoder; matrices have two, see `tuned`
RANK = 16  # of what is learnt of each matrix

_LEFT, _RIGHT = ".left", ".right"

Network = TypeVar("Network", bound=nn.Module)


def untuned(decoder: Decoder, generator: torch.Generator) -> Tuning:
    """A tuning that changes nothing, from which one is learnt.

    Args:
        decoder: that is to learn.
        generator: of the right factors, which start at random; the left ones are zero.
    """
    tuning: Tuning = {}
    for name, weight in tunable(decoder):
        if not _is_matrix(name, weight):
            tuning[name] = torch.zeros_like(weight)
            continue
        rows, columns = weight.flatten(1).shape
        right = torch.randn(RANK, columns, generator=generator) / columns**0.5
        tuning[name + _LEFT] = weight.new_zeros(rows, RANK)
        tuning[name + _RIGHT] = right.to(weight)
    return tuning


def tunable(decoder: Decoder) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that a voice may change.

    How an embedding scales and shifts is not among them, only by how much more: the embedding of
    one voice is always the same.
    """
    for name, parameter in decoder.named_parameters():
        owner, _, rest = name.partition(".")
        if owner == "blocks":
            number, _, rest = rest.partition(".")
            if int(number) < decoder.first_tuned_block or rest == "film.weight":
                continue
        elif owner not in ("norm", "project"):
            continue
        yield name, parameter


def _is_matrix(name: str, weight: Tensor) -> bool:
    """Whether two thin factors are less than the whole: not so of depthwise convolutions."""
    return weight.ndim > 1 and min(weight.flatten(1).shape) > RANK


def tuned(decoder: Decoder, tuning: Tuning, factored: bool = False) -> Decoder:
    """A decoder that speaks as a voice does; all that was not tuned is shared.

    Gradients reach the tuning.

    Args:
        decoder: not changed.
        tuning: of it.
        factored: keep the factors of linear layers apart. That is faster to learn by, since no
            gradient of a whole matrix is needed, and slower to speak with.
    """
    weights, low_rank = {}, {}
    for name, weight in tunable(decoder):
        if name in tuning:
            weights[name] = weight + tuning[name].to(weight)
            continue
        layer = name.removesuffix(".weight")
        left, right = (tuning[name + end].to(weight) for end in (_LEFT, _RIGHT))
        if factored and isinstance(decoder.get_submodule(layer), nn.Linear):
            low_rank[layer] = left, right
        else:
            weights[name] = weight + (left @ right).reshape(weight.shape)
    twin = with_weights(decoder, weights)  # has its own of all modules whose biases are tuned
    for layer, factors in low_rank.items():
        owner, _, name = layer.rpartition(".")
        changed = _LowRankLinear(twin.get_submodule(layer), *factors)
        twin.get_submodule(owner)._modules[name] = changed
    return twin


class _LowRankLinear(nn.Module):
    """A linear layer plus a product of two thin matrices, `(rows, rank)` and `(rank, columns)`."""

    def __init__(self, linear: nn.Module, left: Tensor, right: Tensor) -> None:
        super().__init__()
        self._linear, self._left, self._right = linear, left, right

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., columns)` to `(..., rows)`."""
        thin = functional.linear(functional.linear(x, self._right), self._left)
        y: Tensor = self._linear(x) + thin
        return y


def with_weights(network: Network, weights: dict[str, Tensor], prefix: str = "") -> Network:
    """A copy with other weights, by name; modules without any are shared."""
    if not any(name.startswith(prefix) for name in weights):
        return network
    twin = copy.copy(network)
    parameters: dict[str, Any] = network._parameters  # these need not be leaves
    twin._parameters = {k: weights.get(prefix + k, v) for k, v in parameters.items()}
    twin._modules = {
        name: part and with_weights(part, weights, f"{prefix}{name}.")
        for name, part in network._modules.items()
    }
    return twin


def fits(tuning: Tuning, decoder: Decoder) -> bool:
    """Whether a tuning has just the tensors that this decoder can be tuned by."""
    wanted = {k: v.shape for k, v in untuned(decoder, torch.Generator()).items()}
    return {k: v.shape for k, v in tuning.items()} == wanted


def mix_tunings(tunings: Sequence[Tuning | None], weights: Sequence[float]) -> Tuning | None:
    """A tuning between others.

    Args:
        tunings: one or more of the same decoder; None changes nothing.
        weights: one for each, that sum to 1.

    Returns:
        None if none of them changes anything.
    """
    parts = [(t, w) for t, w in zip(tunings, weights, strict=True) if t is not None and w]
    if not parts:
        return None
    mixed: Tuning = {}
    for name in parts[0][0]:
        if name.endswith(_LEFT):
            right = name.removesuffix(_LEFT) + _RIGHT
            lefts = torch.cat([t[name].float() * w for t, w in parts], dim=1)
            rights = torch.cat([t[right].float() for t, _ in parts])
            mixed[name], mixed[right] = _thin(lefts, rights)
        elif not name.endswith(_RIGHT):
            mixed[name] = torch.stack([t[name].float() * w for t, w in parts]).sum(dim=0)
    return mixed


def _thin(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The best factors of `RANK` of a product `(rows, more) @ (more, columns)`."""
    if left.shape[1] <= RANK:
        return left, right
    (q_left, r_left), (q_right, r_right) = torch.linalg.qr(left), torch.linalg.qr(right.T)
    u, scale, v = torch.linalg.svd(r_left @ r_right.T)
    return q_left @ u[:, :RANK] * scale[:RANK], v[:RANK] @ q_right.T
