from __future__ import annotations

import contextlib
import csv
import fcntl
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import EXAMPLES, make_voice
from vc.audio import Audio, read_audio, write_audio
from vc.batch import LEDGER, REPORT, BatchReport, Settings, run_batch, work
from vc.batch.ledger import Ledger, model_hash
from vc.batch.plan import plan
from vc.batch.tasks import Task
from vc.cli import main
from vc.convert import Converter
from vc.errors import AudioError, DataError, VoiceError

ROOT = Path(__file__).parent.parent
REFERENCE = EXAMPLES / "reference.flac"
KILLS = int(os.environ.get("VC_TEST_KILLS", "3"))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips in nested folders."""
    folder = tmp_path_factory.mktemp("sources")
    for number in range(6):
        clip = folder / f"day{number % 2}" / "room" / f"clip{number}.wav"
        clip.parent.mkdir(parents=True, exist_ok=True)
        write_audio(clip, Audio(make_voice(100 + 20 * number, seconds=1.0), 16_000))
    return folder


@pytest.fixture(scope="module")
def settings(tiny_checkpoint: Path) -> Settings:
    return Settings(checkpoint=tiny_checkpoint)


@pytest.fixture(scope="module")
def undisturbed(
    sources: Path, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    output = tmp_path_factory.mktemp("undisturbed")
    report = run(sources, output, settings)
    assert report.count("done") == 6
    return results(output)


def run(sources: Path, output: Path, settings: Settings, **options) -> BatchReport:
    options = {"references": [REFERENCE], "workers": 1, "quiet": True} | options
    return run_batch([sources], output=output, settings=settings, **options)


def results(output: Path) -> dict[str, bytes]:
    """Every file but the ledger and the report."""
    return {
        str(file.relative_to(output)): file.read_bytes()
        for file in sorted(output.rglob("*"))
        if file.is_file() and file.name not in (LEDGER, REPORT)
    }


def finished(output: Path) -> int:
    return sum(not file.name.startswith(".") for file in output.rglob("*.wav"))


def test_the_output_mirrors_the_tree(undisturbed: dict[str, bytes]) -> None:
    names = sorted(f"day{n % 2}/room/clip{n}.wav" for n in range(6))
    assert sorted(undisturbed) == names


def test_what_is_done_is_skipped_by_content_not_by_name(
    sources: Path, settings: Settings, tmp_path: Path
) -> None:
    mine, output = tmp_path / "mine", tmp_path / "out"
    shutil.copytree(sources / "day0", mine)
    assert run(mine, output, settings).count("done") == 3
    os.utime(mine / "room" / "clip0.wav", (1, 1))
    assert run(mine, output, settings).count("skipped") == 3
    shutil.copy(sources / "day1" / "room" / "clip1.wav", mine / "room" / "clip0.wav")
    os.utime(mine / "room" / "clip0.wav", (1, 1))
    before = results(output)
    report = run(mine, output, settings)
    assert (report.count("done"), report.count("skipped")) == (1, 2)
    assert results(output)["room/clip0.wav"] != before["room/clip0.wav"]
    (output / "room" / "clip2.wav").unlink()
    assert run(mine, output, settings).count("done") == 1
    assert run(mine, output, Settings("keep", None, "neural", settings.checkpoint)).count("done")
    assert run(mine, output, replace(settings, loudness="keep")).count("done")


def test_a_ledger_knows_a_file_of_any_name(tmp_path: Path) -> None:
    name = "a\u2028b\x85c.wav"
    task = Task(tmp_path / "source.wav", (), tmp_path / name, name, Settings())
    with Ledger(tmp_path / LEDGER) as ledger:
        ledger.done(task, "key")
    with Ledger(tmp_path / LEDGER) as ledger:
        assert ledger.records == {name: {"key": "key", "sha256": ""}}


def test_foreign_files_are_kept(sources: Path, settings: Settings, tmp_path: Path) -> None:
    foreign = tmp_path / "room" / "clip0.wav"
    foreign.parent.mkdir()
    foreign.write_text("mine")
    report = run(sources / "day0", tmp_path, settings)
    assert (report.count("done"), report.count("failed")) == (2, 1)
    assert "--overwrite" in next(o.reason for o in report.outcomes if o.status == "failed")
    assert foreign.read_text() == "mine"
    (tmp_path / "room" / "clip2.wav").write_text("edited")  # no longer what the batch wrote
    assert run(sources / "day0", tmp_path, settings).count("failed") == 2
    assert run(sources / "day0", tmp_path, settings, overwrite=True).count("done") == 2
    assert read_audio(foreign).duration_s == 1.0


def test_one_bad_file_never_stops_the_rest(
    sources: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, output = tmp_path / "mine", tmp_path / "out"
    shutil.copytree(sources / "day0", mine)
    (mine / "text.wav").write_text("not audio")
    arguments = ["batch", mine, mine / "missing.wav", "--reference", REFERENCE, "-o", output]
    arguments += ["--checkpoint", tiny_checkpoint, "--workers", 1, "--format", "flac"]
    assert main([str(a) for a in arguments]) == 1
    with (output / REPORT).open(newline="") as file:
        rows = {row["output"]: row for row in csv.DictReader(file)}
    assert Counter(row["status"] for row in rows.values()) == {"done": 3, "failed": 2}
    assert "not audio" in rows["text.flac"]["reason"]
    assert "no such file" in rows["missing.flac"]["reason"]
    assert read_audio(output / "room" / "clip0.flac").duration_s == 1.0
    printed = capsys.readouterr()
    assert "3 done, 0 skipped, 2 failed" in printed.out
    assert printed.err.count("failed: ") == 2 and "Traceback" not in printed.err
    assert not (output / "text.flac").exists()


def test_each_voice_has_its_folder_and_names_do_not_collide(
    sources: Path, settings: Settings, tmp_path: Path
) -> None:
    clip = sources / "day0" / "room" / "clip0.wav"
    mine, voice = tmp_path / "mine", tmp_path / "voices" / "reference"
    mine.mkdir()
    voice.mkdir(parents=True)
    shutil.copy(clip, mine / "a.wav")
    write_audio(mine / "a.flac", read_audio(clip))
    shutil.copy(clip, voice / "1.wav")
    shutil.copy(REFERENCE, voice / "2.flac")
    report = run(mine, tmp_path / "out", settings, references=[REFERENCE, voice], suffix=".wav")
    assert report.count("done") == 4
    names = [f"{v}/a.{s}.wav" for v in ("reference", "reference-2") for s in ("flac", "wav")]
    assert sorted(results(tmp_path / "out")) == sorted(names)


def test_what_one_worker_learns_others_need_not(
    sources: Path,
    settings: Settings,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output, shared = tmp_path / "out", tmp_path / "shared"
    shared.mkdir()
    tasks = [
        replace(task, voice=shared / "reference.voice")
        for task in plan([sources], {"": (REFERENCE,)}, output, settings)
    ]
    heard = []
    listen = Converter.voice

    def voice(converter: Converter, references: Any, **options: Any) -> Any:
        if isinstance(references, list):  # and not a voice that is known
            heard.append(references)
        return listen(converter, references, **options)

    monkeypatch.setattr(Converter, "voice", voice)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)  # this is no worker
    for task in tasks[:3]:
        work._voice.cache_clear()  # another worker
        assert work.convert_task(task).status == "done"
    assert len(heard) == 1
    (shared / "reference.voice").write_bytes(b"damaged")
    work._voice.cache_clear()
    assert work.convert_task(tasks[3]).status == "done"
    assert len(heard) == 2
    assert sorted(results(output)) == sorted(undisturbed)[:4]


def test_sources_of_one_name_are_numbered_the_same_each_time(
    sources: Path, settings: Settings, tmp_path: Path
) -> None:
    takes = [sources / f"day{day}" / "take1.wav" for day in (0, 1, 2)]
    other = sources / "take1-2.wav"  # keeps its name
    for given in ([*takes, other], [other, *takes, takes[1]]):
        tasks = plan(given, {"": (REFERENCE,)}, tmp_path / "out", settings)
        assert {task.source: (task.name, task.problem) for task in tasks} == {
            takes[0]: ("take1.wav", ""),
            takes[1]: ("take1-3.wav", ""),
            takes[2]: ("take1-4.wav", ""),
            other: ("take1-2.wav", ""),
        }
        assert len(tasks) == 4


def test_a_source_outside_a_manifests_folder_keeps_its_name_only(
    sources: Path, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "lists").mkdir()
    manifest = tmp_path / "lists" / "list.csv"
    manifest.write_text("source\n../me.wav\n../../you.wav\nin/it.wav\n")
    tasks = plan([manifest], {"": (REFERENCE,)}, tmp_path / "out", settings)
    assert [task.name for task in tasks] == ["me.wav", "you.wav", "in/it.wav"]
    assert not any(task.problem for task in tasks)


def test_no_result_takes_the_place_of_a_source_or_reference(
    sources: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(sources, mine)
    shutil.copy(mine / "day0" / "room" / "clip0.wav", mine / "r.wav")
    monkeypatch.chdir(mine)
    before = results(mine)
    clip, manifest = Path("day0/room/clip0.wav"), tmp_path / "list.csv"
    manifest.write_text(f"source,output\n{mine / clip},r.wav\n{mine / clip},free.wav\n")
    for given, output, free in (
        ([Path("day0"), Path("day1")], mine, 0),
        ([clip, mine / "r.wav"], clip.parent, 1),
        ([manifest], mine, 1),
    ):
        tasks = plan(given, {"": (mine / "r.wav",)}, output.resolve(), settings)
        problems = [task.problem for task in tasks if task.problem]
        assert len(problems) == len(tasks) - free
        assert all("is a source or reference" in problem for problem in problems)
    report = run(clip, mine / clip.parent, settings, overwrite=True)
    (outcome,) = report.outcomes
    assert outcome.status == "failed" and "--overwrite" not in outcome.reason
    assert results(mine) == before


def test_a_models_hash_is_of_all_that_a_conversion_reads(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, shipped = tmp_path / "model", tmp_path / "shipped"
    for folder in (model, shipped):
        shutil.copytree(tiny_checkpoint, folder)
    monkeypatch.setattr("vc.config.SHIPPED", shipped)
    shutil.rmtree(model / "vocoder")
    seen = {model_hash(model)}
    for changed in (
        model / "autoencoder" / "config.json",
        model / "denoiser" / "config.json",
        model / "voices.safetensors",
        shipped / "vocoder" / "config.json",  # stands in
    ):
        with changed.open("ab") as file:
            file.write(b" ")
        seen.add(model_hash(model))
    assert len(seen) == 5
    for other in (shipped / "denoiser" / "config.json", model / "autoencoder" / "log.jsonl"):
        other.write_text("other")
    assert model_hash(model) in seen


def test_what_fails_is_told_with_its_source(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = sources / "day0" / "room" / "clip0.wav"
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"source,output\n{clip},../no.wav\n")
    arguments = ["batch", manifest, "--reference", REFERENCE, "-o", tmp_path / "out"]
    assert main([str(a) for a in arguments]) == 1
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("failed")]
    assert str(clip) in line and "leaves the output folder" in line


def test_ctrl_c_waits_for_few_hashes(
    sources: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def interrupted(tasks, *_):
        next(tasks)
        raise KeyboardInterrupt
        yield

    manifest = tmp_path / "list.csv"
    clip = sources / "day0" / "room" / "clip0.wav"
    manifest.write_text("source,output\n" + "".join(f"{clip},{n}.wav\n" for n in range(200)))
    monkeypatch.setattr("vc.batch.run.result_key", lambda task, *_: asked.append(task) or "key")
    monkeypatch.setattr("vc.batch.run.run_local", interrupted)
    report = run(manifest, tmp_path / "out", settings)
    assert report.is_interrupted and report.count("interrupted") == 200
    assert len(asked) < 20


def test_a_file_that_came_after_ctrl_c_is_not_overwritten(
    sources: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(tasks, *_):
        next(tasks)
        raise KeyboardInterrupt
        yield

    output = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("vc.batch.run.run_local", interrupted)
        assert run(sources, output, settings).is_interrupted
    names = [str(clip.relative_to(sources)) for clip in sorted(sources.rglob("*.wav"))]
    begun, others = output / names[0], names[1:]
    begun.parent.mkdir(parents=True, exist_ok=True)
    begun.write_text("my own")
    report = run(sources, output, settings)
    assert report.count("failed") == 1 and report.count("done") == len(others)
    assert begun.read_text() == "my own"
    assert run(sources, output, settings, overwrite=True).count("done") == 1
    # of a result that is made anew, what was there is known still
    with monkeypatch.context() as patch:
        patch.setattr("vc.batch.run.run_local", interrupted)
        run(sources, output, replace(settings, pitch="keep"))
    assert run(sources, output, settings).count("skipped") == len(names)


def test_ctrl_c_passes_over_a_name_that_comes_twice(
    sources: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(tasks, *_):
        next(tasks)
        raise KeyboardInterrupt
        yield

    clips = sorted(sources.rglob("*.wav"))[:2]
    manifest = tmp_path / "list.csv"
    manifest.write_text("source,output\n" + "".join(f"{clip},a.wav\n" for clip in clips))
    monkeypatch.setattr("vc.batch.run.run_local", interrupted)
    report = run(manifest, tmp_path / "out", settings)
    assert report.is_interrupted and report.count("interrupted") == 2


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_manifest_names_sources_and_outputs_inside_the_folder_only(
    sources: Path, settings: Settings, tmp_path: Path, kind: str
) -> None:
    outside, output = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    output.mkdir()
    (output / "link").symlink_to(outside)
    clip = sources / "day0" / "room" / "clip0.wav"
    names = ["good/a.wav", "../b.wav", str(outside / "c.wav"), "link/d.wav", "good/../../e.wav"]
    names += ["good/A.wav", ".hidden.wav", "f.exe"]
    manifest = tmp_path / f"list.{kind}"
    if kind == "csv":
        manifest.write_text("\ufeffsource,output\n" + "".join(f"{clip},{name}\n" for name in names))
    else:
        rows = [json.dumps({"source": str(clip), "output": name}) for name in names]
        manifest.write_text("\n".join(rows))
    report = run(manifest, output, settings)
    status = {outcome.output: outcome.status for outcome in report.outcomes}
    assert status.pop("good/a.wav") == "done"
    assert len(status) == len(names) - 1
    assert set(status.values()) == {"failed"}
    assert not list(outside.iterdir())
    assert not (tmp_path / "b.wav").exists() and not (tmp_path / "e.wav").exists()
    assert set(results(output)) == {"good/a.wav"}


def test_a_batch_that_cannot_start_says_why(
    sources: Path, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no audio files"):
        run(tmp_path, tmp_path / "out", settings)
    with pytest.raises(AudioError, match="no such file"):
        run(sources, tmp_path / "out", settings, references=[tmp_path / "nobody.wav"])
    with pytest.raises(DataError, match="is the output folder"):
        run(sources, sources, settings)
    (tmp_path / "bad.voice").write_bytes(b"damaged")
    with pytest.raises(VoiceError, match=r"bad\.voice: not a voice file"):
        run(sources, tmp_path / "out", settings, references=[tmp_path / "bad.voice"])
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"bad\.csv: not a manifest"):
        run(tmp_path / "bad.csv", tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / LEDGER).open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another batch"):
            run(sources, tmp_path / "out", settings)


def test_a_worker_that_dies_is_noticed_and_its_file_tried_again(
    sources: Path, settings: Settings, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    reports: list[BatchReport] = []
    thread = threading.Thread(target=lambda: reports.append(run(sources, tmp_path, settings)))
    thread.start()
    killed = kill_children(thread, times=2)
    thread.join()
    assert killed == 2
    assert reports[0].count("done") == 6
    assert sum(outcome.attempts for outcome in reports[0].outcomes) == 8
    assert results(tmp_path) == undisturbed


def test_a_file_whose_workers_always_die_is_reported(
    sources: Path, settings: Settings, tmp_path: Path
) -> None:
    clip = sources / "day0" / "room" / "clip0.wav"
    reports: list[BatchReport] = []
    thread = threading.Thread(
        target=lambda: reports.append(run(clip, tmp_path, settings, retries=1))
    )
    thread.start()
    assert kill_children(thread, times=99) == 2
    thread.join()
    (outcome,) = reports[0].outcomes
    assert (outcome.status, outcome.attempts) == ("failed", 2)
    assert "died 2 times" in outcome.reason
    assert results(tmp_path) == {}


def kill_children(thread: threading.Thread, times: int) -> int:
    """SIGKILL the batch's worker processes as they appear, a little after they have a task."""
    killed: set[int | None] = set()
    while thread.is_alive() and len(killed) < times:
        for child in multiprocessing.active_children():
            if child.pid is not None and child.pid not in killed:
                time.sleep(0.3)
                os.kill(child.pid, signal.SIGKILL)
                killed.add(child.pid)
        time.sleep(0.02)
    return len(killed)


