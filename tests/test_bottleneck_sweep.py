"""The sweep over bottlenecks, on made-up speech."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from recipes.bottleneck.pca import LEVELS, Mel, Pca, round_to_levels
from recipes.bottleneck.sizes import SIZES
from recipes.bottleneck.sweep import clip_errors, main, read_size, take_part
from vc.errors import DataError
from vc.training.loop import STATE_FILE

SMALL = ("autoencoder.width=8", "autoencoder.decoder_blocks=1", "data.segment_frames=32")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips to train on and two to be judged by, all of four sounds that come and go."""
    folder = tmp_path_factory.mktemp("cache")
    generator = torch.Generator().manual_seed(0)
    sounds = torch.randn(4, 80, generator=generator)
    rows = []
    for number in range(10):
        activity = torch.randn(100, 4, generator=generator)
        name = f"made/speaker{number}/clip"
        file = folder / "features" / f"{name}.safetensors"
        file.parent.mkdir(parents=True)
        stored = {
            "waveform": torch.zeros(100, dtype=torch.int16),
            "log_mel": (activity @ sounds - 5).half(),
            "f0": torch.full((100,), 100.0),
        }
        save_file(stored, file)
        split = "validation" if number >= 8 else "train"
        row = {"name": name, "corpus": "made", "speaker": f"speaker{number}", "seconds": 1.6}
        rows.append(json.dumps(row | {"split": split}) + "\n")
    (folder / "manifest.jsonl").write_text("".join(rows), "utf-8")
    (folder / "features.json").write_text("{}", "utf-8")  # all as ever
    return folder


def noise(frames: int, seed: int) -> Mel:
    return np.random.default_rng(seed).normal(size=(80, frames)).astype(np.float32)


def arguments(cache: Path, output: Path, *more: str) -> list[str]:
    settings = [argument for setting in SMALL for argument in ("--set", setting)]
    only = ["--only", "dim 8, stride 2", "binary 8"]
    return [str(cache), "-o", str(output), "--steps", "2", *only, *settings, *more]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size.name)
def test_every_size_is_a_valid_recipe_of_rebuilding_alone(size) -> None:
    recipe = read_size(size, [])
    assert recipe.autoencoder.content_dim == size.numbers
    assert recipe.loss.swap_from == 1 and recipe.loss.speaker == 0
    assert recipe.perturb.resize == recipe.perturb.new_voices == 0
    assert not recipe.autoencoder.f0_conditioning  # the decoder gets nothing beside the latent


@pytest.mark.parametrize("stack", [1, 8])
def test_pca_with_all_components_loses_nothing_and_with_fewer_loses_more(stack: int) -> None:
    mels = [noise(frames, frames) for frames in (1000, 1003, 1005)]
    pca = Pca(mels, stack, centred=True)
    asked = noise(37, 0)  # not a multiple of the stack
    scale = np.ones((80, 1), np.float32)
    numbers = [80 * stack, 40 * stack, stack]
    errors = [clip_errors([asked], [pca.rebuild(asked, n)], scale).db[0] for n in numbers]
    assert errors[0] < 1e-4 < errors[1] < errors[2]
    assert pca.rebuild(asked, stack).shape == asked.shape


def test_a_clips_mean_is_given_back_only_by_centred_pca() -> None:
    mels = [noise(500, seed) for seed in range(3)]
    far = noise(50, 9) + 7
    assert abs((Pca(mels, 1, centred=True).rebuild(far, 1) - far).mean()) < 1e-4
    assert abs((Pca(mels, 1, centred=False).rebuild(far, 1) - far).mean()) > 1


def test_rounding_leaves_so_many_levels_and_no_more_than_half_a_step_of_error() -> None:
    numbers = torch.linspace(-3, 3, 1001)
    rounded = round_to_levels(numbers)
    assert len(rounded.unique()) == LEVELS
    assert (rounded - numbers).abs().max() <= 6 / (LEVELS - 1) / 2 + 1e-6
    torch.testing.assert_close(round_to_levels(torch.tensor([9.0])), torch.tensor([3.0]))


def test_errors_are_in_deviations_and_in_decibels() -> None:
    mel = noise(20, 0)
    scale = np.full((80, 1), 2.0, np.float32)
    errors = clip_errors([mel], [mel + 0.5], scale)
    np.testing.assert_allclose(errors.deviations, 0.5, rtol=1e-5)
    np.testing.assert_allclose(errors.db, 20 * np.log10(np.e), rtol=1e-5)  # off by a factor e


def test_a_sweep_tells_its_table_and_goes_on_where_it_was(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, picture = tmp_path / "runs", tmp_path / "sweep.png"
    assert main(arguments(cache, output, "--picture", str(picture))) == 0
    told = capsys.readouterr().out
    shown = told[told.index("|") :]
    assert "| dim 8, stride 2 | 250.0 |" in shown  # numbers a second
    assert "| binary 8 | 500 |" in shown  # bits a second
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert (output / "table.md").read_text("utf-8") == shown
    states = sorted(output.glob(f"*/{STATE_FILE}"))
    before = [state.stat().st_mtime_ns for state in states]
    assert len(states) == 2
    assert main(arguments(cache, output)) == 0  # nothing is trained again
    assert [state.stat().st_mtime_ns for state in states] == before
    assert capsys.readouterr().out.endswith(shown)


def test_a_part_of_another_cache_is_left_alone(cache: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(cache, tmp_path / "other"))
    (other / "manifest.jsonl").write_text((cache / "manifest.jsonl").read_text() * 2)
    part = take_part(cache, tmp_path / "part", 4)
    before = (part / "manifest.jsonl").read_bytes()
    with pytest.raises(DataError, match="another cache"):
        take_part(other, part, 4)
    assert (part / "manifest.jsonl").read_bytes() == before


def test_an_interrupted_sweep_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recipes.bottleneck.sweep.sweep", interrupted)
    assert main([str(tmp_path), "-o", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "sweep: interrupted; run it again to go on\n"


def test_bad_input_is_one_line(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tmp_path / "nothing", tmp_path / "runs")) == 2
    assert "vc prepare" in capsys.readouterr().err
    assert main(arguments(cache, tmp_path / "runs", "--set", "autoencoder.widht=8")) == 2
    error = capsys.readouterr().err
    assert "width" in error and error.count("\n") == 1
    assert main([*arguments(cache, tmp_path / "runs"), "--steps", "3"]) == 2
    assert "another output folder" in capsys.readouterr().err
