from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.conftest import EXAMPLES
from vc.audio import Audio, active_level_db, read_audio
from vc.checkpoint import inspect_checkpoint
from vc.cli import main
from vc.config import FeatureConfig
from vc.convert import Converter
from vc.errors import VCError, VoiceError
from vc.pitch import PitchRange
from vc.voice import Voice, blend_voices, load_voice, save_voice

REFERENCE = EXAMPLES / "reference.flac"


@pytest.fixture
def kept(tiny: Converter, tmp_path: Path) -> Path:
    path = tmp_path / "me.voice"
    save_voice(path, tiny.voice(REFERENCE, "Ann é 🎙"), tiny.model_sha256)
    return path


def description_of(path: Path) -> dict:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["vc_voice"])


def test_a_kept_voice_converts_just_as_its_clips_do(
    tiny: Converter, kept: Path, low_voice: Audio
) -> None:
    voice = load_voice(kept, tiny.model_sha256)
    assert voice.name == "Ann é 🎙"
    assert kept.stat().st_size < 90_000
    from_clip = tiny.convert(low_voice, REFERENCE).waveform
    np.testing.assert_array_equal(tiny.convert(low_voice, kept).waveform, from_clip)
    np.testing.assert_array_equal(tiny.convert(low_voice, voice).waveform, from_clip)


def test_a_voice_file_of_before_is_as_loud_as_the_source(
    tiny: Converter, kept: Path, low_voice: Audio
) -> None:
    description = description_of(kept)
    assert description.pop("level_db") == pytest.approx(active_level_db(*read_audio(REFERENCE)))
    metadata = {"vc_voice": json.dumps(description | {"format_version": 3})}
    save_file(load_file(kept), kept, metadata)
    voice = load_voice(kept, tiny.model_sha256)
    assert voice.level_db is None
    quiet = Audio(low_voice.waveform * np.float32(0.1), low_voice.sample_rate)
    level_db = active_level_db(*tiny.convert(quiet, voice))
    assert level_db == pytest.approx(active_level_db(*quiet), abs=0.2)


def test_a_voice_belongs_to_the_weights_that_a_checkpoint_records(
    tiny: Converter, tiny_checkpoint: Path
) -> None:
    assert tiny.model_sha256 == inspect_checkpoint(tiny_checkpoint / "autoencoder").sha256


def test_a_voice_of_another_model_is_refused(kept: Path) -> None:
    with pytest.raises(VoiceError, match=r"me\.voice: made with another model"):
        load_voice(kept, "0" * 64)


def test_a_cut_voice_file_is_refused_at_every_cut(tiny: Converter, kept: Path) -> None:
    data = kept.read_bytes()
    for length in (0, 1, 8, 100, len(data) // 2, len(data) - 1):
        kept.write_bytes(data[:length])
        with pytest.raises(VoiceError, match=r"me\.voice"):
            load_voice(kept, tiny.model_sha256)
    changed = bytearray(data)
    changed[-1] ^= 0x40
    kept.write_bytes(changed)
    with pytest.raises(VoiceError, match="damaged"):
        load_voice(kept, tiny.model_sha256)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format_version": 9}, "voice format 9"),
        ({"name": 3}, "damaged"),
        ({"pitch": ["high"]}, "damaged"),
        ({"pitch": [float("nan"), 1.0]}, "damaged"),
        ({"more": 1}, "damaged"),
        ({"level_db": "loud"}, "damaged"),
        ({"level_db": float("nan")}, "damaged"),
    ],
)
def test_a_strange_description_is_refused(
    tiny: Converter, kept: Path, change: dict, reason: str
) -> None:
    save_file(load_file(kept), kept, {"vc_voice": json.dumps(description_of(kept) | change)})
    with pytest.raises(VoiceError, match=reason):
        load_voice(kept, tiny.model_sha256)


