from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from recipes.compare import find_recipes
from recipes.compare import main as compare_recipes
from recipes.shipped import known_voices
from recipes.toy.make_corpus import make_corpus
from vc.audio import read_audio
from vc.cli import main
from vc.config import read_recipe
from vc.convert import load
from vc.errors import DataError

ROOT = Path(__file__).parent.parent


def commands(readme: Path) -> list[list[str]]:
    """The `vc` commands of a README's first block of code."""
    block = readme.read_text(encoding="utf-8").split("```")[1]
    return [shlex.split(line)[1:] for line in block.splitlines() if line.startswith("vc ")]


SHIPPED = "vc/weights/default"
BY_DEFAULT = {  # what of the shipped model a recipe reads that names nothing else
    "content": ("autoencoder",),
    "speaker": ("autoencoder", "denoiser"),
    "listener": ("autoencoder",),
    "units": ("autoencoder",),
    "masked_predictor": ("autoencoder",),
}


def read_by_recipe(file: Path) -> list[str]:
    """The checkpoints that a training reads."""
    recipe = read_recipe(file)
    settings = {**recipe.get("run", {}), **recipe}
    named = [settings.get(key) for key in ("autoencoder", "denoiser", "listener", "teacher")]
    named.append(settings.get("initial"))
    for part in BY_DEFAULT.get(recipe["kind"], ()):
        named.append(settings.get(part) or f"{SHIPPED}/{part}")
    return [name for name in named if isinstance(name, str)]


@pytest.mark.parametrize("name", ["shipped", "masked"])
def test_each_command_reads_what_earlier_ones_have_written(name: str) -> None:
    block = (ROOT / "recipes" / name / "README.md").read_text(encoding="utf-8").split("```")[1]
    written = set() if name == "shipped" else {f"{SHIPPED}/autoencoder"}
    for line in block.replace("\\\n", " ").strip().splitlines():
        command, *arguments = shlex.split(line)
        reads = [argument.partition("/{")[0] for argument in arguments]
        reads = [place for place in reads if place.startswith("runs/")]
        if command == "vc" and arguments[0] == "train":
            output = arguments[arguments.index("-o") + 1]
            reads.remove(output)
            reads += read_by_recipe(ROOT / arguments[1])
        elif command == "cp":
            output = arguments[-1].rstrip("/")
        elif arguments[0].endswith(("known_voices.py", "check.py", "stream_statistics.py")):
            output = arguments[0]
            reads += [f"{SHIPPED}/{part}" for part in ("autoencoder", "denoiser")]
        elif arguments[0].endswith("unit_tables.py"):
            output = arguments[0]
            reads.append(f"{SHIPPED}/units")
        else:
            continue
        assert set(reads) <= written, line
        written.add(output)
    assert len(written) > 2


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


def test_comparing_goes_on_after_a_system_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [ROOT / "recipes" / "shipped" / "autoencoder.toml", ROOT / "recipes" / "ablations"]
    recipes = find_recipes(places)
    assert {"autoencoder", "with_phones", "without_f0"} <= recipes.keys()
    assert "vocoder_with_discriminator" not in recipes

    def train_and_score(name: str, recipe: Path, options: object) -> Path:
        if name == "with_phones":
            raise DataError("no labels")
        return Path(name)

    monkeypatch.setattr("recipes.compare.train_and_score", train_and_score)
    monkeypatch.setattr("recipes.compare.compare", lambda scores: f"{len(scores)} systems")
    arguments = [*map(str, places), "--cache=C", "--pairs=P", "--root=R", f"-o={tmp_path}"]
    monkeypatch.setattr("sys.argv", ["compare", *arguments])
    assert compare_recipes() == 2
    told = capsys.readouterr()
    assert "with_phones: no labels" in told.err
    assert f"{len(recipes) - 1} systems" in told.out
    assert f"{len(recipes) - 1} systems" in (tmp_path / "table.txt").read_text()


def test_the_demos_map_is_of_the_shipped_model_only(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))
    dims = load(model).autoencoder.config.embedding_dim + 2
    vectors = np.random.default_rng(0).normal(5, 0.3, (20, dims)).astype(np.float32)
    shipped, mine = tmp_path / "shipped", tmp_path / "mine"
    monkeypatch.setattr(known_voices, "PRIOR_DIMS", 4)
    monkeypatch.setattr(known_voices, "MAP", shipped)
    monkeypatch.setattr(known_voices, "listen", lambda *_: (vectors, vectors[:, :80]))
    for more in ([], [f"--map={mine}"]):
        assert not mine.exists()
        monkeypatch.setattr("sys.argv", ["known_voices", "C", f"--checkpoint={model}", *more])
        known_voices.main()
    assert mine.is_file() and not shipped.exists()
    monkeypatch.setattr(known_voices, "SHIPPED", model)
    monkeypatch.setattr("sys.argv", ["known_voices", "C", f"--checkpoint={model}"])
    known_voices.main()
    assert shipped.is_file()


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
