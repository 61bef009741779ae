"""From a recipe file to a training run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from vc.config import apply_overrides, from_dict, read_recipe
from vc.errors import ConfigError
from vc.training.autoencoder import AutoencoderRecipe, AutoencoderTask
from vc.training.denoiser import DenoiserRecipe, DenoiserTask
from vc.training.loop import Task, fit
from vc.training.vocoder import VocoderRecipe, VocoderTask


def train(
    recipe_file: Path,
    cache: Path,
    output: Path,
    overrides: list[str],
    device: torch.device,
    say: Callable[[str], None],
) -> dict[str, float]:
    """Train what a recipe describes; resumes if `output` holds a state.

    Args:
        recipe_file: TOML with `kind = "autoencoder"`, `"vocoder"` or `"denoiser"`.
        cache: folder that `vc prepare` wrote.
        output: folder for state, log and checkpoint.
        overrides: `section.key=value` strings.
        device: where to train.
        say: told in one sentence what is about to happen.

    Returns:
        The last validation's figures.
    """
    values = apply_overrides(read_recipe(recipe_file), overrides)
    kind = values.pop("kind", None)
    task: Task
    if kind == "autoencoder":
        autoencoder = from_dict(AutoencoderRecipe, values)
        run, data = autoencoder.run, autoencoder.data
        task = AutoencoderTask(autoencoder, cache, device)
    elif kind == "vocoder":
        vocoder = from_dict(VocoderRecipe, values)
        run, data = vocoder.run, vocoder.data
        task = VocoderTask(vocoder, cache, device)
    elif kind == "denoiser":
        denoiser = from_dict(DenoiserRecipe, values)
        run, data = denoiser.run, denoiser.data
        task = DenoiserTask(denoiser, cache, device)
    else:
        raise ConfigError(f'{recipe_file}: needs kind = "autoencoder", "vocoder" or "denoiser"')
    parameters = sum(p.numel() for p in task.modules[kind].parameters())
    say(
        f"{kind}: {task.train_data.hours:.1f} hours of {len(task.train_data.speakers)} speakers, "
        f"{parameters / 1e6:.1f} M parameters, {run.steps} steps of {data.batch_size} x "
        f"{data.segment_frames} frames on {device}"
    )
    return fit(task, run, output)


def pick_device(name: str) -> torch.device:
    """The named torch device; "auto" takes CUDA, else the CPU.

    Raises:
        ConfigError: torch does not know it or cannot use it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {name}: cannot be used here; try cpu") from error
    return device
