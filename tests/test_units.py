from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import EXAMPLES, make_voice
from vc.audio import Audio, read_audio
from vc.checkpoint import load_unit_coder, save_checkpoint
from vc.cli import main
from vc.config import SHIPPED, DataConfig, FeatureConfig, UnitConfig
from vc.convert import Converter
from vc.errors import CheckpointError, UnitsError
from vc.model.unit_coder import UnitCoder
from vc.pitch import estimate_f0, pitch_range
from vc.unit_tables import load_tables, save_tables
from vc.unit_tree import bracketed, grow_trees, learn_merges
from vc.units import (
    UnitModel,
    Units,
    decode_units,
    encode_units,
    format_units,
    load_unit_model,
    load_units,
    parse_units,
    spread_pitch,
    unit_log_f0,
)

TINY_UNITS = UnitConfig(
    content_dim=4,
    width=16,
    encoder_blocks=1,
    decoder_blocks=1,
    code_dim=4,
    codebook_size=8,
    stages=2,
)


@pytest.fixture(scope="module")
def model(shipped: Converter) -> UnitModel:
    return load_unit_model(shipped)


@pytest.fixture(scope="module")
def units(shipped: Converter, model: UnitModel) -> Units:
    audio = read_audio(EXAMPLES / "source.flac")
    part = Audio(audio.waveform[: 2 * audio.sample_rate], audio.sample_rate)
    return encode_units(shipped, part, model=model)


def median(audio: Audio) -> float:
    found = pitch_range(estimate_f0(audio.waveform, FeatureConfig()))
    assert found is not None
    return found.median


@pytest.mark.parametrize("tree", [False, True])
def test_text_says_exactly_the_units_with_brackets_or_without(
    units: Units, model: UnitModel, tree: bool
) -> None:
    text = format_units(units, model, tree)
    parsed = parse_units(text, model)
    assert parsed.runs == units.runs and parsed.middle_hz == units.middle_hz
    assert units.frames == -(-(2 * 16_000 // 256 + 1) // model.mel_frames)


def test_units_are_spoken_as_long_and_in_the_references_pitch(
    shipped: Converter, model: UnitModel, units: Units
) -> None:
    reference = read_audio(EXAMPLES / "reference.flac")
    spoken = decode_units(shipped, units, reference, model=model)
    assert len(spoken.waveform) == units.frames * model.mel_frames * 256
    assert abs(median(spoken) - median(reference)) < 0.15
    higher = decode_units(shipped, units, reference, pitch="keep", model=model)
    assert abs(median(higher) - np.log(units.middle_hz)) < 0.15


def test_a_flat_text_has_no_melody(shipped: Converter, model: UnitModel) -> None:
    flat = encode_units(shipped, EXAMPLES / "source.flac", flat=True, model=model)
    assert {run.semitones for run in flat.runs} == {None, 0.0}


def test_a_pitch_far_from_the_middle_can_be_read_again(
    shipped: Converter, model: UnitModel
) -> None:
    low, high = (make_voice(f0, seconds=s, sample_rate=16_000) for f0, s in ((64.0, 3.0), (580, 1)))
    units = encode_units(shipped, Audio(np.concatenate([low, high]), 16_000), model=model)
    assert max(run.semitones or 0.0 for run in units.runs) > 30
    assert parse_units(format_units(units, model), model).runs == units.runs


def test_a_voice_at_the_limit_of_what_is_tracked_can_be_read_again(
    shipped: Converter, model: UnitModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding = shipped.embed(Audio(make_voice(500.0), 16_000))
    tracked = embedding._replace(f0=np.where(embedding.f0 > 0, np.float32(609), 0))
    monkeypatch.setattr(shipped, "embed", lambda clip: tracked)
    units = encode_units(shipped, Audio(make_voice(500.0), 16_000), model=model)
    assert units.middle_hz == 600 and units.runs[5].semitones == 0.5
    assert parse_units(format_units(units, model), model).runs == units.runs


def test_a_text_may_begin_with_a_byte_order_mark(
    units: Units, model: UnitModel, tmp_path: Path
) -> None:
    path = tmp_path / "a.units"
    path.write_text(format_units(units, model), encoding="utf-8-sig")
    assert load_units(path, model).runs == units.runs


def test_an_edited_text_is_spoken(shipped: Converter, model: UnitModel, units: Units) -> None:
    head = "\n".join(format_units(units, model).splitlines()[:3])
    edited = parse_units(f"{head}\n# by hand\n(7:2:+1.5 8:1) 9:3:-2  # and more\n", model)
    assert [tuple(run) for run in edited.runs] == [(7, 2, 1.5), (8, 1, None), (9, 3, -2.0)]
    spoken = decode_units(shipped, edited, EXAMPLES / "reference.flac", model=model)
    assert len(spoken.waveform) == 6 * model.mel_frames * 256


def test_all_of_the_longest_clip_can_be_read_again(units: Units, model: UnitModel) -> None:
    frames = 1 + int(300 * model.coder.features.frame_rate)
    longest = -(-frames // model.mel_frames)
    head = "\n".join(format_units(units, model).splitlines()[:3])
    assert parse_units(f"{head}\n7:{longest}\n", model).runs
    with pytest.raises(UnitsError, match="longer than 5 minutes"):
        parse_units(f"{head}\n7:{longest + 1}\n", model)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("7:2 x", "line 5: 'x' should be unit:frames"),
        ("1024:2", "line 5: '1024:2': units go from 0 to 1023"),
        ("7:0", "at least 1 frame"),
        ("7:1:+40", "36 semitones"),
        ("7:1:nan", "should be unit:frames"),
        ("7:2 7:999999", "line 5: here it gets longer than 5 minutes"),
        ("(7:2", "not closed"),
        ("7:2)", "line 5: a bracket closes"),
        ("# nothing", "no units after the head"),
    ],
)
def test_a_wrong_line_is_named(units: Units, model: UnitModel, line: str, reason: str) -> None:
    head = "\n".join(format_units(units, model).splitlines()[:4])
    with pytest.raises(UnitsError, match=r"my\.units") as error:
        parse_units(f"{head}\n{line}\n", model, "my.units")
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("vc units 1", "vc units 2", "format 2"),
        ("vc units 1", "hello", "line 1: not a units file"),
        ("model ", "modell ", "line 2: should say 'model'"),
        ("middle ", "middle 9", "line 3: should say 'middle'"),
    ],
)
def test_a_wrong_head_is_refused(
    units: Units, model: UnitModel, old: str, new: str, reason: str
) -> None:
    text = format_units(units, model).replace(old, new, 1)
    with pytest.raises(UnitsError, match=reason):
        parse_units(text, model)


