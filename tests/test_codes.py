from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vc.errors import DataError
from vc.evaluation.codes import (
    Agreement,
    CodeTable,
    agreement,
    heat_map,
    order_for_the_eye,
    tabulate,
)


def figures(phones: str, codes: list[int], size: int = 4) -> Agreement:
    return agreement(tabulate(list(phones), np.array(codes), size))


def test_codes_that_are_phones_by_other_names() -> None:
    found = figures("aabbccdd", [2, 2, 0, 0, 3, 3, 1, 1])
    assert found == Agreement(1.0, 1.0, 2.0, 1.0, 1.0, 4, 8)


def test_two_codes_for_a_phone_cost_cluster_purity_and_half_a_bit_of_both() -> None:
    found = figures("aaaabbbb", [0, 0, 1, 1, 2, 2, 3, 3])
    assert found.phone_purity == 1
    assert found.cluster_purity == 0.5
    assert (found.bits, found.explained) == (1, 1)
    assert found.normalized == pytest.approx(1 / 1.5)


def test_codes_that_know_nothing() -> None:
    found = figures("aabb", [0, 1, 0, 1])
    assert found.bits == 0
    assert found.phone_purity == 0.5


def test_one_phone_or_one_code_tells_nothing() -> None:
    assert figures("aaaa", [0, 1, 2, 3]).explained == 0
    assert figures("abab", [1, 1, 1, 1]).normalized == 0
    assert figures("aaaa", [1, 1, 1, 1]).normalized == 0


def test_pauses_are_left_out() -> None:
    table = tabulate(["a", "", "b"], np.array([0, 3, 1]), 4)
    assert table.phones == ["a", "b"]
    assert table.counts.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]


@pytest.mark.parametrize(
    ("phones", "codes", "size"),
    [
        (["a"], [0, 1], 4),
        (["a"], [4], 4),
        (["a"], [-1], 4),
        ([""], [0], 4),
        ([], [], 4),
        (["a"], [0], 1),
        (["a"], [0], 10**9),
    ],
)
def test_bad_tables_are_refused(phones: list[str], codes: list[int], size: int) -> None:
    with pytest.raises(DataError):
        tabulate(phones, np.array(codes, dtype=np.int64), size)


def test_the_heat_map_is_ordered_and_drawn(tmp_path: Path) -> None:
    counts = np.array([[0, 9, 0, 0, 3], [5, 0, 0, 1, 0], [0, 7, 0, 0, 4]])
    ordered = order_for_the_eye(CodeTable(["a", "b", "c"], counts))
    assert ordered.phones == ["a", "c", "b"]  # a and c share codes
    assert ordered.counts.shape == (3, 4)  # one code never occurs
    assert ordered.counts.argmax(axis=0).tolist() == [0, 1, 2, 2]
    heat_map(tmp_path / "map.png", ordered, "made up")
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(DataError, match="cannot be written"):
        heat_map(tmp_path / "none" / "map.png", ordered, "made up")
