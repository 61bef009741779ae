from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import (
    TINY_AUTOENCODER,
    TINY_DENOISER,
    TINY_VOCODER,
    hold_out_last_voice,
)
from vc.checkpoint import inspect_checkpoint, load_autoencoder, load_vocoder, save_checkpoint
from vc.cli import main
from vc.config import (
    DataConfig,
    FeatureConfig,
    OptimizerConfig,
    RunConfig,
    from_dict,
    read_recipe,
)
from vc.corpus import prepare
from vc.errors import CheckpointError, ConfigError, DataError
from vc.losses import contrastive_loss, margin_softmax_loss, multi_resolution_stft_loss
from vc.model.autoencoder import Autoencoder, Latent
from vc.model.tuning import tunable
from vc.model.vocal_tract import bend
from vc.training.autoencoder import AutoencoderLossConfig, AutoencoderRecipe, AutoencoderTask
from vc.training.content import ContentRecipe, ContentTask
from vc.training.data import Segments, SpeechData
from vc.training.degrade import DegradeConfig, degrade, draw_noise
from vc.training.denoiser import DenoiserRecipe, DenoiserTask
from vc.training.loop import (
    LOG_FILE,
    Task,
    fit,
    learning_rate,
    measure_step_s,
    state_tensors,
    update,
)
from vc.training.perturb import PerturbConfig, draw_voices, mix_noise, perturb
from vc.training.processes import Processes
from vc.training.quick_learning import (
    QuickLearningRecipe,
    QuickLearningTask,
    StrangerConfig,
    draw_stranger,
)
from vc.training.run import (
    PLAN_FILE,
    TimeBudget,
    find_recipe,
    pick_device,
    recipe_names,
    train,
)
from vc.training.speaker import SpeakerRecipe, SpeakerTask
from vc.training.vocoder import VocoderLossConfig, VocoderRecipe, VocoderTask

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cache(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    report = prepare(corpus, folder, FeatureConfig(), workers=1)
    rows = [{"name": u.name, "phones": list("abcab")} for u in report.utterances]
    (folder / "phones.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    hold_out_last_voice(folder)
    return folder


DATA = DataConfig(segment_frames=32, batch_size=4)
RUN = RunConfig(steps=6, precision="float32", log_every=1, validate_every=3, checkpoint_every=2)
QUICKLY = OptimizerConfig(learning_rate=3e-3, warmup_steps=1, ema_decay=0.8)
NOTHING_HAPPENS = DegradeConfig(colour=0, room=0, noise=0, hum=0, band=0)


def autoencoder_task(cache: Path, **loss: float) -> AutoencoderTask:
    base = AutoencoderLossConfig(swap_from=0.33, contrastive=0.1, ctc=0.2)
    losses = replace(base, **loss)  # type: ignore[arg-type]
    recipe = AutoencoderRecipe(autoencoder=TINY_AUTOENCODER, loss=losses, data=DATA, run=RUN)
    return AutoencoderTask(recipe, cache, CPU)


def vocoder_task(cache: Path) -> VocoderTask:
    return VocoderTask(VocoderRecipe(vocoder=TINY_VOCODER, data=DATA, run=RUN), cache, CPU)


def denoiser_task(cache: Path) -> DenoiserTask:
    return DenoiserTask(DenoiserRecipe(denoiser=TINY_DENOISER, data=DATA, run=RUN), cache, CPU)


def content_task(cache: Path) -> ContentTask:
    return ContentTask(ContentRecipe(data=DATA, run=RUN), cache, CPU)


def speaker_task(cache: Path) -> SpeakerTask:
    return SpeakerTask(SpeakerRecipe(data=DATA, run=RUN), cache, CPU)


def quick_learning_task(cache: Path) -> QuickLearningTask:
    torch.manual_seed(0)
    untrained = cache.parent / "untrained"
    save_checkpoint(Autoencoder(TINY_AUTOENCODER, FeatureConfig()), untrained, 0, {})
    recipe = QuickLearningRecipe(
        autoencoder=str(untrained),
        steps=(2, 4),
        others=1,
        data=replace(DATA, batch_size=1, validation_clips=3),
        run=RUN,
        optimizer=QUICKLY,
    )
    return QuickLearningTask(recipe, cache, CPU)


def one_step(task: Task, step: int, seed: int | None = None) -> dict[str, float]:
    generator = np.random.default_rng(step if seed is None else seed)
    return {**task.add_gradients(step, generator), "gradient/norm": update(task, step)}


def state(folder: Path) -> bytes:
    return (folder / "state.safetensors").read_bytes()


TASKS = [
    autoencoder_task,
    vocoder_task,
    denoiser_task,
    content_task,
    speaker_task,
    quick_learning_task,
]


@pytest.mark.parametrize("make", TASKS)
def test_a_run_that_was_interrupted_is_the_same_bit_for_bit(
    cache: Path, tmp_path: Path, make: Callable[[Path], Task]
) -> None:
    fit(make(cache), RUN, tmp_path / "whole")
    for steps in (1, 4, 6):  # three processes, as it were
        fit(make(cache), replace(RUN, steps=steps), tmp_path / "parts")
    for name in ("state.safetensors", "model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_a_stop_signal_ends_the_step_and_keeps_everything(cache: Path, tmp_path: Path) -> None:
    task = autoencoder_task(cache)
    add_gradients = task.add_gradients

    def interrupted(step: int, generator: np.random.Generator) -> dict[str, float]:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return add_gradients(step, generator)

    task.add_gradients = interrupted  # type: ignore[method-assign]
    fit(task, RUN, tmp_path / "stopped")
    assert inspect_checkpoint(tmp_path / "stopped").step == 4
    fit(autoencoder_task(cache), RUN, tmp_path / "stopped")
    fit(autoencoder_task(cache), RUN, tmp_path / "whole")
    assert state(tmp_path / "stopped") == state(tmp_path / "whole")


def test_a_run_that_is_killed_again_and_again_ends_as_if_undisturbed(
    cache: Path, tmp_path: Path
) -> None:
    settings = {"log_every": 2, "checkpoint_every": 2, "validate_every": 4, "steps": 12}
    overrides = [f"run.{key}={value}" for key, value in settings.items()]
    overrides += ["data.batch_size=2", "data.segment_frames=32"]

    def start(output: Path) -> subprocess.Popen[bytes]:
        changes = [part for change in overrides for part in ("--set", change)]
        command = ["-m", "vc", "train", "tiny", "--cache", str(cache), "-o", str(output)]
        return subprocess.Popen(
            [sys.executable, *command, *changes, "--device", "cpu"], stderr=subprocess.DEVNULL
        )

    assert start(tmp_path / "whole").wait() == 0  # in a process like the others: as many threads
    killed = tmp_path / "killed"
    for step in (2, 6, 8):  # after this much is safe, at whatever moment follows
        process = start(killed)
        while process.poll() is None and not _logged(killed, step):
            time.sleep(0.005)
        process.kill()
        process.wait()
    assert start(killed).wait() == 0
    assert _contents(killed) == _contents(tmp_path / "whole")


def test_an_interrupted_run_says_so(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_gradients = AutoencoderTask.add_gradients

    def interrupted(self: AutoencoderTask, step: int, *others) -> dict[str, float]:
        if step == 1 and (tmp_path / LOG_FILE).exists():  # else its time is measured
            os.kill(os.getpid(), signal.SIGINT)
        return add_gradients(self, step, *others)

    settings = ["run.steps=3", "data.batch_size=2", "data.segment_frames=32"]
    changes = [part for change in settings for part in ("--set", change)]
    arguments = ["train", "tiny", "--cache", str(cache), "-o", str(tmp_path), *changes]
    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderTask, "add_gradients", interrupted)
        assert main([*arguments, "--device", "cpu"]) == 130
    assert "interrupted at step 2 of 3; run it again to go on" in capsys.readouterr().err
    assert main([*arguments, "--device", "cpu"]) == 0
    assert "on held-out speech" in capsys.readouterr().out


@pytest.mark.parametrize("recipe", ["tiny", "vocoder"])
def test_two_processes_take_the_steps_that_one_takes(
    cache: Path, tmp_path: Path, recipe: str
) -> None:
    settings = ["run.steps=2", "run.micro_batches=4", "run.precision=float32"]
    settings += ["data.batch_size=2", "data.segment_frames=32", "optimizer.warmup_steps=1"]
    if recipe == "tiny":
        settings += ["loss.swap_from=0.25", "perturb.new_voices=0.15", "autoencoder.emphasis=0.3"]
    changes = [part for change in settings for part in ("--set", change)]
    for name, launcher in (
        ("one", [sys.executable, "-m"]),
        ("two", [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m"]),
    ):
        command = ["vc", "train", recipe, "--cache", str(cache), "-o", str(tmp_path / name)]
        done = subprocess.run(
            [*launcher, *command, *changes, "--device", "cpu"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("on held-out speech") == 1  # only the first process speaks
    one, two = (load_file(tmp_path / name / "state.safetensors") for name in ("one", "two"))
    ours, theirs = (
        torch.cat([x[key].flatten() for key in one if key.startswith("module/")])
        for x in (one, two)
    )
    assert (ours - theirs).norm() < 1e-4 * ours.norm()
    if recipe == "tiny":  # which follows one micro-batch after the other, or two at once
        followed, shared = (x["module/autoencoder/average_voice"] for x in (one, two))
        assert (followed - shared).norm() < 0.05 * followed.norm()
    logs = [(tmp_path / name / LOG_FILE).read_text().splitlines() for name in ("one", "two")]
    assert len(logs[0]) == len(logs[1])


def test_micro_batches_make_one_larger_batch(cache: Path, tmp_path: Path) -> None:
    task = autoencoder_task(cache)
    before = task.model.decoder.project.weight.detach().clone()
    seen: list[int] = []
    add = task.add_gradients

    def counted(step: int, generator: np.random.Generator) -> dict[str, float]:
        seen.append(int(generator.integers(1 << 30)))  # which random numbers it is given
        return add(step, generator)

    task.add_gradients = counted  # type: ignore[method-assign]
    fit(task, replace(RUN, steps=1, micro_batches=3), tmp_path)
    assert len(set(seen)) == 3
    assert not torch.equal(task.model.decoder.project.weight, before)
    with pytest.raises(ConfigError, match="multiple of 2"):
        Processes(0, 2).share(3)


def _contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def _logged(folder: Path, step: int) -> bool:
    log = folder / LOG_FILE
    return log.exists() and f'"step": {step},' in log.read_text()


def test_what_is_exported_can_be_loaded(cache: Path, tmp_path: Path) -> None:
    metrics = fit(autoencoder_task(cache), RUN, tmp_path / "a")
    assert set(metrics) >= {"reconstruction", "swap_to_reference", "swap_to_source"}
    assert load_autoencoder(tmp_path / "a").config == TINY_AUTOENCODER
    fit(vocoder_task(cache), RUN, tmp_path / "v")
    assert load_vocoder(tmp_path / "v").config == TINY_VOCODER
    rows = [json.loads(line) for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()]
    names = set().union(*rows)
    for loss in ("reconstruction", "speaker", "ctc", "contrastive", "swap_content", "swap_speaker"):
        assert f"{loss}/loss" in names


def test_vocoder_learns_from_decoded_mels_conversions_and_a_discriminator(
    cache: Path, tmp_path: Path
) -> None:
    fit(autoencoder_task(cache), replace(RUN, steps=1), tmp_path / "a")
    fit(vocoder_task(cache), replace(RUN, steps=1), tmp_path / "v")
    recipe = VocoderRecipe(
        vocoder=TINY_VOCODER,
        data=DATA,
        run=replace(RUN, initial=str(tmp_path / "v")),
        loss=VocoderLossConfig(adversarial=1.0, feature_matching=1.0, conversion_adversarial=1.0),
        optimizer=OptimizerConfig(discriminator_rate=3.0),
        autoencoder=str(tmp_path / "a"),
        converted=2,
    )
    task = VocoderTask(recipe, cache, CPU)
    started = load_vocoder(tmp_path / "v").state_dict()
    assert all(torch.equal(v, started[k]) for k, v in task.vocoder.state_dict().items())
    losses = one_step(task, 0)
    assert {"adversarial/loss", "feature_matching/loss", "discriminator/loss"} <= set(losses)
    assert {"conversion_adversarial/loss", "conversion_envelope/loss"} <= set(losses)
    learnt, discriminated = (o.param_groups[0]["lr"] for o in task.optimizers.values())
    assert discriminated == pytest.approx(3 * learnt)
    only_conversions = VocoderLossConfig(stft=0.0, mel=0.0)  # their envelope alone
    task.recipe = replace(recipe, loss=only_conversions)
    assert task.add_gradients(1, np.random.default_rng(1))["conversion_envelope/loss"] > 0
    assert float(task.vocoder.head.weight.grad.abs().sum()) > 0  # type: ignore[union-attr]
    assert not torch.equal(task.vocoder.head.weight, started["head.weight"])
    assert not any(p.requires_grad for p in task.autoencoder.parameters())  # type: ignore[union-attr]


def test_silence_is_not_decoded_for_a_vocoder(cache: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_checkpoint(Autoencoder(TINY_AUTOENCODER, FeatureConfig()), tmp_path, 0, {})
    recipe = VocoderRecipe(
        vocoder=TINY_VOCODER, data=DATA, run=RUN, autoencoder=str(tmp_path), decoded_share=1.0
    )
    task = VocoderTask(recipe, cache, CPU)
    segments, _ = task._cut(task.train_data, np.random.default_rng(0), np.array([0, 1]))
    segments.voiced[0] = 0
    assert segments.voiced[1].sum() > 10
    decoded = task._some_decoded(segments).log_mel
    assert torch.equal(decoded[0], segments.log_mel[0])
    assert not torch.equal(decoded[1], segments.log_mel[1])


def test_the_same_vocoder_is_judged_alike_whenever_it_is(cache: Path) -> None:
    task = vocoder_task(cache)
    judged = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        judged.append(task.validate())
    assert judged[0] == judged[1]


def test_a_vocoder_is_given_whole_batches_of_clips_that_are_long_enough(
    cache: Path, tmp_path: Path
) -> None:
    recipe = VocoderRecipe(vocoder=TINY_VOCODER, data=replace(DATA, segment_frames=160), run=RUN)
    with pytest.raises(DataError, match=r"no train clips of at least 2\.592 s"):
        VocoderTask(recipe, cache, CPU)
    shutil.copytree(cache, tmp_path / "cache")
    rows = [json.loads(line) for line in (cache / "manifest.jsonl").read_text().splitlines()]
    rows = [row | {"seconds": 0.5} if n % 3 else row for n, row in enumerate(rows)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "cache" / "manifest.jsonl").write_text(text)
    recipe = replace(recipe, data=replace(DATA, min_clip_s=0.0))
    task = VocoderTask(recipe, tmp_path / "cache", CPU)
    assert all(u.seconds > 0.5 for u in task.train_data.utterances)
    generator = np.random.default_rng(0)
    clips = task.train_data.draw_clips(generator, 4)
    assert len(task._cut(task.train_data, generator, clips)[1]) == 4


@pytest.mark.parametrize("loss", ["adversarial", "feature_matching", "conversion_adversarial"])
def test_a_discriminator_learns_whichever_loss_listens_to_it(cache: Path, loss: str) -> None:
    task = vocoder_task(cache)
    assert "discriminator/loss" not in one_step(task, 0)
    task.recipe = replace(task.recipe, loss=VocoderLossConfig(**{loss: 1.0}))
    before = [p.clone() for p in task.discriminator.parameters()]
    assert "discriminator/loss" in one_step(task, 1)
    after = task.discriminator.parameters()
    assert not all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_a_vocoder_hears_details_of_voiced_frames_only(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    save_checkpoint(Autoencoder(TINY_AUTOENCODER, FeatureConfig()), tmp_path, 0, {})
    recipe = VocoderRecipe(vocoder=TINY_VOCODER, data=DATA, run=RUN, autoencoder=str(tmp_path))
    task = VocoderTask(recipe, cache, CPU)
    source, _ = task._cut(task.train_data, np.random.default_rng(0), np.array([0, 1]))
    source.voiced[0, :20], source.voiced[1, :5] = 0, 0
    lent: list[int] = []

    def finish(log_mel: torch.Tensor, voiced: torch.Tensor, details: torch.Tensor) -> torch.Tensor:
        lent.append(details.shape[1])
        return log_mel

    monkeypatch.setattr("vc.training.vocoder.finish", finish)
    assert task._as_heard(source, source.log_f0, source).shape == source.log_mel.shape
    assert lent == source.voiced.sum(dim=1).int().tolist()


def test_parts_named_fresh_start_anew_and_may_change_their_size(
    cache: Path, tmp_path: Path
) -> None:
    fit(autoencoder_task(cache), replace(RUN, steps=1), tmp_path / "a")
    started = load_autoencoder(tmp_path / "a").state_dict()
    wider = replace(TINY_AUTOENCODER, content_dim=TINY_AUTOENCODER.content_dim + 2)

    def task(*fresh: str) -> AutoencoderTask:
        run = replace(RUN, initial=str(tmp_path / "a"), fresh=fresh)
        return AutoencoderTask(AutoencoderRecipe(autoencoder=wider, data=DATA, run=run), cache, CPU)

    for name, value in task("content_encoder", "decoder.embed").model.state_dict().items():
        kept = not name.startswith(("content_encoder.", "decoder.embed."))
        assert not kept or torch.equal(value, started[name])
    with pytest.raises(ConfigError, match="does not fit"):
        task("content_encoder")
    with pytest.raises(ConfigError, match="no part 'content'"):
        task("content")


def test_features_of_recipe_cache_and_checkpoints_must_be_the_same(
    cache: Path, tmp_path: Path
) -> None:
    other = FeatureConfig(f_max=7_000.0)
    with pytest.raises(DataError, match=r"features\.f_max = 8000\.0, not 7000\.0"):
        VocoderTask(VocoderRecipe(features=other, vocoder=TINY_VOCODER, data=DATA), cache, CPU)
    save_checkpoint(Autoencoder(TINY_AUTOENCODER, other), tmp_path, 0, {})
    run = replace(RUN, initial=str(tmp_path))
    with pytest.raises(ConfigError, match=r"run\.initial: was trained on other features"):
        AutoencoderTask(AutoencoderRecipe(autoencoder=TINY_AUTOENCODER, run=run), cache, CPU)
    with pytest.raises(ConfigError, match=f"{tmp_path}: was trained on other features"):
        ContentTask(ContentRecipe(autoencoder=str(tmp_path), data=DATA), cache, CPU)
    recipe = VocoderRecipe(vocoder=TINY_VOCODER, autoencoder=str(tmp_path), data=DATA)
    with pytest.raises(ConfigError, match=f"{tmp_path}: was trained on other features"):
        VocoderTask(recipe, cache, CPU)


def test_new_voices_are_not_taken_for_their_speakers(cache: Path) -> None:
    recipe = autoencoder_task(cache).recipe
    recipe = replace(recipe, perturb=PerturbConfig(new_voices=0.2))
    task = AutoencoderTask(recipe, cache, CPU)
    generator = np.random.default_rng(0)
    batch = task.train_data.cut(generator, task.train_data.draw_clips(generator, 2), 16)
    losses = [
        task._losses(batch, batch, torch.tensor(known), generator, 0)[0]
        for known in ([True, False], [False, False])
    ]
    assert "speaker" in losses[0]
    assert "speaker" not in losses[1]
    factor = draw_voices(generator, 1000, 0.2)
    assert 0.4 < (factor == 1).mean() < 0.6
    assert np.exp(-0.2) <= factor.min() < factor.max() <= np.exp(0.2)
    assert {"reconstruction/loss", "swap_speaker/loss"} <= set(task.add_gradients(3, generator))


class _Scripted:
    """A task of nothing to learn whose validations are given."""

    name = "toy"
    recipe = SimpleNamespace(run=RunConfig(), optimizer=OptimizerConfig())

    def __init__(self, errors: list[float], stops: tuple[int, ...] = ()) -> None:
        self.stops = stops
        self.modules = {"toy": torch.nn.Linear(1, 1), "average": torch.nn.Linear(1, 1)}
        self.optimizers = {"toy": torch.optim.SGD(self.modules["toy"].parameters())}
        self.errors = iter(errors)

    def add_gradients(self, step: int, generator: np.random.Generator) -> dict[str, float]:
        if step in self.stops:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"toy/loss": 1.0}

    def validate(self) -> dict[str, float]:
        return {"toy": next(self.errors)}

    def error(self, metrics: dict[str, float]) -> float:
        return metrics["toy"]

    def export(self, folder: Path, step: int, metrics: dict[str, float]) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "step").write_text(str(step))


def test_the_best_is_kept_and_training_stops_when_it_gets_no_better(tmp_path: Path) -> None:
    run = RunConfig(steps=20, validate_every=2, log_every=2, checkpoint_every=2, patience=3)
    task = _Scripted([9.0, 5.0, 3.0, 4.0, 3.5, 3.2, 1.0])  # the first is before training
    fit(task, run, tmp_path)  # type: ignore[arg-type]
    assert (tmp_path / "best" / "step").read_text() == "4"
    assert (tmp_path / "step").read_text() == "10"
    # the same command again: there is nothing left to do
    assert fit(_Scripted([]), run, tmp_path) == {"toy": 3.2}  # type: ignore[arg-type]
    assert (tmp_path / "step").read_text() == "10"


def test_a_validation_that_a_stop_brought_about_decides_nothing(tmp_path: Path) -> None:
    run = RunConfig(steps=20, validate_every=2, log_every=2, checkpoint_every=2, patience=2)
    task = _Scripted([9.0, 5.0, 1.0], stops=(2,))
    assert fit(task, run, tmp_path) == {"toy": 1.0}  # type: ignore[arg-type]
    assert (tmp_path / "step").read_text() == "3"
    assert (tmp_path / "best" / "step").read_text() == "2"
    task = _Scripted([4.0, 6.0, 7.0])
    assert fit(task, run, tmp_path) == {"toy": 7.0}  # type: ignore[arg-type]
    assert (tmp_path / "step").read_text() == "8"
    assert (tmp_path / "best" / "step").read_text() == "4"


def test_a_run_without_figures_goes_on(tmp_path: Path) -> None:
    class Unmeasured(_Scripted):
        def validate(self) -> dict[str, float]:
            return {}

    run = RunConfig(steps=4, validate_every=2, log_every=2, checkpoint_every=2, patience=1)
    assert fit(Unmeasured([]), run, tmp_path) == {}  # type: ignore[arg-type]
    assert (tmp_path / "step").read_text() == "4"
    assert not (tmp_path / "best").exists()


def test_a_run_that_is_done_tells_its_last_figures_again(tmp_path: Path) -> None:
    run = RunConfig(steps=3, validate_every=2, log_every=2, checkpoint_every=2)
    assert fit(_Scripted([9.0, 5.0, 4.0]), run, tmp_path) == {"toy": 4.0}  # type: ignore[arg-type]
    assert fit(_Scripted([]), run, tmp_path) == {"toy": 4.0}  # type: ignore[arg-type]
    assert (tmp_path / "best" / "step").read_text() == "3"


@pytest.mark.parametrize("make_task", TASKS)
def test_examples_are_written_for_tensorboard(
    cache: Path, tmp_path: Path, make_task: Callable[[Path], Task]
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = replace(RUN, steps=2, validate_every=2, tensorboard=True)
    fit(make_task(cache), run, tmp_path)
    written = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Tags()
    assert any(name.startswith("validation/") for name in written["scalars"])
    assert any(name.endswith("/loss") for name in written["scalars"])
    assert len(written["audio"]) >= 2
    assert make_task is vocoder_task or len(written["images"]) == 3


def test_content_learns_to_hear_through_noise_and_nothing_else_changes(
    cache: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    save_checkpoint(Autoencoder(TINY_AUTOENCODER, FeatureConfig()), tmp_path, 0, {})
    noisy = replace(NOTHING_HAPPENS, noise=1, babble_share=0)
    run = replace(RUN, steps=120)
    recipe = ContentRecipe(
        autoencoder=str(tmp_path), degrade=noisy, data=DATA, run=run, optimizer=QUICKLY
    )
    task = ContentTask(recipe, cache, CPU)
    before = task.validate()
    assert before["content_clean"] < 1e-6
    for step in range(run.steps):
        one_step(task, step)
    after = task.validate()
    for heard in ("content_noise", "vocal_tract_noise"):
        assert after[heard] < 0.7 * before[heard]
    assert after["content_clean"] < after["content_noise"]
    taught, teacher = task.average.state_dict(), task.teacher.state_dict()
    learnt = {name for name, values in taught.items() if not values.equal(teacher[name])}
    assert {name.split(".")[0] for name in learnt} == {"content_encoder", "vocal_tract_encoder"}


def test_content_learns_what_its_teacher_hears_in_other_voices(cache: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_checkpoint(Autoencoder(TINY_AUTOENCODER, FeatureConfig()), tmp_path, 0, {})
    recipe = ContentRecipe(
        autoencoder=str(tmp_path),
        said_by_others=True,
        degrade=NOTHING_HAPPENS,
        data=DATA,
        run=RUN,
        optimizer=QUICKLY,
    )
    task = ContentTask(recipe, cache, CPU)
    before = task.validate()
    assert before["content_clean"] > 0.01  # of unit variance
    assert before["vocal_tract_clean"] < 1e-6  # who says it is heard as ever
    for step in range(80):
        one_step(task, step)
    assert task.validate()["content_clean"] < 0.7 * before["content_clean"]


def test_a_content_encoder_that_looks_at_more_frames_begins_as_its_teacher(
    cache: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    save_checkpoint(Autoencoder(TINY_AUTOENCODER, FeatureConfig()), tmp_path, 0, {})
    kernel = TINY_AUTOENCODER.content_kernel + 8
    recipe = ContentRecipe(
        autoencoder=str(tmp_path), content_kernel=kernel, data=DATA, run=replace(RUN, steps=1)
    )
    task = ContentTask(recipe, cache, CPU)
    assert task.validate()["content_clean"] < 1e-6
    task.export(tmp_path / "student", 1, {})
    student = load_autoencoder(tmp_path / "student")
    assert student.config == replace(TINY_AUTOENCODER, content_kernel=kernel)
    assert student.content_encoder.blocks[0].depthwise.weight.shape[-1] == kernel
    one_step(task, 0)
    block = task.model.content_encoder.blocks[0]
    assert block.depthwise.weight[..., 0].abs().max() > 0  # it looks at all of them


def test_a_speaker_encoder_learns_to_hear_through_telephones_and_nothing_else_changes(
    cache: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    save_checkpoint(Autoencoder(TINY_AUTOENCODER, FeatureConfig()), tmp_path, 0, {})
    recipe = SpeakerRecipe(
        autoencoder=str(tmp_path),
        degrade=replace(NOTHING_HAPPENS, band=1),
        data=DATA,
        run=RUN,
        optimizer=QUICKLY,
    )
    task = SpeakerTask(recipe, cache, CPU)
    before = task.validate()
    for step in range(60):
        one_step(task, step)
    after = task.validate()
    for part in ("identity", "mean", "deviation"):
        assert after[f"{part}_band"] < 0.7 * before[f"{part}_band"]
    taught, teacher = task.average.state_dict(), task.teacher.state_dict()
    learnt = {n for n, v in taught.items() if n not in teacher or not v.equal(teacher[n])}
    assert {name.split(".")[0] for name in learnt} == {"speaker_encoder"}
    task.export(tmp_path / "student", 60, after)
    learnt_more = replace(recipe, autoencoder=str(tmp_path / "student"))
    again = SpeakerTask(learnt_more, cache, CPU).model.state_dict()
    kept = load_autoencoder(tmp_path / "student").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in kept.items())


def test_a_decoder_learns_to_learn_voices_and_nothing_else_changes(cache: Path) -> None:
    task = quick_learning_task(cache)
    before = task.validate()
    for step in range(12):
        one_step(task, step)
    after = task.validate()
    assert after["learnt"] < 0.95 * before["learnt"]
    taught, teacher = task.average.state_dict(), task.teacher.state_dict()
    changed = {name for name, values in taught.items() if not values.equal(teacher[name])}
    assert changed == {f"decoder.{name}" for name, _ in tunable(task.average.decoder)}


def test_strangers_keep_the_order_of_their_bands() -> None:
    for seed in range(20):
        band, factor = draw_stranger(StrangerConfig(), np.random.default_rng(seed), 80)
        assert (np.diff(band) >= 0).all()
        assert 0 <= band.min() <= band.max() <= 79
        # a pitch that is so many times lower has its harmonics where they are heard
        assert 0.85 < factor < 1.18 and abs(band[10] - 10 * factor) < 0.5
    same = replace(StrangerConfig(), stretch=(0.0, 0.0), bend=0.0)
    band, factor = draw_stranger(same, np.random.default_rng(0), 80)
    np.testing.assert_allclose(band, np.arange(80))
    assert factor == 1.0


@pytest.mark.parametrize("clips", [1, 2, 5])
def test_babble_is_of_others(clips: int) -> None:
    torch.manual_seed(0)
    mel = torch.randn(clips, 80, 200)
    noise = draw_noise(mel, made_up_share=0.0, babble_share=1.0, recorded=None)
    for own, heard in zip(mel, noise, strict=True):
        alike = torch.corrcoef(torch.stack([own.flatten(), heard.flatten()]))[0, 1]
        assert abs(alike) < 0.1


@pytest.mark.parametrize("thing", ["colour", "noise", "hum", "band"])
def test_each_thing_that_happens_to_a_recording_does_what_it_says(thing: str) -> None:
    features = FeatureConfig()
    frame = torch.arange(100)
    mel = torch.full((32, 80, 100), -6.0) - 4.0 * ((frame >= 50) & (frame < 80))  # a pause in it
    assert torch.equal(degrade(mel, NOTHING_HAPPENS, features, None), mel)
    torch.manual_seed(0)
    config = replace(NOTHING_HAPPENS, **{thing: 1.0}, noise_snr_db=(10.0, 10.0))  # type: ignore[arg-type]
    change = degrade(mel, config, features, None) - mel
    assert change.isfinite().all() and change.abs().amax(dim=(1, 2)).min() > 0.1
    pause, speech = change[..., 60:80].mean(), change[..., :50].mean()
    high = change[:, 76:].mean()
    if thing == "noise":
        assert pause > 2 * speech > 0  # fills pauses
    if thing == "hum":
        assert change[:, :4, 60:80].mean() > 0.5 and high.abs() < 0.01
    if thing == "band":
        assert high < -2.0 and change[:, 20:30].abs().max() < 0.01
    if thing == "colour":
        assert change.std(dim=-1).max() < 1e-5  # the same all the time


def test_validation_swaps_pitch_as_training_does(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = autoencoder_task(cache)
    piece = task._cut(task.validation, np.random.default_rng(0), np.array([0, 1]))
    apart = torch.tensor([[4.0], [7.0]]) - piece.median_log_f0()[:, None]  # three octaves and more
    piece = piece._replace(log_f0=piece.log_f0 + apart)
    given: list[torch.Tensor] = []
    monkeypatch.setattr(task.average, "decode", lambda latent, log_f0, voiced: given.append(log_f0))
    task._swapped(task.average.encode(piece.log_mel), piece, piece)
    assert torch.equal(given[0], piece.log_f0_about(piece.median_log_f0().roll(1)))
    assert (given[0] - piece.log_f0).abs().max() < 2


def test_validation_converts_into_other_speakers(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = autoencoder_task(cache)
    task.recipe = replace(task.recipe, data=replace(DATA, validation_clips=4))
    decode, cut, data = task.average.decode, task._cut, task.validation
    voices: list[torch.Tensor] = []
    speakers: list[np.ndarray] = []

    def spy_on_decode(latent: Latent, *pitch: torch.Tensor) -> torch.Tensor:
        voices.append(latent.speaker_embedding)
        return decode(latent, *pitch)

    def spy_on_cut(data: SpeechData, generator: np.random.Generator, clips: np.ndarray) -> Segments:
        speakers.append(data.speaker_of[clips])
        return cut(data, generator, clips)

    monkeypatch.setattr(task.average, "decode", spy_on_decode)
    monkeypatch.setattr(task, "_cut", spy_on_cut)
    task.validate()
    own, other = voices
    assert sorted(speakers[0]) == [0, 0, 1, 1] and len(data.speakers) == 2
    for voice, speaker in zip(other, speakers[0], strict=True):
        (place,) = [i for i, known in enumerate(own) if torch.equal(known, voice)]
        assert speakers[0][place] != speaker


def test_a_loss_of_weight_zero_is_not_computed(cache: Path) -> None:
    off = ("envelope", "ctc", "contrastive", "adversarial", "speaker", "swap_content")
    off += ("vocal_tract",)
    task = autoencoder_task(cache, **dict.fromkeys(off, 0.0))
    losses = {k for s in (2, 3) for k in one_step(task, s)}
    assert losses == {"reconstruction/loss", "swap_speaker/loss", "gradient/norm"}


def test_the_vocal_tract_learns_to_hear_by_how_much_a_clip_is_bent(cache: Path) -> None:
    task = autoencoder_task(cache, swap_from=1.0)
    model, encoder = task.model, task.model.vocal_tract_encoder
    assert encoder is not None
    mels = torch.cat([task.train_data.whole(clip).log_mel[..., :60] for clip in range(6)])
    stretch = torch.linspace(-0.15, 0.15, len(mels))[:, None].expand(-1, 3)

    def error() -> float:
        with torch.no_grad():
            before, after = (encoder(model.normalize(x)) for x in (mels, bend(mels, stretch)))
        return float((after - before - stretch).square().mean())

    untrained = error()
    for step in range(80):
        one_step(task, step)
    assert error() < 0.7 * untrained


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_overfitting_one_batch_lowers_the_loss(cache: Path, precision: str) -> None:
    run = RunConfig(steps=60, precision=precision)  # type: ignore[arg-type]
    loss = AutoencoderLossConfig(
        speaker=0, contrastive=0, ctc=0, swap_from=1.0, swap_content=0, swap_speaker=0
    )
    optimizer = OptimizerConfig(learning_rate=5e-3, warmup_steps=1)
    recipe = AutoencoderRecipe(
        autoencoder=TINY_AUTOENCODER, loss=loss, data=DATA, run=run, optimizer=optimizer
    )
    task = AutoencoderTask(recipe, cache, CPU)
    losses = [one_step(task, s, seed=0)["reconstruction/loss"] for s in range(60)]
    assert np.mean(losses[-5:]) < 0.6 * losses[0]


def test_state_of_other_networks_is_refused(cache: Path, tmp_path: Path) -> None:
    fit(vocoder_task(cache), replace(RUN, steps=1), tmp_path / "v")
    with pytest.raises(CheckpointError, match="cannot resume"):
        fit(autoencoder_task(cache), RUN, tmp_path / "v")


def test_phone_labels_are_asked_for_only_if_needed(
    cache: Path, corpus: Path, tmp_path: Path
) -> None:
    prepare(corpus, tmp_path / "plain", FeatureConfig(), workers=1)
    manifest = tmp_path / "plain" / "manifest.jsonl"
    manifest.write_text((cache / "manifest.jsonl").read_text())
    with pytest.raises(DataError, match=r"phones\.jsonl"):
        autoencoder_task(tmp_path / "plain")
    autoencoder_task(tmp_path / "plain", ctc=0)


def test_recipe_file_trains(cache: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('kind = "vocoder"\n[vocoder]\nwidth = 16\nblocks = 1\n')
    overrides = ["run.steps=1", "data.batch_size=2", "data.segment_frames=32"]
    said: list[str] = []
    train(recipe, cache, tmp_path / "out", overrides, CPU, said.append)
    assert "vocoder" in said[0] and "1 steps" in said[0] and "seconds from start to end" in said[0]
    assert inspect_checkpoint(tmp_path / "out").model["width"] == 16
    recipe.write_text("[run]\nsteps = 1\n")
    for overrides in ([], ["kind=[1]"]):
        with pytest.raises(ConfigError, match="kind"):
            train(recipe, cache, tmp_path / "out", overrides, CPU, said.append)


def test_recipes_are_found_by_name_and_are_whole() -> None:
    assert {"tiny", "small", "default", "large", "vocoder"} <= set(recipe_names())
    for name in recipe_names():
        values = read_recipe(find_recipe(Path(name)))
        kind = {"autoencoder": AutoencoderRecipe, "vocoder": VocoderRecipe}[values.pop("kind")]
        from_dict(kind, values)
    with pytest.raises(ConfigError, match="tiny"):
        find_recipe(Path("tinny"))


def test_trying_steps_out_leaves_the_task_as_it_was(cache: Path) -> None:
    task = autoencoder_task(cache)
    before = {k: v.clone() for k, v in state_tensors(task).items()}
    assert measure_step_s(task, RUN) > 0
    after = state_tensors(task)
    assert after.keys() == before.keys()
    assert all(torch.equal(v, before[k]) for k, v in after.items())


def test_a_time_budget_plans_the_steps_and_a_resumed_run_keeps_them(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    settings = ["run.log_every=1", "data.batch_size=2", "autoencoder.width=32"]

    def run(minutes: float) -> None:
        train(Path("tiny"), cache, tmp_path, settings, CPU, said.append, minutes)

    monkeypatch.setattr("vc.training.run.measure_step_s", lambda *_: 10.0)
    run(1.0)
    planned = json.loads((tmp_path / PLAN_FILE).read_text())["steps"]
    assert 4 <= planned <= 5  # of 10 s each, in a minute less what loading took
    assert f"{planned} steps" in said[-1]
    assert inspect_checkpoint(tmp_path).step == planned
    run(100.0)
    assert f"{planned} steps" in said[-1]
    with pytest.raises(ConfigError, match="minutes"):
        run(0.0)


def test_a_machine_that_gets_slower_is_given_fewer_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("vc.training.run.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("vc.training.run.measure_step_s", lambda *_: 1.0)
    task = cast(Task, SimpleNamespace(recipe=AutoencoderRecipe()))
    budget = TimeBudget(task, tmp_path, 100.0, Processes())
    assert budget.steps == task.recipe.run.steps == 95
    done = 0
    while done < budget.steps:
        done += 1
        now[0] += 1.0 if done < 20 else 2.0
        assert budget.replan(done) == task.recipe.run.steps
    assert 90 < now[0] <= 100
    again = TimeBudget(task, tmp_path, now[0] + 100.0, Processes())  # resumed: the same schedule
    assert again.steps == done < 95


def test_unusable_device_is_refused() -> None:
    assert pick_device("cpu") == CPU
    with pytest.raises(ConfigError, match="try cpu"):
        pick_device("abacus")


def test_learning_rate_warms_up_and_decays() -> None:
    config = OptimizerConfig(learning_rate=1.0, final_learning_rate=0.1, warmup_steps=10)
    rates = [learning_rate(config, step, 110) for step in (0, 9, 10, 60, 109, 500)]
    np.testing.assert_allclose(rates, [0.1, 1.0, 1.0, 0.55, 0.1, 0.1], atol=1e-3)


def test_perturbation_changes_spectra_but_not_time() -> None:
    torch.manual_seed(0)
    log_mel = torch.full((4, 80, 40), -8.0)
    log_mel[:, 30:40, 20:] = 0.0  # a band that starts half-way
    config = PerturbConfig(noise_probability=0, mask_probability=0)
    changed = perturb(log_mel, config, 1e-5)
    assert changed.shape == log_mel.shape
    assert not torch.allclose(changed, log_mel, atol=0.1)
    assert torch.allclose(changed[..., :20], changed[..., :1], atol=1e-5)  # nothing moved in time
    assert torch.allclose(changed[..., 20:], changed[..., 20:21], atol=1e-5)
    off = PerturbConfig(0, 0, 0, mask_probability=0)
    assert torch.equal(perturb(log_mel, off, 1e-5), log_mel)


def test_noise_is_mixed_at_the_ratio_asked_for() -> None:
    torch.manual_seed(0)
    speech, noise = torch.randn(64, 80, 50) - 5, torch.randn(64, 80, 50) - 2
    speech[:, 40:], noise[:, :40] = -20, -20  # apart, so that they do not interfere
    config = PerturbConfig(0, 0, 1.0, (10.0, 10.0), 0)
    mixed = perturb(speech, config, 1e-9, noise)
    power = ((2 * mixed).exp() - (2 * speech).exp()).mean((1, 2)) / (2 * speech).exp().mean((1, 2))
    torch.testing.assert_close(10 * power.log10(), torch.full((64,), -10.0), atol=0.01, rtol=0)


def test_noise_as_loud_as_speech_reinforces_or_cancels_it() -> None:
    torch.manual_seed(0)
    speech, snr_db = torch.full((16, 80, 200), -5.0), torch.zeros(16, 1, 1)
    power = (2 * (mix_noise(speech, speech, snr_db) - speech)).exp()  # 2 if it were only added
    assert float(power.mean()) == pytest.approx(2, abs=0.05)
    lowest, highest = power.std(dim=(0, 2))[[0, -1]]
    assert lowest > 2 * highest > 0.5
    assert power.min() > 0


def test_a_denoiser_is_always_tried_on_the_same_noise(cache: Path) -> None:
    task = denoiser_task(cache)
    assert task.validate() == task.validate()


def test_losses_by_hand() -> None:
    waveform = torch.randn(2, 8_000)
    assert multi_resolution_stft_loss(waveform, waveform).item() == 0
    assert multi_resolution_stft_loss(0.5 * waveform, waveform).item() == pytest.approx(
        np.log(2) + 0.5, rel=0.02
    )
    same = torch.eye(20)[None]
    assert contrastive_loss(same, same).item() < 0.01
    assert contrastive_loss(same, same.roll(5, dims=-1)).item() > 5
    cosines = torch.tensor([[1.0, -1.0]])
    assert margin_softmax_loss(cosines, torch.tensor([0])) < 1e-6
    assert margin_softmax_loss(cosines, torch.tensor([1])) > 40
