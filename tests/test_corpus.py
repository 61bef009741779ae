from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file

from tests.conftest import make_voice, num_frames
from vc.audio import Audio, active_level_db, read_audio, write_audio
from vc.cli import main
from vc.config import DataConfig, FeatureConfig
from vc.corpus import feature_file, prepare, read_manifest, read_speakers
from vc.errors import DataError, WorkerError
from vc.evaluation.run import run_all
from vc.training.data import SpeechData, load_noise

FEATURES = FeatureConfig()


@pytest.fixture
def copy(corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus, tmp_path / "corpora"))


def test_manifest_and_features(corpus: Path, tmp_path: Path) -> None:
    report = prepare(corpus, tmp_path / "cache", FEATURES, workers=1)
    assert report.left_out == []
    assert report.utterances == read_manifest(tmp_path / "cache")
    assert len(report.utterances) == 24
    first = report.utterances[0]
    assert (first.name, first.speaker) == ("toy/voice0/clip0", "toy/voice0")
    assert first.seconds == pytest.approx(1.6)
    stored = load_file(feature_file(tmp_path / "cache", first.name))
    frames = num_frames(len(stored["waveform"]), FEATURES.hop_length)
    assert stored["log_mel"].shape == (frames, 80)
    assert stored["f0"].shape == (frames,)
    waveform = stored["waveform"].numpy().astype(np.float32) / 32767
    assert active_level_db(waveform, 16_000) == pytest.approx(FEATURES.level_db, abs=0.1)


def test_bad_clips_are_left_out_with_their_reason(copy: Path, tmp_path: Path) -> None:
    (copy / "toy" / "voice0" / "bad.wav").write_bytes(b"not audio")
    (copy / "toy" / "voice0" / "empty.wav").write_bytes(b"")
    (copy / "toy" / "voice0" / "broken.wav").symlink_to(tmp_path / "nowhere.wav")
    report = prepare(copy, tmp_path / "cache", FEATURES, workers=1)
    assert len(report.utterances) == 24
    reasons = {other.file.name: other.reason for other in report.left_out}
    assert "not audio" in reasons["bad.wav"]
    assert "empty" in reasons["empty.wav"]
    assert "No such file" in reasons["broken.wav"]


def test_a_clip_that_becomes_a_link_to_nowhere_is_left_out(copy: Path, tmp_path: Path) -> None:
    prepare(copy, tmp_path / "cache", FEATURES, workers=1)
    clip = copy / "toy" / "voice0" / "clip0.wav"
    clip.unlink()
    clip.symlink_to(tmp_path / "nowhere.wav")
    report = prepare(copy, tmp_path / "cache", FEATURES, workers=1)
    assert len(report.utterances) == 23
    assert [other.file for other in report.left_out] == [clip]


