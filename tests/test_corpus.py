from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vc.audio import active_level_db
from vc.config import DataConfig, FeatureConfig
from vc.corpus import feature_file, prepare, read_manifest, read_speakers
from vc.errors import DataError
from vc.features import num_frames
from vc.training.data import SpeechData

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
    report = prepare(copy, tmp_path / "cache", FEATURES, workers=1)
    assert len(report.utterances) == 24
    reasons = dict(report.left_out)
    assert "not audio" in reasons["toy/voice0/bad.wav"]
    assert "empty" in reasons["toy/voice0/empty.wav"]


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
    table.write_text("corpus\tspeaker\ntoy\tvoice5\n")
    report = prepare(
        copy,
        tmp_path / "cache",
        FEATURES,
        exclude=read_speakers(table),
        hold_out=frozenset({("toy", "voice2"), ("toy", "voice3")}),
        skip_corpora=frozenset({"other"}),
        workers=1,
    )
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


def test_partner_is_another_clip_of_the_same_speaker(cache: Path) -> None:
    data = SpeechData(cache, "train", FEATURES, DataConfig())
    for clip in range(len(data.utterances)):
        partner = data.draw_partner(np.random.default_rng(clip), clip)
        assert partner != clip
        assert data.speaker_of[partner] == data.speaker_of[clip]
