from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

import vc
from tests.conftest import EXAMPLES, make_voice
from vc.audio import Audio, write_audio
from vc.cli import main
from vc.convert import Converter
from vc.embedding import pool_content
from vc.errors import AudioError
from vc.voice_map import place_voices


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Three speakers with two clips each, of different lengths."""
    folder = tmp_path / "clips"
    for number, f0 in enumerate((110.0, 160.0, 220.0)):
        for clip in range(2):
            (folder / f"voice{number}").mkdir(parents=True, exist_ok=True)
            waveform = make_voice(f0, seconds=0.8 + 0.3 * clip, seed=clip)
            write_audio(folder / f"voice{number}" / f"{clip}.wav", Audio(waveform, 16_000))
    return folder


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_embed_is_there_at_top_level(high_voice: Audio, tiny_checkpoint: Path) -> None:
    found = vc.embed(high_voice, tiny_checkpoint)
    again = vc.load(tiny_checkpoint).embed(high_voice)
    np.testing.assert_array_equal(found.content, again.content)
    np.testing.assert_array_equal(found.speaker_embedding, again.speaker_embedding)
    with pytest.raises(AudioError, match=r"nothing\.wav"):
        vc.embed("nothing.wav")


def test_slices_are_means_of_equal_parts_of_time() -> None:
    content = np.repeat(np.arange(4.0), 5)[:, None] * np.ones(3)
    np.testing.assert_allclose(pool_content(content, 4), np.arange(4.0)[:, None] * np.ones(3))
    np.testing.assert_allclose(pool_content(content, 1), content.mean(0, keepdims=True))
    assert pool_content(content[:2], 4).shape == (4, 3)  # fewer frames than slices
    assert np.isfinite(pool_content(content[:1], 7)).all()


def test_every_format_holds_the_same_rows(
    clips: Path, tmp_path: Path, tiny: Converter, tiny_checkpoint: Path
) -> None:
    outputs = [tmp_path / f"table{suffix}" for suffix in (".npz", ".safetensors", ".csv")]
    for output in outputs:
        options = ["-o", output, "--checkpoint", tiny_checkpoint, "--slices", 2, "--quiet"]
        assert run("embed", clips, *options) == 0
    with np.load(outputs[0], allow_pickle=False) as table:
        names, speaker, content = table["clip"], table["speaker_embedding"], table["content"]
        median, model = table["f0_median_hz"], str(table["model"])
    expected = tiny.embed(clips / "voice2" / "1.wav")
    row = names.tolist().index(str(clips / "voice2" / "1.wav"))
    np.testing.assert_allclose(speaker[row], expected.speaker_embedding, rtol=1e-6)
    np.testing.assert_allclose(content[row], pool_content(expected.content, 2).ravel(), rtol=1e-6)
    assert median[row] == pytest.approx(220, rel=0.1)
    assert model == tiny.model_sha256
    with safe_open(outputs[1], "np") as file:
        assert json.loads(file.metadata()["clip"]) == names.tolist()
        assert file.metadata()["model"] == model
        np.testing.assert_array_equal(file.get_tensor("content"), content)
    with outputs[2].open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert [r["clip"] for r in rows] == names.tolist()
    assert float(rows[row]["speaker_embedding_003"]) == pytest.approx(speaker[row, 3], rel=1e-4)


def test_frames_are_found_by_their_offsets(
    clips: Path, tmp_path: Path, tiny: Converter, tiny_checkpoint: Path
) -> None:
    output = tmp_path / "table.npz"
    options = ["-o", output, "--checkpoint", tiny_checkpoint, "--frames"]
    assert run("embed", clips, *options) == 0
    with np.load(output, allow_pickle=False) as table:
        start, stop = table["content_offsets"][1:3]
        content = table["content_frames"][start:stop]
        start, stop = table["f0_offsets"][1:3]
        f0, names = table["f0_frames"][start:stop], table["clip"]
    expected = tiny.embed(str(names[1]))
    np.testing.assert_array_equal(content, expected.content)
    np.testing.assert_array_equal(f0, expected.f0)


def test_a_clip_that_cannot_be_used_is_left_out_and_told_of(
    clips: Path, tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clips / "voice0" / "broken.wav").write_text("no sound")
    output = tmp_path / "table.npz"
    assert run("embed", clips, "-o", output, "--checkpoint", tiny_checkpoint, "--quiet") == 1
    assert "broken.wav" in capsys.readouterr().err
    with np.load(output, allow_pickle=False) as table:
        assert len(table["clip"]) == 6


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["embed", "CLIPS", "-o", "table.txt"], "end the name in"),
        (["embed", "CLIPS", "-o", "no/table.npz"], "does not exist"),
        (["embed", "CLIPS", "-o", "folder.npz"], "is a folder"),
        (["embed", "CLIPS", "-o", "x" * 300 + ".npz"], "File name too long"),
        (["voice", "CLIPS", "-o", "folder.voice"], "is a folder"),
        (["embed", "CLIPS", "-o", "table.csv", "--frames"], "one row a clip"),
        (["embed", "EMPTY", "-o", "table.npz"], "no audio files"),
        (["embed", "missing.wav", "-o", "table.npz"], "no such file"),
        (["map", "CLIPS", "-o", "map.txt"], "end the name in"),
        (["map", "EMPTY", "-o", "map.png"], "no audio files"),
        (["map", "missing", "-o", "map.png"], "no such folder"),
        (["map", "CLIPS/voice0", "-o", "map.png"], "at least 4"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line_and_status_2(
    clips: Path,
    tmp_path: Path,
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "folder.npz", "folder.voice"):
        (tmp_path / name).mkdir()
    places = {"CLIPS": "clips", "EMPTY": "empty", "CLIPS/voice0": "clips/voice0"}
    given = [places.get(argument, argument) for argument in arguments]
    before = sorted(tmp_path.rglob("*"))
    assert main([*given, "--checkpoint", str(tiny_checkpoint), "--quiet"]) == 2
    error = capsys.readouterr().err.strip()
    assert reason in error and "\n" not in error
    assert sorted(tmp_path.rglob("*")) == before


def test_a_map_shows_clips_and_kept_voices(
    clips: Path, tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("new-voice", "-o", clips / "nobody.voice", "--checkpoint", tiny_checkpoint) == 0
    output = tmp_path / "map.svg"
    assert run("map", clips, "-o", output, "--checkpoint", tiny_checkpoint) == 0
    assert "7 voices of 4 groups" in capsys.readouterr().out
    assert output.read_text(encoding="utf-8").count("</svg>") == 1


def test_a_map_learns_no_voice(
    clips: Path, tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Converter, "learn", None)
    options = ["--checkpoint", tiny_checkpoint, "--quiet"]
    assert run("map", clips, "-o", tmp_path / "map.svg", *options) == 0


def test_names_that_are_not_text_are_the_same_in_every_table(
    clips: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    clip = clips / os.fsdecode(b"caf\xe9.wav")  # Latin-1, from an old disk
    (clips / "voice0" / "0.wav").rename(clip)
    options = ["--checkpoint", tiny_checkpoint, "--quiet"]
    for suffix in (".npz", ".safetensors", ".csv"):
        assert run("embed", clip, "-o", tmp_path / f"table{suffix}", *options) == 0
    with np.load(tmp_path / "table.npz", allow_pickle=False) as table:
        assert table["clip"].tolist() == [str(clip)]
    with safe_open(tmp_path / "table.safetensors", "np") as file:
        assert json.loads(file.metadata()["clip"]) == [str(clip)]
    assert os.fsencode(clip) in (tmp_path / "table.csv").read_bytes()


def test_a_map_without_its_packages_says_what_to_install(
    clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("vc.voice_map.find_spec", lambda name: None)
    assert run("map", clips, "-o", tmp_path / "map.png") == 2
    assert "pip install" in capsys.readouterr().err


def test_voices_that_are_alike_lie_together_on_the_map() -> None:
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((3, 16))
    voices = np.repeat(centres, 5, axis=0) + 0.05 * generator.standard_normal((15, 16))
    for plane in place_voices(voices).values():
        groups = plane.reshape(3, 5, 2)
        within = np.linalg.norm(groups - groups.mean(1, keepdims=True), axis=2).max()
        middles = groups.mean(1)
        between = min(np.linalg.norm(middles[i] - middles[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
        assert between > 2 * within


def test_the_shipped_embedding_tells_the_examples_apart(shipped: Converter) -> None:
    source, reference = (shipped.embed(EXAMPLES / f"{n}.flac") for n in ("source", "reference"))
    dims = shipped.autoencoder.config.speaker_dim
    assert float(source.speaker_embedding[:dims] @ reference.speaker_embedding[:dims]) < 0.7
