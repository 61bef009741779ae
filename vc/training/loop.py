"""The training loop: schedule, progress, validation, safe checkpoints, exact resume.

What is trained is a `Task`: it owns networks and optimisers and knows the gradients of a batch. The
loop reseeds every random generator by (seed, step, micro-batch) before each of them, so that a run
that was interrupted and resumed is the same, bit for bit on a CPU, as one that was not, and one
that several processes share the same, up to rounding, as one that a single process makes.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from vc.checkpoint import Network, load_autoencoder
from vc.config import SHIPPED, FeatureConfig, OptimizerConfig, RunConfig
from vc.errors import CheckpointError, ConfigError
from vc.model.autoencoder import Autoencoder
from vc.safe_write import make_folder, write_bytes, write_text
from vc.training.board import Board, Example
from vc.training.data import SpeechData
from vc.training.processes import ALONE, Processes

STATE_FILE = "state.safetensors"
LOG_FILE = "log.jsonl"
BEST_FOLDER = "best"  # checkpoint of the validation with the smallest error
BOARD_FOLDER = "tensorboard"
_VALIDATION = "validation/"
_STOPPED = "stopped"  # marks a validation that was not due yet
_RATE = "rate"  # of an optimiser's group: its learning rate in multiples of the scheduled one


class Task(Protocol):
    """One thing to train."""

    name: str  # of the network, among modules and optimizers; "average" is its moving average
    recipe: Any  # with `run` and `optimizer`; the schedule is read from there at every step
    train_data: SpeechData
    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]

    def add_gradients(self, step: int, generator: np.random.Generator) -> dict[str, float]:
        """Add the gradients of one batch; return its losses by names such as `mel/loss`."""
        ...

    def validate(self) -> dict[str, float]:
        """Measure on held-out speech."""
        ...

    def error(self, metrics: dict[str, float]) -> float:
        """One figure for what `validate` returned; the lower, the better."""
        ...

    def examples(self) -> list[Example]:
        """Something to look at and to listen to, from held-out speech."""
        ...

    def export(self, folder: Path, step: int, metrics: dict[str, float]) -> None:
        """Write the checkpoint that conversion loads."""
        ...


def fit(
    task: Task,
    run: RunConfig,
    output: Path,
    processes: Processes = ALONE,
    replan: Callable[[int], int] | None = None,
    when_stopped: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Train `task` for `run.steps` steps, resuming from `output` if it holds a state.

    Ctrl-C (or SIGTERM) ends the current step, validates, writes the state and returns; that
    validation counts neither for `run.patience` nor as the best.

    Args:
        task: what to train.
        run: how long, how often.
        output: folder for state, log (JSON Lines) and the exported checkpoint; the checkpoint of
            the best validation goes to `best/` in it.
        processes: that share the run; only the first validates, writes and shows progress.
        replan: told how many steps are done, gives the number of steps of the whole run, and sets
            it in the task's recipe too; never more than before.
        when_stopped: told in the end, in every process, how many steps are done of how many, if
            the run was asked to stop before its last.

    Returns:
        The last validation's figures; nothing in processes other than the first.

    Raises:
        ConfigError: the micro-batches cannot be shared by so many processes.
    """
    make_folder(output)
    first = load_state(task, output / STATE_FILE)
    processes.wait()  # until all have read it
    journal = _Journal(task, run, output, first) if processes.is_first else None
    ended = bool(processes.largest(bool(journal and journal.is_impatient())))
    bar = tqdm(
        range(first, first if ended else run.steps),
        initial=first,
        total=run.steps,
        unit="step",
        disable=not processes.is_first,
    )
    steps, is_stopped = run.steps, False
    with _stop_requested() as stopped:
        for step in bar:
            report = _train_step(task, run, step, processes)
            if replan:
                bar.total = steps = replan(step + 1)
            is_stopped = bool(processes.largest(bool(stopped))) and step + 1 < steps
            last = is_stopped or step + 1 >= steps
            if journal:
                last |= journal.enter(step, report, last, step + 1 >= steps, bar)
            if run.patience:  # the first may have found that it gets no better
                last = bool(processes.largest(last))
            if last:
                break
    processes.wait()
    if is_stopped and when_stopped:
        when_stopped(step + 1, steps)
    return journal.metrics if journal else {}