def test_only_what_changed_is_done_again(copy: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    prepare(copy, cache, FEATURES, workers=1)
    times = {f: f.stat().st_mtime_ns for f in cache.rglob("*.safetensors")}
    changed = copy / "toy" / "voice1" / "clip0.wav"
    shutil.copy(copy / "toy" / "voice2" / "clip0.wav", changed)
    damaged = feature_file(cache, "toy/voice3/clip1")
    damaged.write_bytes(damaged.read_bytes()[:100])
    prepare(copy, cache, FEATURES, workers=1)
    redone = {f for f, time in times.items() if f.stat().st_mtime_ns != time}
    assert redone == {feature_file(cache, "toy/voice1/clip0"), damaged}


def test_excluded_held_out_and_skipped_never_enter_training(copy: Path, tmp_path: Path) -> None:
    shutil.copytree(copy / "toy", copy / "other")
    table = tmp_path / "test_speakers.tsv"
    table.write_text("corpus\tspeaker\ntoy\tvoice5\ntoy\tvoice55\n")
    report = prepare(
        copy,
        tmp_path / "cache",
        FEATURES,
        exclude=read_speakers(table),
        hold_out=frozenset({("toy", "voice2"), ("toy", "voice3")}),
        skip_corpora=frozenset({"other", "another"}),
        workers=1,
    )
    assert report.unknown == ["another", "toy/voice55"]
    validation = {u.speaker for u in report.utterances if u.split == "validation"}
    assert validation >= {"toy/voice2", "toy/voice3"}
    speakers = {u.speaker for u in report.utterances}
    assert speakers == {f"toy/voice{i}" for i in range(8) if i != 5}
    assert not any("voice5" in str(f) for f in (tmp_path / "cache").rglob("*"))


def test_transcripts_are_found(copy: Path, tmp_path: Path) -> None:
    text = "speaker\tutterance\ttext\nvoice0\tclip1\tIt's a \"toy\", isn't it?\n"
    (copy / "toy" / "transcripts.tsv").write_text(text, encoding="utf-8")
    report = prepare(copy, tmp_path / "cache", FEATURES, workers=1)
    texts = {u.name: u.text for u in report.utterances if u.text}
    assert texts == {"toy/voice0/clip1": "It's a \"toy\", isn't it?"}


def test_a_text_may_hold_any_character(copy: Path, tmp_path: Path) -> None:
    said = "one\u2028two\u2029three\x85four"
    table = copy / "toy" / "transcripts.tsv"
    table.write_text(f"speaker\tutterance\ttext\nvoice0\tclip0\t{said}\n", encoding="utf-8")
    report = prepare(copy, tmp_path / "cache", FEATURES, workers=1)
    assert report.utterances[0].text == said
    assert read_manifest(tmp_path / "cache") == report.utterances


def test_a_name_that_is_too_long_for_features_is_shortened(copy: Path, tmp_path: Path) -> None:
    clips = copy / "toy" / "voice0"
    for number in range(2):
        (clips / f"clip{number}.wav").rename(clips / f"{'é' * 125}{number}.wav")
    report = prepare(copy, tmp_path / "cache", FEATURES, workers=1)
    assert len(report.utterances) == 24 and not report.left_out


def test_the_same_recording_twice_is_used_once(copy: Path, tmp_path: Path) -> None:
    shutil.copy(copy / "toy" / "voice0" / "clip0.wav", copy / "toy" / "voice5" / "again.wav")
    for _ in range(2):  # also when nothing is done again
        report = prepare(copy, tmp_path / "cache", FEATURES, workers=1)
        assert len(report.utterances) == 24
        assert [other.file.name for other in report.left_out] == ["again.wav"]
        assert "toy/voice0/clip0" in report.left_out[0].reason


def test_two_files_of_one_name_do_not_overwrite_each_other(copy: Path, tmp_path: Path) -> None:
    voice = copy / "toy" / "voice0"
    write_audio(voice / "clip0.flac", Audio(make_voice(seed=99), 16_000))
    report = prepare(copy, tmp_path / "cache", FEATURES, workers=1)
    assert len(report.utterances) == 24
    assert "same name" in report.left_out[0].reason


def test_preparing_again_computes_nothing(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    first = prepare(copy, cache, FEATURES, workers=1)
    manifest = (cache / "manifest.jsonl").read_bytes()
    monkeypatch.setattr("vc.corpus.ProcessPoolExecutor", None)
    assert prepare(copy, cache, FEATURES).utterances == first.utterances
    assert (cache / "manifest.jsonl").read_bytes() == manifest


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_is_told_of(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vc.corpus._prepare_one", _die)
    with pytest.raises(WorkerError, match="fewer --workers"):
        prepare(corpus, tmp_path / "cache", FEATURES, workers=1)
    with pytest.raises(WorkerError, match="fewer --workers"):
        list(run_all(_die, [1, 2], 2, "scoring"))


def test_a_killed_preparation_ends_as_if_undisturbed(copy: Path, tmp_path: Path) -> None:
    for number in range(60):  # enough to be killed amidst
        waveform = make_voice(120.0, seconds=1.0, seed=100 + number)
        write_audio(copy / "toy" / "voice0" / f"more{number}.wav", Audio(waveform, 16_000))
    prepare(copy, tmp_path / "whole", FEATURES, workers=1)
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "vc", "prepare", str(copy), "-o", str(killed)]
    for wanted in (1, 20, 50):
        process = subprocess.Popen(
            [*command, "--workers", "2"], stderr=subprocess.DEVNULL, start_new_session=True
        )
        while process.poll() is None and len(list(killed.rglob("*.safetensors"))) < wanted:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    prepare(copy, killed, FEATURES, workers=1)

    def contents(folder: Path) -> dict[str, bytes]:
        files = (f for f in folder.rglob("*") if f.is_file() and f.name != "report.html")
        return {str(f.relative_to(folder)): f.read_bytes() for f in files}

    assert contents(killed) == contents(tmp_path / "whole")


def test_a_small_corpus_has_somebody_to_validate_with(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copy / "toy" / "voice4")  # whom chance would hold out
    report = prepare(copy, tmp_path / "cache", FEATURES, workers=1)
    held_out = {u.speaker for u in report.utterances if u.split == "validation"}
    assert held_out == {"toy/voice0"}  # next in the order of chance, on every machine
    assert len({u.speaker for u in report.utterances if u.split == "train"}) == 6
    for number in range(1, 8):
        shutil.rmtree(copy / "toy" / f"voice{number}", ignore_errors=True)
    alone = prepare(copy, tmp_path / "alone", FEATURES, workers=1)
    assert {u.split for u in alone.utterances} == {"train"}  # one speaker is for training
    with pytest.raises(DataError, match="two or more speakers"):
        SpeechData(tmp_path / "alone", "validation", FEATURES, DataConfig())
    assert main(["prepare", str(copy), "-o", str(tmp_path / "alone"), "--workers", "1"]) == 0
    assert "ready" not in (told := capsys.readouterr().out) and "second speaker" in told


def test_parts_have_no_speaker_in_common(corpus: Path, tmp_path: Path) -> None:
    report = prepare(corpus, tmp_path / "cache", FEATURES, workers=1, test_share=0.5)
    parts = {
        split: {u.speaker for u in report.utterances if u.split == split}
        for split in ("train", "validation", "test")
    }
    assert parts["test"]
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == 8


def test_what_a_corpus_is_like_is_reported(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "toy" / "voice0" / "<bad>.wav").write_bytes(b"not audio")
    loud = read_audio(copy / "toy" / "voice1" / "clip1.wav").waveform * 50
    sf.write(copy / "toy" / "voice1" / "clip1.wav", np.clip(loud, -1, 1), 16_000)
    assert main(["prepare", str(copy), "-o", str(tmp_path / "cache"), "--workers", "1"]) == 0
    told = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines()[:-1])
    told = {what: figure.strip() for what, figure in told.items()}
    assert told["clips"] == "24"
    assert told["speakers"] == "8"
    assert told["clipped clips"] == "1"
    assert told["sample rates"] == "16000 Hz (24)"
    assert told["left out"].startswith("1,")
    page = (tmp_path / "cache" / "report.html").read_text()
    assert page.count("<svg") == 5
    assert "&lt;bad&gt;.wav" in page
    assert "<bad>" not in page


def test_a_cache_is_not_mixed(corpus: Path, tmp_path: Path) -> None:
    prepare(corpus, tmp_path / "cache", FEATURES, workers=1)
    with pytest.raises(DataError, match="other settings"):
        prepare(corpus, tmp_path / "cache", FeatureConfig(n_mels=40), workers=1)


def test_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no audio files"):
        prepare(tmp_path, tmp_path / "cache", FEATURES, workers=1)
    with pytest.raises(DataError, match="vc prepare"):
        read_manifest(tmp_path)


@pytest.fixture(scope="module")
def cache(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    prepare(corpus, folder, FEATURES, workers=1)
    return folder


def test_same_seed_same_batch(cache: Path) -> None:
    data = SpeechData(cache, "train", FEATURES, DataConfig(segment_frames=32), waveforms=True)

    def draw(seed: int) -> torch.Tensor:
        generator = np.random.default_rng(seed)
        return data.cut(generator, data.draw_clips(generator, 4), 32).log_mel

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert draw(1).shape == (4, 80, 32)


def test_segments_and_their_waveform_fit_together(cache: Path) -> None:
    from vc.features import LogMel

    data = SpeechData(cache, "train", FEATURES, DataConfig(segment_frames=32), waveforms=True)
    segments, waveform = data.cut_with_waveform(np.random.default_rng(0), np.array([0, 3]), 32)
    again = LogMel(FEATURES)(waveform)[..., 4:28]
    distance = (again - segments.log_mel[..., 4:28]).abs().mean().item()
    assert distance < 0.02


def test_a_short_clip_is_repeated_to_fill_a_segment(cache: Path) -> None:
    data = SpeechData(cache, "train", FEATURES, DataConfig())
    frames = int(data.frames[0])
    long = data.cut(np.random.default_rng(0), np.array([0]), 2 * frames)
    assert torch.equal(long.log_mel[..., :frames], long.log_mel[..., frames:])


def test_the_waveform_of_a_short_clip_is_repeated_with_its_frames(cache: Path) -> None:
    data = SpeechData(cache, "train", FEATURES, DataConfig(), waveforms=True)
    whole = int(data.frames[0]) - 1  # the last frame has no whole hop
    segments, waveform = data.cut_with_waveform(np.random.default_rng(0), np.array([0]), 2 * whole)
    assert torch.equal(segments.log_mel[..., :whole], segments.log_mel[..., whole:])
    assert waveform.shape[-1] == 2 * whole * FEATURES.hop_length
    assert torch.equal(*waveform.chunk(2, dim=-1))


def test_only_a_cache_without_noise_has_no_noise(cache: Path, tmp_path: Path) -> None:
    assert load_noise(cache, FEATURES, DataConfig()) is None
    shutil.copytree(cache, tmp_path / "cache")
    manifest = tmp_path / "cache" / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"train"', '"noise"'))
    noise = load_noise(tmp_path / "cache", FEATURES, DataConfig())
    assert noise is not None
    feature_file(tmp_path / "cache", noise.utterances[0].name).write_bytes(b"damaged")
    with pytest.raises(DataError, match="missing or damaged"):
        load_noise(tmp_path / "cache", FEATURES, DataConfig())


def test_clips_to_validate_on_are_of_all_speakers_and_beside_them_of_others(cache: Path) -> None:
    data = SpeechData(cache, "train", FEATURES, DataConfig())
    speakers = len(data.speakers)
    some = data.first_clips(speakers + 1)
    assert data.speaker_of[some].tolist() == [*range(speakers), 0]
    assert set(data.first_clips(1000)) == set(range(len(data.utterances)))
    assert data.other_speakers(np.array([0, 1, 3, 2])).tolist() == [2, 2, 1, 2]
    assert data.other_speakers(np.array([0, 1, 2])).tolist() == [2, 0, 1]  # all of one speaker


def test_partner_is_another_clip_of_the_same_speaker(cache: Path) -> None:
    data = SpeechData(cache, "train", FEATURES, DataConfig())
    for clip in range(len(data.utterances)):
        partner = data.draw_partner(np.random.default_rng(clip), clip)
        assert partner != clip
        assert data.speaker_of[partner] == data.speaker_of[clip]