def test_units_of_another_model_are_refused(units: Units, model: UnitModel) -> None:
    text = format_units(units, model).replace(units.model[:12], "0" * 12)
    with pytest.raises(UnitsError, match="another model"):
        parse_units(text, model)


def test_a_model_without_units_says_so(tiny: Converter) -> None:
    with pytest.raises(CheckpointError, match="has no units"):
        encode_units(tiny, EXAMPLES / "source.flac")


def test_frequent_neighbours_become_trees_whose_leaves_are_the_clip() -> None:
    clips = [[1, 2, 3, 1, 2, 3], [1, 2, 0, 1, 2, 3], [0, 0, 0]]
    merges = learn_merges(clips, 4, 10)
    assert merges[0].tolist() == [1, 2] and merges[1].tolist() == [4, 3]
    for clip in [*clips, [3, 3, 1], [0, 0, 0, 0, 0], [2]]:
        trees = grow_trees(clip, merges, 4)
        text = " ".join(bracketed(tree, [str(unit) for unit in clip]) for tree in trees)
        assert [int(x) for x in text.replace("(", " ").replace(")", " ").split()] == clip
        assert [t.start for t in trees] == [0, *(t.stop for t in trees[:-1])]
    assert " ".join(bracketed(t, "abc") for t in grow_trees([1, 2, 3], merges, 4)) == "((a b) c)"


