from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import EXAMPLES
from vc.audio import read_audio, write_audio
from vc.cli import main
from vc.errors import DataError
from vc.evaluation.judges import error_rate, f0_correlation, semitones_apart
from vc.evaluation.score import PairScore, read_pairs, summarize


@pytest.mark.parametrize(
    ("words", "reference", "unit", "expected"),
    [
        ("the cat", "the cat", "word", 0.0),
        ("The  CAT!", "the cat", "char", 0.0),
        ("the bat", "the cat", "word", 0.5),
        ("the bat", "the cat", "char", 1 / 7),
        ("", "the cat", "word", 1.0),
        ("a the cat sat", "the cat", "word", 1.0),
        ("kitten", "sitting", "char", 3 / 7),
    ],
)
def test_error_rate(words: str, reference: str, unit: str, expected: float) -> None:
    assert error_rate(words, reference, unit) == pytest.approx(expected)


def test_pitch_measures() -> None:
    f0 = np.array([0, *np.linspace(100, 150, 30), 0])
    assert f0_correlation(f0, 2 * f0) == pytest.approx(1.0)
    assert semitones_apart(f0, 2 * f0) == pytest.approx(12.0)
    assert np.isnan(f0_correlation(f0, np.zeros(32)))
    assert np.isnan(semitones_apart(f0, np.zeros(32)))


def _score(value: float) -> PairScore:
    fields = PairScore.__dataclass_fields__
    return PairScore(**{k: "x" if k in ("name", "group") else value for k in fields})  # type: ignore[arg-type]


def test_summary_is_the_mean_with_an_interval_and_leaves_out_what_was_not_measured() -> None:
    values = np.random.default_rng(0).normal(0.7, 0.1, 100)
    summary = summarize([_score(v) for v in [*values, float("nan")]])["to_reference"]
    assert summary.count == 100
    assert summary.mean == pytest.approx(values.mean())
    half = 1.96 * values.std() / 10
    assert summary.low == pytest.approx(values.mean() - half, abs=0.005)
    assert summary.high == pytest.approx(values.mean() + half, abs=0.005)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.tsv"
    path.write_text(
        "set\tsource\treference\ttranscript\n"
        "toy\tsource.flac\treference.flac\tThe old lighthouse keeper walked down to the harbour, "
        "to watch the boats come home before the storm.\n"
    )
    return path


def test_table_of_pairs(table: Path, tmp_path: Path) -> None:
    (pair,) = read_pairs(table, EXAMPLES)
    assert pair.references == (EXAMPLES / "reference.flac",)
    table.write_text("source\nx.wav\n")
    with pytest.raises(DataError, match="column"):
        read_pairs(table, tmp_path)


def test_evaluating_the_untouched_source_says_so(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pair,) = read_pairs(table, EXAMPLES)
    folder = tmp_path / "converted"
    folder.mkdir()
    write_audio(folder / f"{pair.name}.wav", read_audio(pair.source))
    arguments = ["--root", str(EXAMPLES), "--converted", str(folder), "-o", str(tmp_path / "out")]
    assert main(["evaluate", str(table), *arguments]) == 0
    assert "to_reference" in capsys.readouterr().out
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    (row,) = scores["pairs"]
    assert row["to_source"] > 0.99
    assert row["nearer_reference"] == 0
    assert row["f0_correlation"] > 0.99
    assert row["cer_own"] < 0.1
    assert 0 <= row["source_wer"] < 0.5  # flite speaks clearly
    assert 2 < row["p808"] < 5
