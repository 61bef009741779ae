"""From a recipe file to a training run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vc.config import apply_overrides, from_dict, read_recipe
from vc.errors import CheckpointError, ConfigError
from vc.safe_write import make_folder, write_text
from vc.training.autoencoder import AutoencoderRecipe, AutoencoderTask
from vc.training.content import ContentRecipe, ContentTask
from vc.training.denoiser import DenoiserRecipe, DenoiserTask
from vc.training.listener import ListenerRecipe, ListenerTask
from vc.training.loop import Task, fit, measure_step_s
from vc.training.masked import MaskedRecipe, MaskedTask
from vc.training.processes import ALONE, Processes
from vc.training.quick_learning import QuickLearningRecipe, QuickLearningTask
from vc.training.speaker import SpeakerRecipe, SpeakerTask
from vc.training.units import UnitRecipe, UnitTask
from vc.training.vocoder import VocoderRecipe, VocoderTask

KINDS: dict[str, tuple[type[Any], Callable[[Any, Path, torch.device], Task]]] = {
    "autoencoder": (AutoencoderRecipe, AutoencoderTask),
    "vocoder": (VocoderRecipe, VocoderTask),
    "content": (ContentRecipe, ContentTask),
    "speaker": (SpeakerRecipe, SpeakerTask),
    "denoiser": (DenoiserRecipe, DenoiserTask),
    "units": (UnitRecipe, UnitTask),
    "masked_predictor": (MaskedRecipe, MaskedTask),
    "listener": (ListenerRecipe, ListenerTask),
    "quick_learning": (QuickLearningRecipe, QuickLearningTask),
}
PLAN_FILE = "plan.json"  # of a run with a time budget: how many steps
_LONGEST_MINUTES = 525_600.0  # that a run is planned for
_RECIPES = Path(__file__).parent.parent / "recipes"
_MARGIN = 0.95  # of the time left; the rest is for checkpoints
_LATE_MARGIN = 0.98  # the same when the plan is looked at again
_LOOKS = 20  # so often in a run


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop (Ctrl-C, SIGTERM); everything is written, and it can go on."""

    def __init__(self, done: int, steps: int) -> None:
        super().__init__(f"interrupted at step {done} of {steps}; run it again to go on")


def check_minutes(minutes: float | None) -> None:
    """Refuse a time that no run can be planned for.

    Raises:
        ConfigError: not above 0, or longer than a year.
    """
    if minutes is not None and not 0 < minutes <= _LONGEST_MINUTES:
        raise ConfigError("--minutes must be above 0, and at most those of a year")


def train(
    recipe_file: Path,
    cache: Path,
    output: Path,
    overrides: list[str],
    device: torch.device,
    say: Callable[[str], None],
    minutes: float | None = None,
    processes: Processes = ALONE,
) -> dict[str, float]:
    """Train what a recipe describes; resumes if `output` holds a state.

    Args:
        recipe_file: TOML whose `kind` is one of `KINDS`, or the name of a recipe that comes with
            the package (`recipe_names`).
        cache: folder that `vc prepare` wrote.
        output: folder for state, log and checkpoint.
        overrides: `section.key=value` strings.
        device: where to train.
        say: told in one sentence what is about to happen, in the first process.
        minutes: plan the schedule to end in this time, instead of the recipe's number of steps.
        processes: that share the run (`vc.training.processes.joined`).

    Returns:
        The last validation's figures; nothing in processes other than the first.

    Raises:
        Interrupted: asked to stop before the last step.
    """
    started = time.monotonic()
    check_minutes(minutes)
    kind, recipe = read_training(recipe_file, overrides)
    if processes.size > 1 and _has_codebook(recipe):
        raise ConfigError("a codebook follows the batches of one process; start only one")
    task = KINDS[kind][1](recipe, cache, device)
    run, data = recipe.run, recipe.data
    budget = None
    if minutes is not None:
        budget = TimeBudget(task, output, started + 60 * minutes, processes)
        run = task.recipe.run
    parameters = sum(p.numel() for p in task.modules[task.name].parameters())
    if budget is None:
        expected = _plain_time(run.steps * measure_step_s(task, run, processes, tries=3))
    else:
        expected = f"planned to end in {minutes:g} minutes"
    clips = data.batch_size * run.micro_batches
    several = "" if processes.size == 1 else f", {processes.size} processes"
    spoken = task.train_data
    if processes.is_first:
        say(
            f"{kind}: {spoken.hours:.1f} hours of {len(spoken.speakers)} speakers, "
            f"{parameters / 1e6:.1f} M parameters, {run.steps} steps of {clips} x "
            f"{data.segment_frames} frames on {device}{several}, {expected}"
        )

    def interrupted(done: int, steps: int) -> None:
        raise Interrupted(done, steps)

    return fit(task, run, output, processes, budget.replan if budget else None, interrupted)