def _train_step(
    task: Task, run: RunConfig, step: int, processes: Processes
) -> list[dict[str, float]]:
    """One update from all micro-batches; what is worth a log, of this process's own."""
    # such as the average voice, which follows micro-batches by and by
    buffers = [b for b in task.modules[task.name].buffers() if b.is_floating_point()]
    before = [buffer.clone() for buffer in buffers] if processes.size > 1 else []
    reports = [
        task.add_gradients(step, _seeded(run.seed, step, number))
        for number in processes.share(run.micro_batches)
    ]
    processes.share_moves(buffers, before)
    for optimizer in task.optimizers.values():
        processes.average_gradients(_parameters(optimizer), run.micro_batches)
    return [*reports, {"gradient/norm": update(task, step)}]


def update(task: Task, step: int) -> float:
    """Change all weights by their gradients, forget these, and let the average follow.

    Returns:
        The norm of the gradient of the network that is trained.
    """
    config, steps = task.recipe.optimizer, task.recipe.run.steps
    norms = {
        name: apply_gradients(optimizer, config, step, steps)
        for name, optimizer in task.optimizers.items()
    }
    update_average(task.modules["average"], task.modules[task.name], config.ema_decay, step)
    return norms[task.name]


class _Journal:
    """What a run leaves behind: log, validations, checkpoints, the state to resume from.

    Args:
        task: what is trained.
        run: how often each is due.
        output: folder of the run.
        first: step that the run begins with or goes on from.
    """

    def __init__(self, task: Task, run: RunConfig, output: Path, first: int) -> None:
        self.task, self.run, self.output = task, run, output
        self.averages = _Averages()
        self.board: Board | None = None
        if run.tensorboard:
            self.board = Board(output / BOARD_FOLDER, task.train_data.features)
        _cut_log(output, first)
        if first == 0:
            _seeded(run.seed, 0)
            _log_validation(output, 0, task.validate())
        logged = validations(output)
        self.metrics = logged[-1][1] if first and logged else {}

    def enter(
        self, step: int, reports: list[dict[str, float]], last: bool, complete: bool, bar: tqdm
    ) -> bool:
        """Note a step and do what is due after it; whether the run shall end for lack of gain.

        The `last` step of a run that is not `complete` is one where it was asked to stop.
        """
        for report in reports:
            self.averages.add(report)
        run, done = self.run, step + 1
        due = complete or done % run.validate_every == 0
        if due or last:
            self._validate(step, due)
            last |= self.is_impatient()
        if done % run.log_every == 0 or last:
            means = self.averages.take()
            bar.set_postfix({k: f"{v:.3f}" for k, v in list(means.items())[:4]})
            _log(self.output, {"step": done, **means})
            if self.board:
                self.board.scalars(done, means)
        if done % run.checkpoint_every == 0 or last:
            save_state(self.task, self.output / STATE_FILE, done)
        return last

    def is_impatient(self) -> bool:
        """Whether patience is at its end."""
        if not self.run.patience:
            return False
        errors = self._errors() or [math.inf]
        return self.run.patience <= len(errors) - 1 - int(np.argmin(errors))

    def _errors(self) -> list[float]:
        """Of all validations but those that a stop brought about.

        So a run that was stopped decides as one that was not.
        """
        rows = [row for row in _logged(self.output) if row["step"] and _STOPPED not in row]
        return [self.task.error(figures) for figures in map(_figures, rows) if figures]

    def _validate(self, step: int, due: bool) -> None:
        """Validate and export; what is not `due` or has no figures is never the best."""
        task, output, done = self.task, self.output, step + 1
        _seeded(self.run.seed, step)
        self.metrics = task.validate()
        _log_validation(output, done, self.metrics, due)
        task.export(output, done, self.metrics)
        errors = self._errors()
        if due and self.metrics and errors[-1] == min(errors):
            task.export(output / BEST_FOLDER, done, self.metrics)
        if self.board:
            self.board.scalars(done, {f"{_VALIDATION}{k}": v for k, v in self.metrics.items()})
            self.board.examples(done, task.examples())


