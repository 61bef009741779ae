from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import TINY_AUTOENCODER
from vc.checkpoint import (
    inspect_checkpoint,
    load_autoencoder,
    load_vocoder,
    save_checkpoint,
)
from vc.config import SHIPPED, FeatureConfig
from vc.convert import load
from vc.errors import CheckpointError
from vc.model.autoencoder import Autoencoder


@pytest.fixture
def copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))


def test_loading_and_saving_again_changes_no_bit(tmp_path: Path) -> None:
    torch.manual_seed(1)
    features = FeatureConfig(level_db=-20.0)
    save_checkpoint(Autoencoder(TINY_AUTOENCODER, features), tmp_path / "a", 7, {"x": 0.5})
    model = load_autoencoder(tmp_path / "a")
    save_checkpoint(model, tmp_path / "b", 7, {"x": 0.5})
    assert not model.training
    assert model.features == features
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def _save_in_part(
    monkeypatch: pytest.MonkeyPatch, model: Autoencoder, folder: Path, step: int, allowed: int
) -> None:
    """Save, but for an interruption once `allowed` files are written or moved."""
    left = allowed

    def move(source: Path, target: Path) -> None:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        shutil.move(source, target)

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr("os.replace", move)
        patch.setattr(Path, "replace", move)
        save_checkpoint(model, folder, step, {})


def test_a_checkpoint_that_is_being_replaced_can_be_loaded_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (Autoencoder(TINY_AUTOENCODER, FeatureConfig()) for _ in range(2))
    steps: list[int] = []
    for allowed in range(4):  # files that are written or moved before the interruption
        folder = tmp_path / str(allowed)
        save_checkpoint(old, folder, 1, {})
        _save_in_part(monkeypatch, new, folder, 2, allowed)
        steps.append(inspect_checkpoint(folder).step)
        saved = (old, new)[steps[-1] - 1].decoder.project.weight
        torch.testing.assert_close(
            load_autoencoder(folder).decoder.project.weight, saved.half().float()
        )
    assert steps == [1, 1, 2, 2]
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors"}


def test_a_checkpoint_survives_a_second_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [Autoencoder(TINY_AUTOENCODER, FeatureConfig()) for _ in range(3)]
    steps: list[int] = []
    for second in range(5):  # files that are written or moved before it
        folder = tmp_path / str(second)
        save_checkpoint(models[0], folder, 1, {})
        _save_in_part(monkeypatch, models[1], folder, 2, allowed=2)
        _save_in_part(monkeypatch, models[2], folder, 3, allowed=second)
        steps.append(inspect_checkpoint(folder).step)
        saved = models[steps[-1] - 1].decoder.project.weight
        assert torch.equal(load_autoencoder(folder).decoder.project.weight, saved.half().float())
    assert steps == [2, 2, 2, 3, 3]


def test_a_loaded_model_decodes_bit_for_bit_what_was_saved(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = Autoencoder(TINY_AUTOENCODER, FeatureConfig()).eval()
    model.load_state_dict({k: v.half().float() for k, v in model.state_dict().items()})
    save_checkpoint(model, tmp_path / "a", 1, {})
    mel, f0, voiced = torch.randn(1, 80, 50), torch.full((1, 50), 5.0), torch.ones(1, 50)
    with torch.inference_mode():
        assert torch.equal(
            load_autoencoder(tmp_path / "a")(mel, f0, voiced), model(mel, f0, voiced)
        )


def test_description_can_be_read_without_the_weights(copy: Path) -> None:
    (copy / "vocoder" / "model.safetensors").unlink()
    info = inspect_checkpoint(copy / "vocoder")
    assert (info.kind, info.step) == ("vocoder", 1)
    assert info.features == FeatureConfig()


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_damaged_weights_are_refused_at_every_cut(copy: Path) -> None:
    path = copy / "vocoder" / "model.safetensors"
    data = path.read_bytes()
    for length in (0, 1, 8, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match="damaged") as caught:
            load_vocoder(path.parent)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format_version": 99}, "format 99"),
        ({"kind": "diffusion"}, "holds a diffusion"),
        ({"model": {"widht": 3}}, "unknown configuration key"),
        ({"features": {"hop_length": -1}}, "hop_length"),
        ({"model": {"width": 48}}, "does not fit"),
        ({"model": {"f0_bands": 1}}, "f0_bands"),
        ({"features": {"n_mels": 64}}, "n_mels must be that of features, 64, not 80"),
    ],
)
def test_foreign_description_is_refused(copy: Path, change: dict, reason: str) -> None:
    _edit(copy / "autoencoder" / "config.json", **change)
    with pytest.raises(CheckpointError, match=reason):
        load_autoencoder(copy / "autoencoder")


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        load(tmp_path)
    (copy / "autoencoder" / "config.json").write_bytes(b"\x80\x04\x95 not json")
    with pytest.raises(CheckpointError, match="damaged"):
        load(copy)
    (copy / "autoencoder" / "config.json").write_text("[1, 2]")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load(copy)


def test_vocoder_and_autoencoder_must_fit_each_other(copy: Path) -> None:
    other = Autoencoder(TINY_AUTOENCODER, FeatureConfig(level_db=-20.0))
    save_checkpoint(other, copy / "autoencoder", 1, {})
    with pytest.raises(CheckpointError, match="different features"):
        load(copy)


def test_a_pickle_is_never_opened(copy: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Attack:
        def __reduce__(self) -> tuple:
            return (Path.touch, (marker,))

    path = copy / "vocoder" / "model.safetensors"
    torch.save(Attack(), path)
    with pytest.raises(CheckpointError):
        load_vocoder(path.parent)
    assert not marker.exists()


def test_what_ships_is_small_and_whole() -> None:
    files = [f for f in SHIPPED.parent.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 26e6
    assert {f.suffix for f in files} <= {".safetensors", ".json", ".md"}
    for part in ("autoencoder", "vocoder"):
        weights = load_file(SHIPPED / part / "model.safetensors")
        assert all(torch.isfinite(w.float()).all() for w in weights.values())