def read_training(recipe_file: Path, overrides: list[str]) -> tuple[str, Any]:
    """Kind and settings of the training that a recipe describes; see `train`.

    Raises:
        ConfigError: no such recipe, or a setting that its kind does not have.
    """
    values = apply_overrides(read_recipe(find_recipe(recipe_file)), overrides)
    kind = values.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(f"{recipe_file}: needs kind = one of {', '.join(KINDS)}")
    return kind, from_dict(KINDS[kind][0], values)


def _has_codebook(recipe: Any) -> bool:
    if isinstance(recipe, AutoencoderRecipe):
        return recipe.autoencoder.bottleneck == "vq"
    return isinstance(recipe, UnitRecipe | MaskedRecipe)


def recipe_names() -> list[str]:
    """Recipes that come with the package."""
    return sorted(file.stem for file in _RECIPES.glob("*.toml"))


def find_recipe(name: Path) -> Path:
    """The file of a recipe that is given by its path, or by name.

    Raises:
        ConfigError: neither a file nor a known name.
    """
    if name.is_file():
        return name
    if str(name) in recipe_names():
        return _RECIPES / f"{name}.toml"
    known = ", ".join(recipe_names())
    raise ConfigError(f"{name}: no such recipe; name a TOML file or one of {known}")


def _plain_time(seconds: float) -> str:
    """How long a run will take, for a sentence."""
    for unit, length_s in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length_s:
            return f"about {seconds / length_s:.0f} {unit} from start to end"
    return f"about {seconds:.0f} seconds from start to end"


class TimeBudget:
    """How many steps fit into the time; a machine that gets slower is given fewer on the way.

    A run that is resumed keeps the plan it has.

    Args:
        task: its recipe gets the planned number of steps, which the schedule follows.
        output: folder of the run.
        deadline: by `time.monotonic`.
        processes: that share the run, and agree.
    """

    def __init__(self, task: Task, output: Path, deadline: float, processes: Processes) -> None:
        self.task, self.processes, self.deadline = task, processes, deadline
        self.plan = output / PLAN_FILE
        self.marked: tuple[int, float] | None = None  # steps done, and when
        if self.plan.exists():
            self._set(_read_plan(self.plan))
            return
        step_s = measure_step_s(task, task.recipe.run, processes)
        make_folder(output)
        self._set(max(1, int(_MARGIN * self._left_s() / step_s)))

    @property
    def steps(self) -> int:
        """Of the whole run, as planned now."""
        return int(self.task.recipe.run.steps)

    def replan(self, done: int) -> int:
        """Look at the clock now and then; the number of steps that the run has now."""
        if done % max(1, self.steps // _LOOKS):
            return self.steps
        now = time.monotonic()
        if self.marked is not None and done > self.marked[0]:
            step_s = self.processes.largest((now - self.marked[1]) / (done - self.marked[0]))
            fitting = done + max(0, int(_LATE_MARGIN * self._left_s() / step_s))
            if fitting < self.steps:
                self._set(fitting)
        self.marked = (done, now)
        return self.steps

    def _left_s(self) -> float:
        return -self.processes.largest(time.monotonic() - self.deadline)

    def _set(self, steps: int) -> None:
        recipe = self.task.recipe
        self.task.recipe = replace(recipe, run=replace(recipe.run, steps=steps))
        if self.processes.is_first:
            write_text(self.plan, json.dumps({"steps": steps}))


def _read_plan(plan: Path) -> int:
    try:
        return int(json.loads(plan.read_text(encoding="utf-8"))["steps"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{plan}: damaged; choose another output folder") from error


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