def measure_step_s(
    task: Task, run: RunConfig, processes: Processes = ALONE, tries: int = 8
) -> float:
    """Mean seconds of a step, its share of validation included; the task is left as it was.

    Steps are tried all over the schedule, since losses that begin later make it slower. Processes
    that share the run agree on the slowest's figure.

    Args:
        task: what is to be trained.
        run: its schedule.
        processes: that share it.
        tries: how many steps to measure, besides one to warm up.
    """
    kept = {name: tensor.clone() for name, tensor in state_tensors(task).items()}
    tried = [0, *np.linspace(0, run.steps - 1, tries).astype(int).tolist()]
    seconds = []
    for step in tried:
        started = time.perf_counter()
        _train_step(task, run, step, processes)
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    task.validate()
    validation_s = time.perf_counter() - started
    restore(task, kept)
    mean_s = float(np.mean(seconds[1:])) + validation_s / run.validate_every  # the first warms up
    return processes.largest(mean_s)


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """Linear warm-up, then a half cosine from the first to the final rate."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.final_learning_rate + cosine * (config.learning_rate - config.final_learning_rate)


def autocast(device: torch.device, run: RunConfig) -> torch.autocast:
    """The arithmetic that a run asks for, if the device has it."""
    enabled = run.precision == "bfloat16" and (device.type != "cpu" or _cpu_has_bfloat16())
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def _cpu_has_bfloat16() -> bool:
    """Whether it is worth using: imitated on an x86 CPU, it is ten times slower than float32."""
    has = torch.cpu.get_capabilities()
    return has.get("architecture") != "x86_64" or bool(has["avx512_bf16"] or has["amx_bf16"])


def make_optimizer(
    parameters: Iterator[nn.Parameter], config: OptimizerConfig, rate: float = 1.0
) -> torch.optim.Optimizer:
    """AdamW as every task uses it; its learning rate is `rate` times the scheduled one."""
    return torch.optim.AdamW(
        [{"params": list(parameters), _RATE: rate}],
        lr=config.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=config.weight_decay,
    )


def apply_gradients(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, step: int, steps: int
) -> float:
    """Clip, set the scheduled learning rate and update; return the gradient's norm.

    A step whose gradient is not finite is skipped.
    """
    norm = float(nn.utils.clip_grad_norm_(_parameters(optimizer), config.clip_norm))
    for group in optimizer.param_groups:
        group["lr"] = group.get(_RATE, 1.0) * learning_rate(config, step, steps)
    if math.isfinite(norm):
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """What an optimiser updates, in its order."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def named_autoencoder(folder: str, features: FeatureConfig) -> Autoencoder:
    """The autoencoder whose checkpoint a recipe names; the shipped one for an empty name.

    Raises:
        ConfigError: it was trained on other features than the recipe's.
    """
    model = load_autoencoder(Path(folder) if folder else SHIPPED / "autoencoder")
    require_features(model, folder or "the shipped autoencoder", features)
    return model


def require_features(network: Network, name: str, features: FeatureConfig) -> None:
    """Refuse a network that was trained on other features than a recipe's.

    Raises:
        ConfigError: it was; `name` is what the message calls it.
    """
    if network.features != features:
        raise ConfigError(f"{name}: was trained on other features; choose another checkpoint")


def start_from(module: Network, initial: Network, fresh: tuple[str, ...] = ()) -> None:
    """Give `module` the weights of `initial`, but for the parts that are to start anew.

    Args:
        module: to be trained.
        initial: of the same kind; its fresh parts may have other shapes.
        fresh: names of parts, such as "content_encoder" or "decoder.embed".

    Raises:
        ConfigError: a fresh part does not exist, another one does not fit, or `initial` was
            trained on other features.
    """
    require_features(initial, "run.initial", module.features)
    ours, theirs = module.state_dict(), initial.state_dict()
    for part in fresh:
        if not any(f"{name}.".startswith(f"{part}.") for name in ours):
            raise ConfigError(f"run.fresh: the model has no part '{part}'")
    for name, value in ours.items():
        if any(f"{name}.".startswith(f"{part}.") for part in fresh):
            continue
        if name not in theirs or theirs[name].shape != value.shape:
            raise ConfigError(f"run.initial: '{name}' does not fit; name its part in run.fresh")
        value.copy_(theirs[name])


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Let gradients through the modules but not into their weights."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, decay: float, step: int) -> None:
    """Move an exponential moving average of weights towards `module` (faster in the beginning)."""
    decay = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.parameters(), module.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
    for kept, buffer in zip(average.buffers(), module.buffers(), strict=True):
        kept.copy_(buffer)


