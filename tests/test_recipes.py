from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from recipes.toy.make_corpus import make_corpus
from vc.audio import read_audio
from vc.cli import main

ROOT = Path(__file__).parent.parent


def commands(readme: Path) -> list[list[str]]:
    """The `vc` commands of a README's first block of code."""
    block = readme.read_text(encoding="utf-8").split("```")[1]
    return [shlex.split(line)[1:] for line in block.splitlines() if line.startswith("vc ")]


def test_the_toy_recipe_runs_as_its_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_corpus(tmp_path / "runs" / "toy_corpus")
    (tmp_path / "vc").symlink_to(ROOT / "vc")  # the examples, where the README has them
    told = ""
    for arguments in commands(ROOT / "recipes" / "toy" / "README.md"):
        assert main(arguments) == 0, capsys.readouterr().err
        told += capsys.readouterr().out
    source = read_audio(ROOT / "vc" / "examples" / "source.flac")
    assert read_audio(tmp_path / "toy.wav").duration_s == pytest.approx(source.duration_s)
    assert (tmp_path / "runs" / "toy" / "autoencoder" / "cache" / "report.html").is_file()
    before, after = _figures(told, "reconstruction")
    assert after < 0.8 * before


def _figures(told: str, name: str) -> tuple[float, float]:
    line = next(line for line in told.splitlines() if line.strip().startswith(f"{name}:"))
    before, after = line.partition(":")[2].split("->")
    return float(before), float(after)


@pytest.mark.parametrize("name", ["own_corpus", "libritts", "vctk"])
def test_commands_of_a_corpus_recipe_are_understood(name: str, tmp_path: Path) -> None:
    found = commands(ROOT / "recipes" / name / "README.md")
    assert [arguments[0] for arguments in found][:1] == ["train"]
    for arguments in found:
        if arguments[0] == "train":  # all is well but for the corpus, which is not here
            arguments[arguments.index("-o") + 1] = str(tmp_path / "run")
            assert main(arguments) == 2