def test_killed_at_random_moments_it_ends_with_the_files_of_an_undisturbed_run(
    sources: Path, tiny_checkpoint: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    chance = random.Random(0)
    command = [sys.executable, "-m", "vc", "batch", sources, "--reference", REFERENCE, "-o"]
    command += [tmp_path, "--checkpoint", tiny_checkpoint, "--workers", "2", "--quiet"]
    for number in range(KILLS):
        process = subprocess.Popen(
            [str(part) for part in command], cwd=ROOT, start_new_session=True
        )
        seen = finished(tmp_path)
        while process.poll() is None and finished(tmp_path) == seen and chance.random() < 0.99:
            time.sleep(0.05)  # until the next result, or earlier
        time.sleep(chance.uniform(0, 0.1))
        if number % 2:
            process.kill()  # the parent alone
        else:
            with contextlib.suppress(ProcessLookupError):  # it was done a moment before
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if number == 0:  # a line that was cut off
            with (tmp_path / LEDGER).open("a") as ledger:
                ledger.write('{"output": "day0/ro')
    assert subprocess.run([str(part) for part in command], cwd=ROOT, check=False).returncode == 0
    assert results(tmp_path) == undisturbed
    again = subprocess.run([str(part) for part in command], cwd=ROOT, check=False)
    assert again.returncode == 0
    with (tmp_path / REPORT).open(newline="") as file:
        assert {row["status"] for row in csv.DictReader(file)} == {"skipped"}


def test_a_ray_worker_that_is_killed_loses_nothing_and_does_nothing_twice(
    sources: Path,
    settings: Settings,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'vc[cluster]'")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # no token file in the home folder
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        reports: list[BatchReport] = []
        thread = threading.Thread(
            target=lambda: reports.append(run(sources, tmp_path, settings, engine="ray"))
        )
        thread.start()
        while not (victims := ray_workers()) and thread.is_alive():
            time.sleep(0.02)
        os.kill(victims[0], signal.SIGKILL)
        thread.join()
    finally:
        ray.shutdown()
    assert reports[0].count("done") == 6 and len(reports[0].outcomes) == 6
    assert results(tmp_path) == undisturbed
    done = [json.loads(line) for line in (tmp_path / LEDGER).read_text().splitlines()]
    assert Counter(record["output"] for record in done if "key" in record) == dict.fromkeys(
        undisturbed, 1
    )


def ray_workers() -> list[int]:
    """Processes that are converting for Ray: it names them after their task."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::_ray_task"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found
