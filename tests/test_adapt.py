from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import make_voice
from vc.adapt import adapt_voice
from vc.audio import Audio, read_audio, write_audio
from vc.cli import main
from vc.convert import Converter, load
from vc.errors import VoiceError
from vc.voice import Voice, load_voice
from vc.voice_prior import PRIOR_FILE


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speaker")
    for number in range(6):
        waveform = make_voice(150.0, seconds=5.0, seed=number).astype(np.float32)
        write_audio(folder / f"{number}.wav", Audio(waveform, 16_000))
    return folder


def test_a_tuned_voice_brings_clips_it_never_saw_back_better(tiny: Converter, clips: Path) -> None:
    before = {k: v.clone() for k, v in tiny.autoencoder.state_dict().items()}
    shares: list[float] = []
    result = adapt_voice(tiny, sorted(clips.iterdir()), "she", 30, progress=shares.append)
    assert result.is_tuned
    assert result.tuned_error_db is not None
    assert result.average_error_db is not None
    assert result.tuned_error_db < result.average_error_db
    assert result.voice.name == "she"
    assert result.voice.pitch is not None
    assert result.voice.tuning is not None
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    # the model itself is not touched, and the same clips give the same voice
    assert all(torch.equal(v, before[k]) for k, v in tiny.autoencoder.state_dict().items())
    again = adapt_voice(tiny, sorted(clips.iterdir()), "she", 30)
    assert again.voice.tuning is not None
    assert all(torch.equal(v, result.voice.tuning[k]) for k, v in again.voice.tuning.items())


def test_what_gets_worse_is_not_kept(
    tiny: Converter, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vc.learn_voice._LEARNING_RATE", 30.0)
    result = adapt_voice(tiny, sorted(clips.iterdir()), steps=3)
    assert not result.is_tuned
    assert result.voice.tuning is None
    average = tiny.voice(sorted(clips.iterdir()), learn=False)
    assert torch.equal(result.voice.speaker_embedding, average.speaker_embedding)


def test_little_speech_is_learnt_but_not_judged(tiny: Converter, clips: Path) -> None:
    result = adapt_voice(tiny, sorted(clips.iterdir())[:2])
    assert result.tuned_error_db is None
    voice = tiny.voice(sorted(clips.iterdir())[:2])
    assert result.voice.tuning is not None
    assert torch.equal(result.voice.speaker_embedding, voice.speaker_embedding)


def test_little_speech_is_learnt_in_as_many_steps_as_were_asked_for(
    tiny: Converter, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []

    def learn(converter, voice: Voice, lessons, steps=None, progress=None) -> Voice:
        asked.append(steps)
        return replace(voice, tuning={})

    monkeypatch.setattr(Converter, "learn", learn)
    assert adapt_voice(tiny, sorted(clips.iterdir())[:2], steps=7).is_tuned
    assert asked == [7]


def test_a_model_that_cannot_learn_little_says_so(
    tiny_checkpoint: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, model, ignore=shutil.ignore_patterns(PRIOR_FILE))
    little = [str(clip) for clip in sorted(clips.iterdir())[:2]]
    assert not adapt_voice(load(model), [Path(clip) for clip in little]).is_tuned
    arguments = ["adapt", *little, "-o", str(tmp_path / "her.voice"), "--checkpoint", str(model)]
    assert main(arguments) == 0
    assert "this model cannot learn" in capsys.readouterr().out


def test_bad_clips_are_named_and_left_out(tiny: Converter, clips: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no sound")
    result = adapt_voice(tiny, [bad, *sorted(clips.iterdir())[:2]])
    assert result.clips == 2
    assert [other.file for other in result.left_out] == [bad]
    with pytest.raises(VoiceError, match=r"bad\.wav"):
        adapt_voice(tiny, [bad])


def test_a_clip_too_short_for_a_voice_is_left_out(
    tiny: Converter, clips: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short.wav"
    write_audio(short, Audio(make_voice(150.0, seconds=0.4).astype(np.float32), 16_000))
    result = adapt_voice(tiny, [*sorted(clips.iterdir())[:2], short])
    assert [other.file for other in result.left_out] == [short]
    with pytest.raises(VoiceError, match=r"short\.wav"):
        adapt_voice(tiny, [short])


def test_silence_is_not_counted_as_speech(tiny: Converter, clips: Path, tmp_path: Path) -> None:
    padded = []
    for file in sorted(clips.iterdir()):
        spoken = read_audio(file).waveform[: 2 * 16_000]  # 6 clips of 5 s, of which 2 s are speech
        silence = np.zeros(3 * 16_000, np.float32)
        padded.append(tmp_path / file.name)
        write_audio(padded[-1], Audio(np.concatenate([spoken, silence]), 16_000))
    result = adapt_voice(tiny, padded, steps=1)
    assert result.speech_s == pytest.approx(12.0, abs=1.0)
    assert result.tuned_error_db is None


def test_adapting_on_the_command_line(
    tiny: Converter,
    tiny_checkpoint: Path,
    clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept = tmp_path / "her.voice"
    arguments = ["adapt", str(clips), "-o", str(kept), "--steps", "5"]
    assert main([*arguments, "--checkpoint", str(tiny_checkpoint)]) == 0
    assert "held-out clips come back" in capsys.readouterr().out
    assert load_voice(kept, tiny.model_sha256).name == "her"
    (tmp_path / "empty").mkdir()
    assert main(["adapt", str(tmp_path / "empty"), "-o", str(kept)]) == 2
    assert "no audio files" in capsys.readouterr().err
    assert main(["adapt", str(clips), "-o", str(tmp_path / "her.wav")]) == 2
    assert "her.wav" in capsys.readouterr().err
