"""What goes wrong around the program: disks, kills, rivals, damaged and hostile files.

Whatever it is: nothing is lost, nothing half-written, and a user sees one clear line.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.conftest import EXAMPLES, make_voice
from vc.audio import WRITABLE_SUFFIXES, Audio, read_audio, read_blocks, write_audio
from vc.batch import LEDGER, REPORT, Settings, run_batch
from vc.batch.plan import plan
from vc.checkpoint import load_autoencoder, load_vocoder
from vc.cli import main
from vc.corpus import feature_file, read_manifest
from vc.errors import AudioError, CheckpointError, DataError, VCError, VoiceError
from vc.layouts import Clip, find_clips
from vc.training.loop import load_state, save_state
from vc.voice import load_voice, save_voice
from vc.voice_prior import PRIOR_FILE, load_prior

ROOT = Path(__file__).parent.parent
SOURCE, REFERENCE = EXAMPLES / "source.flac", EXAMPLES / "reference.flac"
# these runs are long: VC_TEST_KILLS=20 VC_TEST_LONG=1 pytest tests/test_faults.py
long_run = pytest.mark.skipif("VC_TEST_LONG" not in os.environ, reason="VC_TEST_LONG is not set")
KILLS = int(os.environ.get("VC_TEST_KILLS", "3"))
LIMITS = int(os.environ.get("VC_TEST_LIMITS", "6"))  # fillings of a disk


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file can grow beyond this, in worker processes neither, as on a disk that is full."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()
    }


def run(arguments: list[str]) -> tuple[int, str]:
    """Exit status and what a command says of errors; nothing goes through files of pytest's."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = main(arguments)
    assert "Traceback" not in said.getvalue(), said.getvalue()
    return status, "\n".join(re.findall(r"(?:vc [a-z-]+|failed): .*", said.getvalue()))