def test_pitch_is_a_line_between_units() -> None:
    f0 = np.array([100, 100, 100, 0, 0, 0, 200, 200, 0, 0], np.float32)
    log_f0 = unit_log_f0(f0, 3, 2)
    np.testing.assert_allclose(np.exp(log_f0), [100, np.nan, 200, np.nan], rtol=1e-5)
    line, voiced = spread_pitch(log_f0, 3, FeatureConfig())
    assert voiced.tolist() == [1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert np.exp(line[4]) == pytest.approx((100 * 200) ** 0.5, rel=1e-5)
    assert spread_pitch(np.full(2, np.nan, np.float32), 3, FeatureConfig())[1].sum() == 0
    highest = spread_pitch(np.log(np.full(1, 40_000, np.float32)), 3, FeatureConfig())[0]
    assert np.exp(highest).max() <= 601


def test_a_coder_comes_back_from_its_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    coder = UnitCoder(TINY_UNITS, FeatureConfig()).eval()
    coder.start_codebooks(torch.randn(2, 4, 60))
    save_checkpoint(coder, tmp_path / "units", 1, {})
    loaded = load_unit_coder(tmp_path / "units")
    content = torch.randn(1, 4, 31)
    codes = loaded.encode(content, 2)
    assert codes.shape == (1, 2, 11)
    assert loaded.decode(codes).shape == (1, 4, 33)
    torch.testing.assert_close(loaded.encode(content, 1), codes[:, :1])


def test_more_codes_say_more(shipped: Converter, model: UnitModel) -> None:
    content = torch.from_numpy(shipped.embed(EXAMPLES / "source.flac").content.T)[None]
    codes = model.coder.encode(content, 9)
    errors = [
        float(
            (model.coder.decode(codes[:, :n])[..., : content.shape[-1]] - content).square().mean()
        )
        for n in (1, 3, 9)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[0] < 0.7  # of a variance of 1


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("first", lambda counts: counts[:, :-1]),
        ("second", lambda counts: 0 * counts),
        ("later", lambda counts: counts.astype(np.int64)),
        ("classes", lambda kinds: kinds + 200),
        ("voice", lambda voice: voice * np.float32("nan")),
        ("voicing", lambda counts: counts[:, :0]),
        ("merges", lambda merges: merges + np.uint16(1024)),
        ("pitch", lambda counts: counts[0, 0]),
    ],
)
def test_damaged_tables_are_refused(
    shipped: Converter, model: UnitModel, tmp_path: Path, name: str, change: Callable
) -> None:
    tables = replace(model.tables, **{name: change(getattr(model.tables, name))})
    place = (model.coder.config, shipped.features, shipped.autoencoder.config.embedding_dim)
    save_tables(tmp_path / "tables", tables, "model")
    with pytest.raises(CheckpointError, match="damaged; copy"):
        load_tables(tmp_path / "tables", "model", *place)
    save_tables(tmp_path / "tables", model.tables, "model")
    load_tables(tmp_path / "tables", "model", *place)
    with pytest.raises(CheckpointError, match="another model"):
        load_tables(tmp_path / "tables", "other", *place)
    with pytest.raises(CheckpointError, match="missing"):
        load_tables(tmp_path / "no", "model", *place)


def test_what_is_no_text_is_not_read_as_units(model: UnitModel, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"vc units 1\n\xff\xfe")
    for path in (tmp_path / "a", tmp_path, tmp_path / "no", Path("/dev/zero"), Path("a\0b")):
        with pytest.raises(UnitsError):
            load_units(path, model)


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, reference = EXAMPLES / "source.flac", EXAMPLES / "reference.flac"
    text, output = tmp_path / "a.units", tmp_path / "a.wav"
    assert main(["encode", str(source), "--units", "-o", str(text)]) == 0
    assert main(["decode", str(text), "--voice", str(reference), "-o", str(output)]) == 0
    assert abs(read_audio(output).duration_s - read_audio(source).duration_s) < 0.1
    capsys.readouterr()
    assert main(["encode", str(source), "--tree"]) == 0
    lines = capsys.readouterr().out.splitlines()[4:]
    assert any(line.startswith("(") and line.endswith(")") and " " in line for line in lines)
    assert len(lines) < 0.8 * sum(len(line.split()) for line in lines)
    text.write_text(text.read_text() + "zzz\n")
    assert main(["decode", str(text), "--voice", str(reference), "-o", str(output)]) == 2
    assert "a.units, line" in capsys.readouterr().err
    assert main(["encode", str(source), "-o", str(tmp_path / "no" / "a.units")]) == 2


def test_training_lowers_the_error(corpus: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    from tests.conftest import hold_out_last_voice
    from vc.config import RunConfig
    from vc.corpus import prepare
    from vc.training.loop import fit
    from vc.training.units import UnitLossConfig, UnitRecipe, UnitTask

    cache = tmp_path / "cache"
    prepare(corpus, cache, FeatureConfig(), workers=1)
    hold_out_last_voice(cache)
    recipe = UnitRecipe(
        units=TINY_UNITS,
        autoencoder=str(tiny_checkpoint / "autoencoder"),
        loss=UnitLossConfig(mel_clips=1),
        data=DataConfig(segment_frames=48, batch_size=4),
        run=RunConfig(steps=30, precision="float32"),
    )
    task = UnitTask(recipe, cache, torch.device("cpu"))
    before = task.validate()
    after = fit(task, recipe.run, tmp_path / "run")
    assert after["content_1"] < before["content_1"]
    assert load_unit_coder(tmp_path / "run").config == TINY_UNITS


def test_the_shipped_folder_is_small() -> None:
    assert sum(file.stat().st_size for file in (SHIPPED / "units").iterdir()) < 5_000_000
