"""Frequent neighbours merged, step by step: pieces of speech as trees over units.

Byte-pair encoding (Gage 1994; Sennrich et al. 2016, arXiv:1508.07909) on kinds of units instead of
letters (a thousand units are too many: hardly two of them come together twice). What comes
together often becomes one node, and the nodes of a clip say where its pieces lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.integer]

_BOUNDARY = -1  # between clips, when merges are learnt


@dataclass(frozen=True)
class Tree:
    """A unit of a clip, or two neighbours that belong together."""

    symbol: int  # below the number of kinds: a kind; above: that number and the place of its merge
    start: int  # the units that it covers, from the beginning of the clip
    stop: int
    children: tuple[Tree, ...] = ()


def learn_merges(clips: Sequence[Sequence[int]], kinds: int, count: int) -> IntArray:
    """The most frequent pairs of neighbours, each counted after those before it were merged.

    Args:
        clips: kinds of each clip's units, below `kinds`.
        kinds: how many there are.
        count: merges to learn; fewer if no pair comes twice.

    Returns:
        `(merges, 2)`; merge number `i` makes the symbol `kinds + i`.
    """
    parts = [np.append(np.asarray(clip, np.int64), _BOUNDARY) for clip in clips]
    symbols = np.concatenate(parts)
    merges: list[tuple[int, int]] = []
    for new in range(kinds, kinds + count):
        left, right = symbols[:-1], symbols[1:]
        inside = (left != _BOUNDARY) & (right != _BOUNDARY)
        both = left[inside] * (kinds + count) + right[inside]
        pairs, counts = np.unique(both, return_counts=True)
        if not len(counts) or counts.max() < 2:
            break
        first, second = divmod(int(pairs[counts.argmax()]), kinds + count)
        merges.append((first, second))
        symbols = _merge(symbols, first, second, new)
    return np.array(merges, np.int64).reshape(-1, 2)


def _merge(symbols: IntArray, first: int, second: int, new: int) -> IntArray:
    at = np.flatnonzero((symbols[:-1] == first) & (symbols[1:] == second))
    if first == second:  # of three in a row, the first two
        kept: list[int] = []
        for place in at.tolist():
            if not kept or place > kept[-1] + 1:
                kept.append(place)
        at = np.array(kept, np.int64)
    symbols = symbols.copy()
    symbols[at] = new
    return np.delete(symbols, at + 1)


def grow_trees(clip: Sequence[int], merges: IntArray, kinds: int) -> list[Tree]:
    """The pieces that a clip consists of, in order.

    Merges are applied in the order in which they were learnt; of equal pairs that overlap, the
    first.

    Args:
        clip: kinds of its units.
        merges: as `learn_merges` returns them.
        kinds: how many there are.
    """
    rank = {(int(a), int(b)): number for number, (a, b) in enumerate(merges)}
    trees = [Tree(int(kind), place, place + 1) for place, kind in enumerate(clip)]
    while True:
        pairs = [(a.symbol, b.symbol) for a, b in pairwise(trees)]
        best = min((rank[pair] for pair in pairs if pair in rank), default=None)
        if best is None:
            return trees
        merged: list[Tree] = []
        for tree in trees:
            last = merged[-1] if merged else None
            if last is not None and rank.get((last.symbol, tree.symbol)) == best:
                merged[-1] = Tree(kinds + best, last.start, tree.stop, (last, tree))
            else:
                merged.append(tree)
        trees = merged


def bracketed(tree: Tree, leaves: Sequence[str]) -> str:
    """A tree on one line, such as `((a b) c)`; `leaves` are the texts of the clip's units."""
    if not tree.children:
        return leaves[tree.start]
    return f"({' '.join(bracketed(child, leaves) for child in tree.children)})"
