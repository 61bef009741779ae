from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import EXAMPLES, hold_out_last_voice, make_voice
from vc.audio import Audio, active_level_db, read_audio, write_audio
from vc.cli import main
from vc.config import FeatureConfig
from vc.corpus import read_features

SOURCE, REFERENCE = EXAMPLES / "source.flac", EXAMPLES / "reference.flac"


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def test_convert_from_two_files_to_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.flac"
    assert run("convert", SOURCE, REFERENCE, "-o", output) == 0
    source, converted = read_audio(SOURCE), read_audio(output)
    assert converted.sample_rate == source.sample_rate
    assert len(converted.waveform) == len(source.waveform)
    assert np.std(converted.waveform) > 0.01
    with soundfile.SoundFile(output) as file:
        assert "Converted speech" in file.comment
    printed = capsys.readouterr()
    assert str(output) in printed.out
    assert "converting" in printed.err  # the progress bar


def test_options_reach_the_conversion(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.wav"
    options = ["--checkpoint", tiny_checkpoint, "--sample-rate", 8000, "--pitch=-3", "--quiet"]
    assert run("convert", SOURCE, REFERENCE, REFERENCE, "-o", output, *options) == 0
    assert read_audio(output).sample_rate == 8_000
    assert capsys.readouterr() == ("", "")
    options += ["--vocoder", "griffin-lim"]
    assert run("convert", SOURCE, REFERENCE, "-o", output, *options) == 0


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    write_audio(tmp_path / "silent.wav", Audio(np.zeros(16_000, np.float32), 16_000))
    write_audio(tmp_path / "short.wav", Audio(make_voice(seconds=0.1), 16_000))
    soundfile.write(tmp_path / "nan.wav", np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("not audio")
    data = SOURCE.read_bytes()
    (tmp_path / "truncated.flac").write_bytes(data[: len(data) // 2])
    damaged = tmp_path / "damaged"
    (damaged / "autoencoder").mkdir(parents=True)
    (damaged / "autoencoder" / "config.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "named", "reason"),
    [
        ({"source": "missing.wav"}, "missing.wav", "no such file"),
        ({"source": "empty.wav"}, "empty.wav", "empty"),
        ({"source": "truncated.flac"}, "truncated.flac", "truncated"),
        ({"reference": "text.wav"}, "text.wav", "not audio"),
        ({"source": "silent.wav"}, "silent.wav", "silent"),
        ({"reference": "silent.wav"}, "silent.wav", "silent"),
        ({"source": "short.wav"}, "short.wav", "at least"),
        ({"source": "nan.wav"}, "nan.wav", "NaN"),
        ({"output": "no/folder/out.wav"}, "out.wav", "does not exist"),
        ({"output": "out.doc"}, "out.doc", "end the name in"),
        ({"checkpoint": "nowhere"}, "nowhere", "no such checkpoint"),
        ({"checkpoint": "damaged"}, "damaged", "not a checkpoint"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line_and_status_2(
    bad: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    named: str,
    reason: str,
) -> None:
    paths = {"source": SOURCE, "reference": REFERENCE, "output": bad / "out.wav"}
    paths |= {role: bad / name for role, name in changes.items()}
    before = sorted(bad.rglob("*"))
    arguments = ["convert", paths["source"], paths["reference"], "-o", paths["output"], "--quiet"]
    if "checkpoint" in paths:
        arguments += ["--checkpoint", paths["checkpoint"]]
    assert run(*arguments) == 2
    error = capsys.readouterr().err.strip()
    assert named in error and reason in error
    assert "\n" not in error and "Traceback" not in error
    assert sorted(bad.rglob("*")) == before  # nothing half-written


def test_a_wrong_pitch_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("convert", SOURCE, REFERENCE, "-o", "x.wav", "--pitch", "high")
    assert caught.value.code == 2
    assert "match, keep" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        "prepare corpus -o cache --workers -1",
        "prepare corpus -o cache --workers 0",
        "evaluate pairs.tsv --workers 0",
        "probe --cache cache --speakers 0",
        "probe --cache cache --phone-clips -3",
        "demo --port 99999",
    ],
)
def test_a_number_out_of_range_is_explained(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*arguments.split())
    assert caught.value.code == 2
    assert "use a whole number from" in capsys.readouterr().err


def test_info_describes_model_and_clips(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info") == 0
    printed = capsys.readouterr().out
    assert "autoencoder" in printed and "vocoder" in printed and "16000 Hz" in printed
    assert run("info", SOURCE) == 0
    assert "16000 Hz" in capsys.readouterr().out


def test_info_goes_on_after_a_bad_file_and_knows_no_longest(
    bad: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second = np.tile(make_voice(seconds=1.0)[:16_000:4], 1_900)  # of 4 kHz
    write_audio(bad / "long.wav", Audio(second, 4_000))
    assert run("info", SOURCE, bad / "text.wav", bad / "missing.wav", bad / "long.wav") == 1
    printed = capsys.readouterr()
    source = read_audio(SOURCE)
    level = active_level_db(source.waveform, source.sample_rate)
    assert f"{source.duration_s:.2f} s, 16000 Hz, speech at {level:.1f} dBFS" in printed.out
    assert "long.wav: 1900.00 s, 4000 Hz" in printed.out
    assert "text.wav: not audio" in printed.err and "missing.wav: no such file" in printed.err
    assert run("info", bad / "text.wav") == 2


def test_prepare_then_train(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    cache, recipe = tmp_path / "cache", tmp_path / "recipe.toml"
    assert run("prepare", corpus, "-o", cache, "--workers", 1) == 0
    assert re.search(r"clips +24\n", capsys.readouterr().out)
    hold_out_last_voice(cache)
    recipe.write_text(
        'kind = "vocoder"\n[vocoder]\nwidth = 16\nblocks = 1\n'
        "[data]\nsegment_frames = 32\nbatch_size = 2\n[run]\nsteps = 2\n"
    )
    arguments = ["train", recipe, "--cache", cache, "-o", tmp_path / "run", "--device", "cpu"]
    assert run(*arguments) == 0
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert run(*arguments, "--set", "run.stepz=3") == 2
    assert "did you mean 'steps'" in capsys.readouterr().err


def test_time_that_preparing_used_up_is_told_of(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "tiny", "--corpus", corpus, "-o", tmp_path, "--device", "cpu"]
    assert run(*arguments, "--minutes", 1e-6) == 2
    assert "took all of --minutes 1e-06" in capsys.readouterr().err
    assert (tmp_path / "cache" / "manifest.jsonl").is_file()
    for minutes in (0, "inf", "nan", 1e300):
        assert run(*arguments, "--minutes", minutes) == 2
        assert "--minutes must be above 0" in capsys.readouterr().err


def test_a_corpus_is_prepared_with_the_features_of_its_recipe(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    arguments = ["train", "tiny", "--corpus", corpus, "-o", output, "--minutes", 1e-6]
    assert run(*arguments, "--set", "run.stepz=3") == 2
    assert "did you mean 'steps'" in capsys.readouterr().err
    assert not output.exists()  # nothing is prepared in vain
    assert run(*arguments, "--set", "features.f0_max=500", "--device", "cpu") == 2
    assert read_features(output / "cache") == FeatureConfig(f0_max=500.0)


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, vc, vc.cli; print(sorted({'torch', 'numpy', 'soundfile'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        ("encode IN -o OUT", "in.wav"),
        ("compress IN -o OUT", "in.wav"),
        ("convert IN REFERENCE -o OUT", "in.wav"),
        ("convert REFERENCE IN -o OUT", "in.wav"),
        ("denoise IN -o OUT", "in.wav"),
        ("live IN --from-file REFERENCE --to-file OUT", "in.wav"),
        ("denoise IN -o OUT", "link.wav"),
        ("batch IN --reference REFERENCE -o FOLDER/new --report OUT", "in.wav"),
        ("batch FOLDER/list.csv --reference REFERENCE -o FOLDER/new --report OUT", "list.csv"),
    ],
)
def test_a_recording_is_never_replaced_by_what_is_made_of_it(
    arguments: str, output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(SOURCE, tmp_path / "in.wav")
    (tmp_path / "link.wav").hardlink_to(tmp_path / "in.wav")
    (tmp_path / "list.csv").write_text("source\nin.wav\n")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    places = {"IN": "in.wav", "OUT": output, "FOLDER/new": "new", "FOLDER/list.csv": "list.csv"}
    words = [tmp_path / places[w] if w in places else w for w in arguments.split()]
    assert run(*[REFERENCE if word == "REFERENCE" else word for word in words]) == 2
    assert output in capsys.readouterr().err
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("output", ["no/folder/x.html", "x.wav"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "missing.tsv", "--report"],
        ["probe", "--cache", "missing", "-o"],
        ["batch", "missing.wav", "--reference", "missing.wav", "-o", "out", "--report"],
    ],
)
def test_a_place_for_a_report_is_looked_at_before_the_work(
    arguments: list[str], output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if arguments[0] == "batch":
        output = output.replace(".html", ".csv")
    assert run(*arguments, tmp_path / output) == 2
    assert Path(output).name in capsys.readouterr().err


def test_the_rate_is_told_that_was_written(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "a.wav", tmp_path / "a.opus"
    write_audio(source, Audio(make_voice(seconds=1.0), 44_100))
    assert run("denoise", source, "-o", output, "--checkpoint", tiny_checkpoint) == 0
    assert "at 48000 Hz" in capsys.readouterr().out
