"""Codes that learn phones by guessing what is hidden."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import TINY_AUTOENCODER, hold_out_last_voice
from vc.checkpoint import load_masked_predictor, load_unit_coder
from vc.config import (
    DataConfig,
    FeatureConfig,
    MaskedPredictorConfig,
    OptimizerConfig,
    RunConfig,
    from_dict,
)
from vc.corpus import prepare
from vc.errors import CheckpointError, ConfigError
from vc.model.masked_predictor import MaskedPredictor
from vc.training.loop import fit, state_tensors
from vc.training.masked import MaskConfig, MaskedRecipe, MaskedTask, draw_mask
from vc.training.run import train

TINY = MaskedPredictorConfig(
    content_dim=TINY_AUTOENCODER.content_dim,
    width=24,
    kernel_size=3,
    blocks=2,
    code_block=1,
    codebook_size=12,
    targets=8,
)
CPU = torch.device("cpu")
RUN = RunConfig(steps=4, precision="float32", log_every=1, validate_every=2, checkpoint_every=2)


@pytest.fixture(scope="module")
def cache(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masked") / "cache"
    prepare(corpus, folder, FeatureConfig(), workers=1)
    hold_out_last_voice(folder)
    return folder


@pytest.fixture(scope="module")
def recipe(tiny_checkpoint: Path) -> MaskedRecipe:
    return MaskedRecipe(
        masked_predictor=TINY,
        autoencoder=str(tiny_checkpoint / "autoencoder"),
        data=DataConfig(segment_frames=48, batch_size=4),
        optimizer=OptimizerConfig(warmup_steps=1),
        run=RUN,
    )


def test_what_is_hidden_is_not_looked_at() -> None:
    network = MaskedPredictor(TINY, FeatureConfig()).eval()
    content = torch.randn(1, TINY.content_dim, 40)
    mask = torch.zeros(1, 20, dtype=torch.bool)
    mask[:, 8:14] = True
    changed = content.clone()
    changed[..., 18:24] += 5.0  # whose steps, and their neighbours in `embed`, are hidden
    assert torch.equal(network(content, mask), network(changed, mask))
    assert not torch.equal(network(content), network(changed))


@pytest.mark.parametrize("frames", [1, 2, 3, 41])
def test_every_step_has_a_code(frames: int) -> None:
    network = MaskedPredictor(TINY, FeatureConfig()).eval()
    codes = network.codes(torch.randn(2, TINY.content_dim, frames))
    assert codes.shape == (2, -(-frames // TINY.stride))
    assert set(codes.unique().tolist()) <= set(range(TINY.codebook_size))


@pytest.mark.parametrize(("share", "steps"), [(0.5, 6), (0.2, 10), (0.8, 1)])
def test_about_the_wanted_share_is_hidden(share: float, steps: int) -> None:
    mask = draw_mask(np.random.default_rng(0), 400, 160, MaskConfig(share, steps))
    assert float(mask.float().mean()) == pytest.approx(share, abs=0.04)
    assert bool(mask.any(dim=1).all())
    assert draw_mask(np.random.default_rng(0), 3, 2, MaskConfig(share, steps)).shape == (3, 2)


def test_it_learns_and_the_next_round_guesses_its_codes(
    recipe: MaskedRecipe, cache: Path, tmp_path: Path
) -> None:
    run = replace(RUN, steps=40, validate_every=40)
    first = MaskedTask(replace(recipe, run=run), cache, CPU)
    before = first.validate()
    after = fit(first, run, tmp_path / "first")
    assert after["prediction"] < before["prediction"]
    assert load_masked_predictor(tmp_path / "first").config == TINY
    config = replace(TINY, targets=TINY.codebook_size)
    again = replace(
        recipe,
        masked_predictor=config,
        teacher=str(tmp_path / "first"),
        run=replace(RUN, initial=str(tmp_path / "first"), fresh=("head",)),
    )
    second = MaskedTask(again, cache, CPU)
    kept = load_masked_predictor(tmp_path / "first").state_dict()
    assert torch.equal(second.network.state_dict()["embed.weight"], kept["embed.weight"])
    content = second._draw(second.train_data, np.random.default_rng(0))
    assert second.teacher is not None
    assert torch.equal(second._targets(content), second.teacher.codes(content))
    assert "prediction/loss" in second.add_gradients(0, np.random.default_rng(0))
    with pytest.raises(ConfigError, match=r"masked_predictor\.targets"):
        MaskedTask(replace(again, masked_predictor=TINY), cache, CPU)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    recipe: MaskedRecipe, cache: Path, tmp_path: Path
) -> None:
    whole = MaskedTask(recipe, cache, CPU)
    fit(whole, RUN, tmp_path / "whole")
    stopped = MaskedTask(recipe, cache, CPU)
    half = MaskedTask(recipe, cache, CPU)
    step = half.add_gradients

    def interrupted(number: int, generator: np.random.Generator) -> dict[str, float]:
        if number == 2:
            raise KeyboardInterrupt
        return step(number, generator)

    half.add_gradients = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        fit(half, RUN, tmp_path / "part")
    fit(stopped, RUN, tmp_path / "part")
    ended, resumed = state_tensors(whole), state_tensors(stopped)
    assert all(torch.equal(value, resumed[name]) for name, value in ended.items())


def test_what_does_not_fit_is_said(recipe: MaskedRecipe, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="content_dim"):
        MaskedTask(replace(recipe, masked_predictor=replace(TINY, content_dim=5)), cache, CPU)
    with pytest.raises(ConfigError, match="share"):
        from_dict(MaskedRecipe, {"mask": {"share": 1.5}})
    with pytest.raises(ConfigError, match="code_block"):
        replace(TINY, code_block=3)
    file = tmp_path / "recipe.toml"
    file.write_text(
        'kind = "masked_predictor"\n'
        f'autoencoder = "{recipe.autoencoder}"\n'
        f"[masked_predictor]\ncontent_dim = {TINY.content_dim}\nwidth = 8\nblocks = 1\n"
        "code_block = 1\ntargets = 4\ncodebook_size = 4\n"
        "[data]\nsegment_frames = 32\nbatch_size = 2\n[run]\nsteps = 1\n"
    )
    assert "accuracy" in train(file, cache, tmp_path / "run", [], CPU, lambda _: None)
    with pytest.raises(CheckpointError, match="masked_predictor"):
        load_unit_coder(tmp_path / "run")