def test_other_safetensors_files_are_not_voices(tiny: Converter, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(VoiceError, match="not a voice"):
        load_voice(tmp_path / "a.safetensors", tiny.model_sha256)
    save_file({"weight": torch.zeros(500_000)}, tmp_path / "b.safetensors")
    with pytest.raises(VoiceError, match="too large"):
        load_voice(tmp_path / "b.safetensors", tiny.model_sha256)


def test_a_blend_lies_between_its_voices(tiny: Converter) -> None:
    config = tiny.autoencoder.config
    low, high = (
        Voice(torch.randn(config.embedding_dim), PitchRange(pitch, 0.2), level_db=level_db)
        for pitch, level_db in ((4.6, -30.0), (5.4, -22.0))
    )
    low, high = (blend_voices([voice], [1], config) for voice in (low, high))
    mostly_low = blend_voices([low, high], [3, 1], config)
    assert mostly_low.pitch is not None
    assert mostly_low.pitch.median == pytest.approx(4.8)
    assert mostly_low.level_db == pytest.approx(-28)
    to_low, to_high = (
        torch.cosine_similarity(mostly_low.speaker_embedding, v.speaker_embedding, dim=0)
        for v in (low, high)
    )
    assert to_low > to_high
    only = blend_voices([low, high], [0, 2], config)
    torch.testing.assert_close(only.speaker_embedding, high.speaker_embedding)
    for weights in ([1.0], [-1.0, 2.0], [0.0, 0.0], [float("nan"), 1.0]):
        with pytest.raises(VoiceError):
            blend_voices([low, high], weights, config)


def test_strength_goes_from_the_sources_voice_to_the_references(
    tiny: Converter, shipped: Converter, low_voice: Audio, high_voice: Audio
) -> None:
    from vc.pitch import estimate_f0, pitch_range

    def median(audio: Audio) -> float:
        found = pitch_range(estimate_f0(audio.waveform, FeatureConfig()))
        assert found is not None
        return found.median

    full = tiny.convert(low_voice, high_voice).waveform
    assert np.array_equal(full, tiny.convert(low_voice, high_voice, strength=1.0).waveform)
    none = tiny.convert(low_voice, high_voice, strength=0.0)
    own = tiny.convert(low_voice, low_voice, learn=False)
    np.testing.assert_allclose(none.waveform, own.waveform, atol=1e-3)
    # untrained networks may drown the pitch
    half = shipped.convert(low_voice, high_voice, strength=0.5)
    assert median(low_voice) + 0.1 < median(half) < median(high_voice) - 0.1
    with pytest.raises(VCError, match="between 0 and 1"):
        tiny.convert(low_voice, high_voice, strength=1.5)


def test_a_name_that_is_not_text_comes_back_as_it_was(
    tiny: Converter, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.voice")  # Latin-1, from an old disk
    arguments = ["voice", str(REFERENCE), "--quick", "-o", str(path)]
    assert main([*arguments, "--checkpoint", str(tiny_checkpoint)]) == 0
    assert load_voice(path, tiny.model_sha256).name == path.stem


def test_a_voice_never_takes_the_place_of_what_it_is_made_of(
    tiny_checkpoint: Path, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = kept.read_bytes()
    (tmp_path / "link.voice").symlink_to(kept)
    for arguments in (
        ["voice", str(REFERENCE), str(kept)],
        ["adapt", str(REFERENCE), str(kept)],
        ["new-voice", "--like", str(kept)],
        ["new-voice", "--like", str(tmp_path / "link.voice")],
    ):
        assert main([*arguments, "-o", str(kept), "--checkpoint", str(tiny_checkpoint)]) == 2
        assert "me.voice: is an input as well" in capsys.readouterr().err
    assert kept.read_bytes() == before


def test_a_voice_is_kept_and_used_on_the_command_line(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voice, output = tmp_path / "me.voice", tmp_path / "out.wav"
    model = ["--checkpoint", str(tiny_checkpoint)]
    assert main(["voice", str(REFERENCE), "-o", str(voice), *model]) == 0
    assert "'me'" in capsys.readouterr().out
    source = EXAMPLES / "source.flac"
    arguments = ["convert", str(source), str(voice), "-o", str(output), "--quiet"]
    assert main([*arguments, "--strength", "0.5", *model]) == 0
    assert len(read_audio(output).waveform) == len(read_audio(source).waveform)
    assert main(arguments) == 2  # the shipped model is another
    assert "another model" in capsys.readouterr().err
    assert main(["voice", str(REFERENCE), "-o", str(tmp_path / "me.wav"), *model]) == 2
    assert ".voice" in capsys.readouterr().err
