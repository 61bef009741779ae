from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vc.config import (
    AutoencoderConfig,
    DataConfig,
    FeatureConfig,
    OptimizerConfig,
    RunConfig,
    VocoderConfig,
    apply_overrides,
    from_dict,
    read_recipe,
    to_dict,
)
from vc.errors import ConfigError
from vc.training.autoencoder import AutoencoderLossConfig, AutoencoderRecipe
from vc.training.degrade import DegradeConfig
from vc.training.denoiser import DenoiserRecipe, NoiseConfig
from vc.training.listener import ListenerRecipe
from vc.training.masked import MaskedRecipe
from vc.training.perturb import PerturbConfig
from vc.training.rooms import RoomConfig
from vc.training.speaker import SpeakerRecipe
from vc.training.vocoder import VocoderLossConfig, VocoderRecipe


def test_round_trip_through_plain_values() -> None:
    recipe = from_dict(AutoencoderRecipe, {"autoencoder": {"width": 64}, "run": {"steps": 7}})
    assert recipe.autoencoder.width == 64
    assert from_dict(AutoencoderRecipe, to_dict(recipe)) == recipe


@pytest.mark.parametrize(
    ("recipe", "section", "key", "value"),
    [
        (ListenerRecipe, "perturb", "equalizer", 0.2),
        (ListenerRecipe, "phone_perturb", "mask_frames", 6),
        (DenoiserRecipe, "data", "batch_size", 8),
        (MaskedRecipe, "data", "min_clip_s", 2.0),
        (SpeakerRecipe, "degrade", "room", 0.3),
    ],
)
def test_one_key_of_a_section_leaves_the_others_as_the_recipe_has_them(
    recipe: type, section: str, key: str, value: object
) -> None:
    changed = from_dict(recipe, {section: {key: value}})
    whole = recipe()
    assert changed == replace(whole, **{section: replace(getattr(whole, section), **{key: value})})


def test_unknown_key_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'autoencoder\.widht'.*'width'"):
        from_dict(AutoencoderRecipe, {"autoencoder": {"widht": 64}})


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (AutoencoderConfig, {"width": "wide"}),
        (AutoencoderConfig, {"width": 1.5}),
        (AutoencoderConfig, {"input_norm": 1}),
        (AutoencoderConfig, {"block_norm": "batch"}),
        (AutoencoderConfig, {"kernel_size": 4}),
        (AutoencoderConfig, {"bottleneck_noise": -1.0}),
        (FeatureConfig, {"win_length": 2048}),
        (FeatureConfig, {"f_max": 9000.0}),
        (FeatureConfig, {"hop_length": 0}),
        (FeatureConfig, {"log_floor": 0.0}),
        (VocoderConfig, {"filter_hop": 100}),
        (DataConfig, {"corpus_weights": {"a": "heavy"}}),
        (DataConfig, {"batch_size": 0}),
        (DataConfig, {"validation_clips": 0}),
        (DataConfig, {"corpus_weights": {"a": -1.0}}),
        (AutoencoderConfig, {"f0_bands": 1}),
        (AutoencoderRecipe, {"autoencoder": {"n_mels": 64}}),
        (VocoderRecipe, {"vocoder": {"sample_rate": 8_000}}),
        (VocoderRecipe, {"vocoder": {"hop_length": 512}}),
        (VocoderRecipe, {"vocoder": {"n_fft": 2048}}),
        (DenoiserRecipe, {"denoiser": {"n_mels": 64}}),
        (ListenerRecipe, {"features": {"n_mels": 64}}),
        (OptimizerConfig, {"learning_rate": -1e-3}),
        (OptimizerConfig, {"clip_norm": 0.0}),
        (OptimizerConfig, {"ema_decay": 1.5}),
        (RunConfig, {"steps": 0}),
        (RunConfig, {"validate_every": 0}),
        (RunConfig, {"log_every": 0}),
        (RunConfig, {"checkpoint_every": 0}),
        (RunConfig, {"seed": -1}),
        (PerturbConfig, {"noise_snr_db": [5.0]}),
        (PerturbConfig, {"noise_snr_db": [30.0, 5.0]}),
        (PerturbConfig, {"resize": float("nan")}),
        (PerturbConfig, {"mask_frames": 0}),
        (DegradeConfig, {"hum": 1.5}),
        (NoiseConfig, {"room_share": -0.1}),
        (RoomConfig, {"reverberation_s": [0.0, 1.0]}),
        (AutoencoderLossConfig, {"speaker": -0.1}),
        (AutoencoderLossConfig, {"swap_from": 1.5}),
        (AutoencoderRecipe, {"data": {"batch_size": 1}}),
        (VocoderLossConfig, {"mel": -1.0}),
        (VocoderRecipe, {"decoded_share": 2.0}),
        (VocoderRecipe, {"converted": 1, "data": {"batch_size": 1}}),
        (AutoencoderRecipe, {"run": 3}),
    ],
)
def test_wrong_types_and_ranges_are_refused(cls: type, values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        from_dict(cls, values)


def test_recipe_holds_only_what_differs_from_its_base(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("[run]\nsteps = 10\nseed = 3\n[data]\nbatch_size = 4\n")
    (tmp_path / "top.toml").write_text('base = "base.toml"\n[run]\nsteps = 20\n')
    values = read_recipe(tmp_path / "top.toml")
    assert values == {"run": {"steps": 20, "seed": 3}, "data": {"batch_size": 4}}
    assert apply_overrides(values, ["run.seed=9", "data.name=x"]) == {
        "run": {"steps": 20, "seed": 9},
        "data": {"batch_size": 4, "name": "x"},
    }


def test_bad_recipes_are_one_clear_line(tmp_path: Path) -> None:
    circle, broken = tmp_path / "circle.toml", tmp_path / "broken.toml"
    circle.write_text('base = "circle.toml"\n')
    broken.write_text("[run\n")
    for path, reason in [(circle, "circle"), (broken, "TOML"), (tmp_path / "no.toml", "cannot")]:
        with pytest.raises(ConfigError, match=reason) as caught:
            read_recipe(path)
        assert str(path) in str(caught.value)
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        apply_overrides({}, ["run.steps"])


def test_every_shipped_recipe_is_valid() -> None:
    from vc.training.run import KINDS

    recipes = sorted((Path(__file__).parent.parent / "recipes").rglob("*.toml"))
    assert recipes
    for path in recipes:
        values = read_recipe(path)
        from_dict(KINDS[values.pop("kind")][0], values)
