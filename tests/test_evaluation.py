from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from tests.conftest import EXAMPLES
from vc.audio import Waveform, read_audio, write_audio
from vc.checkpoint import inspect_checkpoint
from vc.cli import main
from vc.config import SHIPPED
from vc.errors import CheckpointError, DataError
from vc.evaluation.copy_synthesis import COPY_MEASURES, CopyScore, evaluate_copies
from vc.evaluation.judges import (
    error_rate,
    f0_correlation,
    mel_cepstral_distortion,
    perceptual_quality,
    semitones_apart,
    short_time_intelligibility,
)
from vc.evaluation.report import pick_shown
from vc.evaluation.results import Results, compare, read_results, write_results
from vc.evaluation.run import _Job, evaluate
from vc.evaluation.score import MEASURES, Pair, PairScore, load_clip, read_pairs, summarize
from vc.evaluation.verification import equal_error_rate, other_recordings


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


def _score(value: float, name: str = "x", group: str = "toy") -> PairScore:
    return PairScore(name=name, group=group, **dict.fromkeys(MEASURES, value))


def test_summary_is_the_mean_with_an_interval_and_leaves_out_what_was_not_measured() -> None:
    values = np.random.default_rng(0).normal(0.7, 0.1, 100)
    summary = summarize([_score(v) for v in [*values, float("nan")]])["to_reference"]
    assert summary.count == 100
    assert summary.mean == pytest.approx(values.mean())
    half = 1.96 * values.std() / 10
    assert summary.low == pytest.approx(values.mean() - half, abs=0.005)
    assert summary.high == pytest.approx(values.mean() + half, abs=0.005)


@pytest.mark.parametrize(
    ("genuine", "converted", "expected"),
    [
        ([0.8, 0.9], [0.1, 0.2], 0.0),  # always told apart
        ([0.1, 0.2], [0.8, 0.9], 1.0),  # nearer than recordings are
        ([0.1, 0.3, 0.5, 0.7], [0.1, 0.3, 0.5, 0.7], 0.5),  # not told apart
        ([0.2, 0.6, 0.7, 0.8], [0.1, 0.3, 0.4, 0.65], 0.25),  # one error of four, both ways
    ],
)
def test_equal_error_rate(genuine: list[float], converted: list[float], expected: float) -> None:
    assert equal_error_rate(np.array(genuine), np.array(converted)) == pytest.approx(expected)


def test_equal_error_rate_agrees_with_two_known_distributions() -> None:
    generator = np.random.default_rng(0)
    genuine, converted = generator.normal(1, 1, 4_000), generator.normal(-1, 1, 4_000)
    assert equal_error_rate(genuine, converted) == pytest.approx(0.1587, abs=0.01)  # of a normal