@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
def test_on_a_full_disk_a_file_is_whole_or_absent(tmp_path: Path, suffix: str) -> None:
    """Encoders write their last bytes while they close, where libsndfile passes over errors."""
    path, audio = tmp_path / f"clip{suffix}", Audio(make_voice(seconds=1.0), 16_000)
    write_audio(path, audio)
    size = path.stat().st_size
    path.unlink()
    for limit in [0, 1, *np.linspace(50, size - 1, LIMITS).astype(int).tolist()]:
        with files_up_to(limit), pytest.raises(AudioError, match="cannot be written"):
            write_audio(path, audio)
        assert not list(tmp_path.iterdir()), limit


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """A folder with two clips of each of two voices, and a prepared cache of them."""
    folder = tmp_path_factory.mktemp("small")
    for number in range(4):
        clip = folder / "clips" / f"voice{number // 2}" / f"{number}.wav"
        clip.parent.mkdir(parents=True, exist_ok=True)
        write_audio(clip, Audio(make_voice(100 + 40 * (number // 2), seed=number), 16_000))
    assert main(["prepare", f"{folder}/clips", "-o", f"{folder}/cache", "--workers", "1"]) == 0
    return folder


def commands(small: Path, model: Path, output: Path) -> dict[str, list[str]]:
    """Every kind of command that writes."""
    clip, checkpoint = f"{small}/clips/voice0/0.wav", ["--checkpoint", str(model)]
    tiny = ["--cache", f"{small}/cache", "--device", "cpu", "--set", "run.steps=1"]
    tiny += ["--set", "data.batch_size=2", "--set", "data.segment_frames=16"]
    quiet = ["--quiet", *checkpoint]
    batch = ["-o", str(output), "--workers", "1", *quiet]
    return {
        "convert": [
            "convert",
            clip,
            str(REFERENCE),
            "-o",
            f"{output}/a.flac",
            "--quiet",
            *checkpoint,
        ],
        "denoise": ["denoise", clip, "-o", f"{output}/a.wav", *checkpoint],
        "voice": ["voice", str(REFERENCE), "-o", f"{output}/a.voice", *checkpoint],
        "new-voice": ["new-voice", "-o", f"{output}/a.voice", *checkpoint],
        "adapt": ["adapt", clip, "-o", f"{output}/a.voice", *quiet],
        "batch": ["batch", f"{small}/clips", "--reference", str(REFERENCE), *batch],
        "prepare": ["prepare", f"{small}/clips", "-o", str(output), "--workers", "1"],
        "train": ["train", "tiny", "-o", str(output), *tiny],
    }


KINDS = ["convert", "denoise", "voice", "new-voice", "adapt", "batch", "prepare", "train"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_says_that_the_disk_is_full_and_leaves_nothing_half_written(
    small: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    kind: str,
) -> None:
    whole, output = tmp_path / "whole", tmp_path / "full"
    for folder in (whole, output):
        folder.mkdir()
    assert main(commands(small, tiny_checkpoint, whole)[kind]) == 0
    expected = contents(whole)
    sizes = sorted(len(data) for data in expected.values())
    for limit in (0, sizes[-1] // 2):
        with files_up_to(limit):
            status, error = run(commands(small, tiny_checkpoint, output)[kind])
        assert status in (1, 2), (limit, error)
        assert error and all("File too large" in line for line in error.splitlines()), error
        for name, data in contents(output).items():
            assert not name.split("/")[-1].startswith(".vc-") or name == LEDGER, (limit, name)
            if name not in (LEDGER, REPORT, "report.html", "log.jsonl"):
                assert data == expected[name], (limit, name)
    # with room again, all is done after all
    assert main(commands(small, tiny_checkpoint, output)[kind]) == 0
    assert contents(output).keys() == expected.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_says_that_a_folder_may_not_be_written(
    small: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    output = tmp_path / "sealed"
    output.mkdir()

    def sealed(function, of_mode):  # root may write anywhere, so the system is stood in for
        def guarded(path, *arguments, **options):
            inside = not isinstance(path, int) and str(path).startswith(str(output))
            if inside and of_mode(*arguments, **options):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return function(path, *arguments, **options)

        return guarded

    writes = lambda mode="r", *_, **__: any(c in mode for c in "wax+")  # noqa: E731
    creates = lambda flags, *_, **__: bool(flags & os.O_CREAT)  # noqa: E731
    monkeypatch.setattr(os, "open", sealed(os.open, creates))
    monkeypatch.setattr(os, "mkdir", sealed(os.mkdir, lambda *_, **__: True))
    monkeypatch.setattr(io, "open", sealed(io.open, writes))
    status, error = run(commands(small, tiny_checkpoint, output)[kind])
    assert status == 2 and len(error.splitlines()) == 1 and "Read-only file system" in error
    assert not list(output.iterdir())


def test_a_killed_writer_leaves_the_file_whole_or_absent(tmp_path: Path) -> None:
    path, chance = tmp_path / "clip.flac", random.Random(0)
    writer = (
        "import sys\nfrom vc.audio import Audio, write_audio\n"
        "from recipes.toy.make_corpus import make_voice\nvoice = Audio(make_voice(), 16_000)\n"
        "while True: write_audio(sys.argv[1], voice); print(flush=True)"
    )
    for _ in range(KILLS):
        command = [sys.executable, "-c", writer, str(path)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        process.communicate()
        assert read_audio(path).duration_s == 2.0
    write_audio(path, Audio(make_voice(), 16_000))
    assert list(tmp_path.iterdir()) == [path]  # nothing is left of those killed


@long_run
def test_a_killed_conversion_leaves_the_file_whole_or_absent(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    source, output = tmp_path / "long.wav", tmp_path / "out" / "long.flac"
    write_audio(source, Audio(np.tile(make_voice(seconds=2.0), 31), 16_000))
    output.parent.mkdir()
    command = [sys.executable, "-m", "vc", "convert", source, REFERENCE, "-o", output, "--quiet"]
    command = [str(part) for part in [*command, "--checkpoint", tiny_checkpoint]]
    started = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True)
    whole_s, whole = time.monotonic() - started, output.read_bytes()
    chance = random.Random(0)
    for number in range(KILLS):
        if number % 2:  # there was none before
            output.unlink(missing_ok=True)
        before = output.read_bytes() if output.exists() else None
        process = subprocess.Popen(command, cwd=ROOT)
        time.sleep(chance.uniform(0.7, 1.0) * whole_s)
        process.kill()
        process.wait()
        assert (output.read_bytes() if output.exists() else None) in (before, whole)
    subprocess.run(command, cwd=ROOT, check=True)
    assert contents(output.parent) == {"long.flac": whole}  # nothing is left of those killed


def test_of_two_processes_that_write_one_file_each_leaves_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    rival = (
        "import sys, pathlib\nfrom vc.safe_write import write_bytes\n"
        "for _ in range(150): write_bytes(pathlib.Path(sys.argv[1]), sys.argv[2].encode() * 300000)"
    )
    rivals = [
        subprocess.Popen([sys.executable, "-c", rival, str(path), letter], cwd=ROOT)
        for letter in "ab"
    ]
    seen: set[bytes] = set()
    while any(process.poll() is None for process in rivals):
        if path.exists():
            seen.add(path.read_bytes())
    assert [process.returncode for process in rivals] == [0, 0]
    assert seen <= {b"a" * 300_000, b"b" * 300_000}
    assert list(tmp_path.iterdir()) == [path]


@long_run
def test_of_two_conversions_into_one_file_one_stays_whole(
    small: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    command = commands(small, tiny_checkpoint, output)["convert"]
    both = [
        subprocess.Popen([sys.executable, "-m", "vc", *command, "--quiet"], cwd=ROOT)
        for _ in range(2)
    ]
    assert [process.wait() for process in both] == [0, 0]
    assert [file.name for file in output.iterdir()] == ["a.flac"]
    assert read_audio(output / "a.flac").duration_s == 2.0


def cuts(data: bytes, block: int = 512) -> Iterator[bytes]:
    """All beginnings of a file that end at a block's boundary, but for the whole."""
    for length in range(0, len(data), block):
        yield data[:length]


def test_a_checkpoint_that_was_cut_at_any_block_is_refused(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))
    readers = {
        model / "vocoder" / "model.safetensors": lambda: load_vocoder(model / "vocoder"),
        model / "autoencoder" / "model.safetensors": lambda: load_autoencoder(
            model / "autoencoder"
        ),
        model / "autoencoder" / "config.json": lambda: load_autoencoder(model / "autoencoder"),
        model / PRIOR_FILE: lambda: load_prior(model / PRIOR_FILE, ""),
    }
    refused = 0
    for path, read in readers.items():
        data = path.read_bytes()
        for cut in cuts(data):
            path.write_bytes(cut)
            with pytest.raises(CheckpointError, match=path.name) as caught:
                read()
            assert "\n" not in str(caught.value)
            refused += 1
        path.write_bytes(data)
    assert refused > 100


class _Task:
    """As little as has a state."""

    def __init__(self) -> None:
        net = nn.Linear(40, 40)
        optimizer = torch.optim.AdamW(net.parameters())
        net(torch.ones(1, 40)).sum().backward()
        optimizer.step()
        self.modules, self.optimizers = {"net": net}, {"net": optimizer}


def test_a_training_state_that_was_cut_at_any_block_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(_Task(), path, 3)  # type: ignore[arg-type]
    data = path.read_bytes()
    assert load_state(_Task(), path) == 3  # type: ignore[arg-type]
    for cut in cuts(data):
        path.write_bytes(cut)
        with pytest.raises(CheckpointError, match="cannot resume") as caught:
            load_state(_Task(), path)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_a_training_state_of_other_shapes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(_Task(), path, 3)  # type: ignore[arg-type]
    tensors = load_file(path)
    tensors["optimizer/net/0/exp_avg"] = torch.zeros(3)  # Adam would notice only while it steps
    save_file(tensors, path, {"step": "3"})
    with pytest.raises(CheckpointError, match="another shape"):
        load_state(_Task(), path)  # type: ignore[arg-type]
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="cannot resume"):
        load_state(_Task(), path)  # type: ignore[arg-type]


def test_a_pickle_is_never_opened_whatever_it_is_called(
    tiny_checkpoint: Path, small: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "executed"

    class Attack:
        def __reduce__(self) -> tuple:
            return (Path.touch, (marker,))

    torch.save(Attack(), tmp_path / "attack")
    model = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))
    cache = Path(shutil.copytree(small / "cache", tmp_path / "cache"))
    checkpoint, output = ["--checkpoint", str(model)], ["-o", str(tmp_path / "out")]
    train = ["train", "tiny", "--cache", str(cache), "--device", "cpu", *output]

    def convert(source: Path, reference: Path) -> list[str]:
        return ["convert", str(source), str(reference), "-o", f"{tmp_path}/out.wav", *checkpoint]

    for path, command in {
        tmp_path / "a.voice": convert(SOURCE, tmp_path / "a.voice"),
        tmp_path / "a.safetensors": convert(SOURCE, tmp_path / "a.safetensors"),
        tmp_path / "a.wav": convert(tmp_path / "a.wav", REFERENCE),
        tmp_path / "a.csv": ["batch", f"{tmp_path}/a.csv", "--reference", str(REFERENCE), *output],
        tmp_path / "b.csv": ["prepare", f"{tmp_path}/b.csv", *output],
        tmp_path / "a.toml": ["train", f"{tmp_path}/a.toml", "--cache", str(cache), *output],
        model / PRIOR_FILE: ["new-voice", "-o", f"{tmp_path}/new.voice", *checkpoint],
        model / "autoencoder" / "config.json": convert(SOURCE, REFERENCE),
        model / "vocoder" / "model.safetensors": convert(SOURCE, REFERENCE),
        cache / "manifest.jsonl": train,
        next(cache.glob("features/**/*.safetensors")): train,
        tmp_path / "out" / "state.safetensors": train,
    }.items():
        kept = path.read_bytes() if path.exists() else b""
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(tmp_path / "attack", path)
        status, error = run(command)
        assert status == 2 and len(error.splitlines()) == 1, (path, error)
        assert not marker.exists(), path
        path.write_bytes(kept)


def test_a_manifest_cannot_name_what_no_file_can_be_called(
    small: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    clip, output = str(small / "clips" / "voice0" / "0.wav"), tmp_path / "out"
    output.mkdir()
    (tmp_path / "round").symlink_to(tmp_path / "round")
    (output / "circle").symlink_to(output / "circle")
    good = ["con.wav", "nul/aux.wav", "-rf.wav", "a b\tc.wav", "é" * 100 + ".wav"]
    bad = ["x" * 300 + ".wav", "a/" * 3_000 + "b.wav", "nul\0.wav", "\ud800.wav", "circle/a.wav"]
    bad += ["..", ".", "/", "a/../../b.wav", "\0/../a.wav", "~/../../a.wav"]
    rows = [{"source": clip, "output": name} for name in [*good, *bad]]
    sources = ["y" * 300, "nul\0.wav", "\ud800.wav", "no.wav", str(tmp_path / "round" / "a.wav")]
    rows += [{"source": name, "output": f"s{n}.wav"} for n, name in enumerate(sources)]
    manifest = tmp_path / "list.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = run_batch(
        [manifest],
        [REFERENCE],
        output,
        Settings(checkpoint=tiny_checkpoint),
        workers=1,
        quiet=True,
    )
    report.write(tmp_path / "report.json")
    report.write(tmp_path / "report.csv")
    status = {outcome.output: outcome.status for outcome in report.outcomes}
    assert {name for name, of in status.items() if of == "done"} == set(good)
    assert report.count("failed") == len(rows) - len(good)
    assert not any("unexpected" in outcome.reason for outcome in report.outcomes)
    assert all(outcome.attempts <= 1 for outcome in report.outcomes)


def test_a_name_that_is_not_text_is_converted_like_any_other(
    small: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    name = os.fsdecode(b"caf\xe9.wav")  # Latin-1, from an old disk
    (tmp_path / "in").mkdir()
    shutil.copyfile(small / "clips" / "voice0" / "0.wav", tmp_path / "in" / name)
    arguments = ["batch", f"{tmp_path}/in", "--reference", str(REFERENCE), "-o", f"{tmp_path}/out"]
    arguments += ["--checkpoint", str(tiny_checkpoint), "--workers", "1"]
    for command, expected in [
        (arguments, "1 done"),
        (arguments, "1 skipped"),
        (["info", str(tmp_path / "out" / name)], "caf\\udce9.wav: 2.00 s"),
    ]:
        said = io.TextIOWrapper(io.BytesIO(), "utf-8")  # as strict as a terminal
        with contextlib.redirect_stdout(said):
            assert main(command) == 0
        said.flush()
        assert expected in said.buffer.getvalue().decode()  # type: ignore[attr-defined]


def test_a_corpus_table_cannot_lead_out_of_the_cache(small: Path, tmp_path: Path) -> None:
    clip = small / "clips" / "voice0" / "0.wav"
    for number, (corpus, speaker) in enumerate(
        [("..", ".."), ("../../..", "x"), ("/etc", "/x"), ("a\x01", "..."), ("y" * 400, "z" * 400)]
    ):
        table, cache = tmp_path / f"{number}.csv", tmp_path / "deep" / "cache"
        shutil.copyfile(clip, tmp_path / "clip.wav")
        table.write_text(f"path,speaker,corpus\nclip.wav,{speaker},{corpus}\n")
        (found,) = find_clips(table)
        assert isinstance(found, Clip)
        target = feature_file(cache, found.name)
        assert target.resolve().is_relative_to(cache / "features")
        assert max(len(os.fsencode(part)) for part in target.parts) <= 255
    with pytest.raises(DataError, match="lies outside"):
        feature_file(tmp_path, "../../x")
    row = {"name": 3, "corpus": "a", "speaker": "b", "split": "train", "seconds": 1.0}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match="not a manifest"):
        read_manifest(tmp_path)


def test_bombs_are_refused_before_they_fill_the_memory(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = tmp_path / "bomb.flac"  # 50 minutes of silence in a few kilobytes
    soundfile.write(bomb, np.zeros(3_000 * 4_000, np.int16), 4_000)
    with pytest.raises(AudioError, match=r"bomb\.flac: longer than 30 minutes"):
        read_audio(bomb)
    wide, largest = tmp_path / "wide.wav", 0
    soundfile.write(wide, np.full((40_000, 500), 0.1, np.float32), 16_000, format="WAVEX")
    read = soundfile.SoundFile.read

    def counted(file, frames=-1, *arguments, **options):
        nonlocal largest
        samples = read(file, frames, *arguments, **options)
        largest = max(largest, samples.size)
        return samples

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    assert sum(len(block.waveform) for block in read_blocks(wide)) == 40_000
    assert largest <= 1 << 21
    lying = tmp_path / "lying.wav"  # a header that promises four gigabytes
    data = bytearray(wide.read_bytes()[:3_000])
    at = data.index(b"data") + 4
    data[at : at + 4] = (2**32 - 100).to_bytes(4, "little")
    lying.write_bytes(data)
    with contextlib.suppress(AudioError):
        assert len(read_audio(lying).waveform) < 100
    model = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model")) / "autoencoder"
    stored = json.loads((model / "config.json").read_text())
    for changes in ({"width": 10**12}, {"content_blocks": 10**9}, {"quantizer_levels": [9**99]}):
        text = json.dumps(stored | {"model": stored["model"] | changes})
        (model / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match="must be in"):
            load_autoencoder(model)
    text = json.dumps(stored | {"model": stored["model"] | {"width": 16_000}})
    (model / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_autoencoder(model)  # 20 GB if it were built
    (model / "config.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="damaged"):
        load_autoencoder(model)


def test_a_voice_of_another_size_is_refused(tiny, tmp_path: Path) -> None:
    from vc.pitch import PitchRange
    from vc.voice import Voice

    path = tmp_path / "small.voice"
    save_voice(path, Voice(torch.ones(3), PitchRange(4.8, 0.2)), tiny.model_sha256)
    with pytest.raises(VoiceError, match=r"small\.voice: damaged"):
        tiny.voice(path)
    save_voice(path, Voice(torch.full((3,), torch.nan), None), tiny.model_sha256)
    with pytest.raises(VoiceError, match="damaged"):
        load_voice(path, tiny.model_sha256)


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to(path)], ids=["pipe", "circle"]
)
def test_what_is_no_plain_file_is_refused(tmp_path: Path, make) -> None:
    path = tmp_path / "clip.wav"
    make(path)
    for place in (path, Path("/dev/zero"), tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(AudioError) as caught:
            read_audio(place)
        assert len(str(caught.value).splitlines()) == 1
        with pytest.raises(VCError):
            load_voice(place, "")


def test_planning_resolves_no_name_twice(small: Path, tmp_path: Path) -> None:
    """Names that differ in case only are one file on some disks: the second is refused."""
    manifest = tmp_path / "list.csv"
    manifest.write_text("source,output\na.wav,CON.wav\nb.wav,con.wav\n")
    tasks = plan([manifest], {"": (REFERENCE,)}, tmp_path, Settings())
    assert [bool(task.problem) for task in tasks] == [False, True]


def test_a_message_is_one_line_whatever_a_name_holds() -> None:
    assert str(VCError("a\x0bb\nc\u2028d.wav: not audio")) == "a b c d.wav: not audio"