def state_tensors(task: Task) -> dict[str, Tensor]:
    """Weights and optimiser states by slash names: everything that resuming needs."""
    tensors: dict[str, Tensor] = {}
    for name, module in task.modules.items():
        tensors |= {f"module/{name}/{k}": v.contiguous() for k, v in module.state_dict().items()}
    for name, optimizer in task.optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{name}/{index}/{k}": v for k, v in state.items()}
    return tensors


def restore(task: Task, tensors: dict[str, Tensor]) -> None:
    """Set weights and optimiser states to what `state_tensors` gave."""
    for name, module in task.modules.items():
        prefix = f"module/{name}/"
        module.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
    for name, optimizer in task.optimizers.items():
        _load_optimizer(optimizer, f"optimizer/{name}/", tensors)


def save_state(task: Task, path: Path, step: int) -> None:
    """Write everything that resuming needs, whole or not at all."""
    write_bytes(path, save(state_tensors(task), {"step": str(step)}))


def load_state(task: Task, path: Path) -> int:
    """Restore what `save_state` wrote; return the step to go on from (0 without a state).

    Raises:
        CheckpointError: the file is damaged or belongs to networks of another shape.
    """
    if not path.exists():
        return 0
    try:
        with safe_open(path, "pt") as file:
            step = int((file.metadata() or {})["step"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        restore(task, tensors)
        if step < 1:
            raise ValueError(f"step {step}")
    except (SafetensorError, RuntimeError, KeyError, ValueError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path}: cannot resume from this state ({reason}); "
            "use the recipe it was made with, or another output folder"
        ) from error
    return step


def _load_optimizer(
    optimizer: torch.optim.Optimizer, prefix: str, tensors: dict[str, Tensor]
) -> None:
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(prefix):
            index, name = key.removeprefix(prefix).split("/")
            states.setdefault(int(index), {})[name] = value
    for number, parameter in enumerate(_parameters(optimizer)):
        for name, value in states.get(number, {}).items():
            if value.ndim and value.shape != parameter.shape:
                raise ValueError(f"{prefix}{number}/{name} has another shape")
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": states, "param_groups": groups})


def _seeded(seed: int, step: int, micro_batch: int = 0) -> np.random.Generator:
    """Reseed torch for a batch, and return the batch's own generator for everything else."""
    entropy = (seed, step, micro_batch) if micro_batch else (seed, step)
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1))
    return np.random.default_rng(entropy)


class _Averages:
    """Running means of losses between two log lines."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: dict[str, float]) -> None:
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
            self.counts[key] = self.counts.get(key, 0) + 1

    def take(self) -> dict[str, float]:
        means = {key: value / self.counts[key] for key, value in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means


def _log(output: Path, row: dict[str, float]) -> None:
    with (output / LOG_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({k: round(v, 5) for k, v in row.items()}) + "\n")


def _log_validation(output: Path, step: int, metrics: dict[str, float], due: bool = True) -> None:
    figures = {f"{_VALIDATION}{k}": v for k, v in metrics.items()}
    _log(output, {"step": step, **({} if due else {_STOPPED: 1}), **figures})


def validations(output: Path) -> list[tuple[int, dict[str, float]]]:
    """Step and figures of each validation that a run has logged; that of step 0 is untrained."""
    found = [(row["step"], _figures(row)) for row in _logged(output)]
    return [(step, figures) for step, figures in found if figures]


def _logged(output: Path) -> list[dict[str, Any]]:
    path = output / LOG_FILE
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def _figures(row: dict[str, Any]) -> dict[str, float]:
    """What a row of the log says of a validation; nothing, if it is of losses."""
    names = {key.removeprefix(_VALIDATION): key for key in row if key.startswith(_VALIDATION)}
    return {name: row[key] for name, key in names.items()}


def _cut_log(output: Path, step: int) -> None:
    """Take out what was logged after the step that the run goes on from: it will come again."""
    path = output / LOG_FILE
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if step and json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):  # killed while it wrote this line
            break
    write_text(path, "".join(kept))


@contextmanager
def _stop_requested() -> Iterator[list[int]]:
    """A list that is empty until the process is asked to stop."""
    signals: list[int] = []
    previous = {
        number: signal.signal(number, lambda received, _: signals.append(received))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