def test_trials_are_made_with_other_recordings_of_the_wanted_speaker_only(tmp_path: Path) -> None:
    for name in ("a/1.wav", "a/2.wav", "a/3.wav", "a/notes.txt", "b/1.wav", "unlabelled/1.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    reference, source = tmp_path / "a" / "2.wav", tmp_path / "b" / "1.wav"
    found = other_recordings([reference], source)
    assert [clip.name for clip in found] == ["1.wav", "3.wav"]
    assert other_recordings([reference], tmp_path / "a" / "1.wav") == []  # not one speaker's folder
    assert other_recordings([tmp_path / "unlabelled" / "1.wav"], source) == []


def test_scores_survive_the_file_and_are_valid_json(tmp_path: Path) -> None:
    score = replace(_score(0.5), cer=float("nan"), genuine_trials=(0.9,), converted_trials=(0.8,))
    write_results(tmp_path / "scores.json", Results({"name": "a"}, {"judge": "1"}, [score]))
    text = (tmp_path / "scores.json").read_text()
    assert "NaN" not in text
    stored = read_results(tmp_path / "scores.json")
    assert stored.name == "a"
    assert np.isnan(stored.scores[0].cer)
    assert replace(stored.scores[0], cer=0.0) == replace(score, cer=0.0)
    (tmp_path / "scores.json").write_text("[]")
    with pytest.raises(DataError, match="run `vc evaluate` again"):
        read_results(tmp_path / "scores.json")


def test_systems_are_compared_pair_by_pair(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hardness = np.random.default_rng(0).normal(0.6, 0.2, 30)
    for system, better in (("first", 0.0), ("second", 0.02)):
        scores = [_score(v + better, f"pair{i}") for i, v in enumerate(hardness)]
        scores = scores if system == "first" else scores[::-1][:-1]  # other order, one is missing
        results = Results({"name": system}, {}, scores)
        write_results(tmp_path / f"{system}.json", results)
    files = [str(tmp_path / f"{system}.json") for system in ("first", "second")]
    assert main(["evaluate", "--compare", *files]) == 0
    printed = capsys.readouterr().out
    assert "toy (29 pairs)" in printed
    lines = [line for line in printed.splitlines() if "second" in line]
    assert len(lines) == len(MEASURES)
    # far less than the spread of the pairs, and yet certain
    assert all(line.endswith("+0.020  [+0.020, +0.020] *") for line in lines)


def test_systems_without_a_common_pair_are_refused(tmp_path: Path) -> None:
    for system in "ab":
        results = Results({"name": system}, {}, [_score(0.5, system)])
        write_results(tmp_path / f"{system}.json", results)
    with pytest.raises(DataError, match="no pair in common"):
        compare([tmp_path / "a.json", tmp_path / "b.json"])


def test_report_shows_the_worst_the_middle_and_the_best() -> None:
    likeness = [0.5, 0.9, 0.1, 0.7, 0.3, 0.8, 0.2, 0.6, 0.4]
    assert [likeness[i] for i in pick_shown(likeness, 3)] == [0.1, 0.5, 0.9]
    assert [likeness[i] for i in pick_shown(likeness, 5)] == [0.1, 0.4, 0.5, 0.6, 0.9]
    assert [likeness[i] for i in pick_shown(likeness, 99)] == sorted(likeness)
    assert pick_shown(likeness, 0) == []


def test_copy_measures_know_a_good_copy_from_a_bad_one() -> None:
    original = load_clip(EXAMPLES / "source.flac")
    noise = np.random.default_rng(0).standard_normal(len(original)).astype(np.float32)
    good, bad = original + 0.0003 * noise, original + 0.03 * noise
    assert mel_cepstral_distortion(original, original) == 0
    assert mel_cepstral_distortion(original, 0.5 * original) < 0.5  # level is not counted
    assert mel_cepstral_distortion(original, good) < mel_cepstral_distortion(original, bad)
    assert perceptual_quality(original, original) > 4.5
    assert perceptual_quality(original, good) > perceptual_quality(original, bad)
    assert short_time_intelligibility(original, original) == pytest.approx(1, abs=1e-3)
    assert short_time_intelligibility(original, bad) < 0.99
    short = slice(8_000, 11_200)
    assert np.isnan(perceptual_quality(original[short], good[short]))
    assert np.isnan(short_time_intelligibility(original[short], good[short]))


def test_mel_cepstral_distortion_is_in_decibels_of_the_spectrum() -> None:
    original = 0.1 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    # a spectrum that is raised by g dB in one half and lowered by g dB in the other lies g dB off
    sos = butter(8, 1_200, output="sos", fs=16_000)  # about the middle of the mel axis
    low = sosfiltfilt(sos, original).astype(np.float32)
    tilted = low * 2 + (original - low) / 2
    assert mel_cepstral_distortion(original, tilted) == pytest.approx(6.02, abs=0.6)


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


@pytest.mark.parametrize(
    ("row", "english"),
    [("cross-language\t", False), ("toy\t", True), ("toy\tde", False), ("others\ten-GB", True)],
)
def test_the_recogniser_is_asked_about_english_only(
    tmp_path: Path, row: str, english: bool
) -> None:
    table = tmp_path / "pairs.tsv"
    table.write_text(f"set\tlanguage\tsource\treference\n{row}\ta.wav\tb.wav\n")
    assert read_pairs(table, tmp_path)[0].english is english


def test_pairs_whose_clips_would_have_one_name_are_refused(table: Path) -> None:
    table.write_text("set\tsource\treference\nx\t1/a.wav\tb.wav\nx\t2/a.wav\tb.wav\n")
    with pytest.raises(DataError, match="x--a--b"):
        read_pairs(table, table.parent)


@pytest.mark.parametrize("name", ["../../out", "en/male", "en\\male", "a\x07b", "a\u0085b"])
def test_a_set_that_cannot_be_part_of_a_file_name_is_refused(table: Path, name: str) -> None:
    rows = f"set\tsource\treference\nx\ta.wav\tb.wav\n{name}\ta.wav\tb.wav\n"
    table.write_text(rows, encoding="utf-8")
    with pytest.raises(DataError, match=r"pairs\.tsv, line 3: set .* leave out slashes") as refused:
        read_pairs(table, table.parent)
    assert len(str(refused.value).splitlines()) == 1


def test_a_missing_converted_clip_is_named(table: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"toy--source--reference\.wav: missing"):
        evaluate(table, EXAMPLES, converted_folder=tmp_path)


def test_evaluating_the_untouched_source_says_so(
    table: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (pair,) = read_pairs(table, EXAMPLES)
    folder = tmp_path / "converted"
    folder.mkdir()
    write_audio(folder / f"{pair.name}.flac", read_audio(pair.source))
    output = tmp_path / "out"
    arguments = ["--root", str(EXAMPLES), "--converted", str(folder), "-o", str(output)]
    assert main(["evaluate", str(table), *arguments]) == 0
    printed = capsys.readouterr().out
    assert "to_reference" in printed
    scores = json.loads((output / "scores.json").read_text())
    (row,) = scores["pairs"]
    assert row["to_source"] > 0.99
    assert row["nearer_reference"] == 0
    assert row["f0_correlation"] > 0.99
    assert row["f0_correlation_harvest"] > 0.99
    assert row["cer_own"] < 0.1
    assert 0 <= row["source_wer"] < 0.5  # flite speaks clearly
    assert 2 < row["p808"] < 5
    report = (output / "report.html").read_text()
    assert report.count("<audio") == 3
    assert report.count("<svg") == 3
    fetched = re.findall(r'(?:src|href)="([^"]*)"', report)
    assert fetched
    assert all(address.startswith(("data:", "#")) for address in fetched)
    # what is scored is not scored again: a judge that is asked would raise
    monkeypatch.setattr("vc.evaluation.run.score_pair", None)
    with (output / "scored.jsonl").open("a") as file:
        file.write('{"key": "of a run that was cut sh')
    assert main(["evaluate", str(table), *arguments]) == 0
    assert capsys.readouterr().out == printed
    write_audio(folder / f"{pair.name}.flac", read_audio(pair.references[0]))
    with pytest.raises(TypeError):  # another clip is
        main(["evaluate", str(table), *arguments])


def test_a_models_clips_get_the_same_scores_as_a_folder(
    table: Path, tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(pair: Pair, converted: Waveform, judges: object) -> PairScore:
        return _score(float(np.abs(converted).mean()), pair.name, pair.group)

    monkeypatch.setattr("vc.evaluation.run.score_pair", judge)
    monkeypatch.setattr("vc.evaluation.run._judges", lambda: None)
    output = tmp_path / "out"
    first = evaluate(table, EXAMPLES, tiny_checkpoint, output, shown=0)
    assert set(first.system) == {"name", "autoencoder", "vocoder", "vc"}
    again = evaluate(table, EXAMPLES, converted_folder=output)
    assert again.scores == first.scores


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pairs that are scored from now on."""
    names: list[str] = []

    def score(job: _Job) -> PairScore:
        names.append(job.pair.name)
        (job.clips / f"{job.pair.name}.wav").touch()
        return _score(0.5, job.pair.name, job.pair.group)

    monkeypatch.setattr("vc.evaluation.run._score", score)
    return names


def test_another_model_is_scored_again(
    table: Path, tmp_path: Path, tiny_checkpoint: Path, scored: list[str]
) -> None:
    model, output = tmp_path / "model", tmp_path / "out"
    shutil.copytree(tiny_checkpoint, model)
    for times, changed in enumerate(("voices.safetensors", "denoiser/config.json"), 2):
        evaluate(table, EXAMPLES, model, output, shown=0)
        with (model / changed).open("ab") as file:
            file.write(b" ")
        for _ in range(2):
            evaluate(table, EXAMPLES, model, output, shown=0)
            assert len(scored) == times


def test_a_look_at_some_pairs_keeps_the_scores_of_the_others(
    table: Path, tmp_path: Path, tiny_checkpoint: Path, scored: list[str]
) -> None:
    row = table.read_text().splitlines()[1].removeprefix("toy")
    table.write_text(table.read_text() + f"second{row}\nthird{row}\n")
    model, output = tmp_path / "model", tmp_path / "out"
    shutil.copytree(tiny_checkpoint, model)
    for every in (1, 2, 1):
        evaluate(table, EXAMPLES, tiny_checkpoint, output, every=every, workers=1, shown=0)
    assert len(scored) == 3
    (model / "voices.safetensors").unlink()
    evaluate(table, EXAMPLES, model, output, every=2, workers=1, shown=0)
    assert len(scored) == 5
    evaluate(table, EXAMPLES, tiny_checkpoint, output, workers=1, shown=0)
    # not the one whose clip is still this model's
    assert [name.split("--")[0] for name in scored[5:]] == ["toy", "third"]


def test_a_model_without_a_vocoder_is_scored_with_the_shipped_one(
    table: Path,
    tmp_path: Path,
    tiny_checkpoint: Path,
    scored: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, shipped = tmp_path / "model", inspect_checkpoint(SHIPPED / "vocoder").sha256
    shutil.copytree(tiny_checkpoint / "autoencoder", model / "autoencoder")
    assert evaluate(table, EXAMPLES, model).system["vocoder"] == shipped
    copied = CopyScore(name="source", **dict.fromkeys(COPY_MEASURES, 0.5) | {"pesq": float("nan")})
    monkeypatch.setattr("vc.evaluation.copy_synthesis._score", lambda job: copied)
    assert "pesq" not in evaluate_copies(table, EXAMPLES, model, tmp_path)
    stored = json.loads((tmp_path / "copies.json").read_text())
    assert stored["system"]["vocoder"] == shipped
    assert stored["clips"] == [
        {"name": "source"} | dict.fromkeys(COPY_MEASURES, 0.5) | {"pesq": None}
    ]
    monkeypatch.setattr("vc.evaluation.copy_synthesis._score", None)
    (model / "vocoder").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint there"):  # before the work
        evaluate_copies(table, EXAMPLES, model)


def test_copying(
    table: Path, tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--root", str(EXAMPLES), "--checkpoint", str(tiny_checkpoint), "--copy"]
    assert main(["evaluate", str(table), *arguments, "-o", str(tmp_path / "copies")]) == 0
    assert "pesq" in capsys.readouterr().out
    stored = json.loads((tmp_path / "copies" / "copies.json").read_text())
    (clip,) = stored["clips"]
    assert 1 <= clip["pesq"] <= 4.65
    assert 0 < clip["mel_cepstral_distortion"] < 30
    assert clip["overall_loss"] == pytest.approx(clip["original_overall"] - clip["overall"])
    copied = read_audio(tmp_path / "copies" / "0000--source.wav")
    assert copied.duration_s == pytest.approx(
        read_audio(EXAMPLES / "source.flac").duration_s, abs=0.01
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "name a table"), (["x.tsv", "--every", "0"], "--every"), (["x.tsv"], "x.tsv")],
)
def test_evaluate_says_what_is_missing(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *arguments]) == 2
    assert said in capsys.readouterr().err
