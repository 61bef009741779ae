from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import make_voice
from vc.audio import Audio, read_audio, write_audio
from vc.cli import main
from vc.convert import Converter
from vc.errors import VCError
from vc.export import export_onnx
from vc.exportable import ExportableDecoder
from vc.pitch import estimate_f0

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

EXAMPLE = Path(__file__).parent.parent / "recipes" / "onnx" / "convert.py"
GRAPHS = (
    "content_encoder",
    "decoder",
    "features",
    "speaker_encoder",
    "temporal_envelope",
    "vocoder",
)
Run = Callable[..., list[np.ndarray]]


@pytest.fixture(scope="module")
def exported(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "graphs"
    (folder.parent / ".graphs.new").mkdir()  # what a killed export leaves
    arguments = ["export", "--format", "onnx", "-o", folder, "--checkpoint", tiny_checkpoint]
    assert main([str(a) for a in arguments]) == 0
    assert sorted(folder.parent.iterdir()) == [folder]
    return folder


@pytest.fixture(scope="module")
def run(exported: Path) -> Run:
    sessions = {name: onnxruntime.InferenceSession(exported / f"{name}.onnx") for name in GRAPHS}

    def run(graph: str, *inputs: torch.Tensor | np.ndarray) -> list[np.ndarray]:
        names = [given.name for given in sessions[graph].get_inputs()]
        values = (np.asarray(value) for value in inputs)
        return sessions[graph].run(None, dict(zip(names, values, strict=True)))

    return run


def difference_db(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(20 * np.log10(np.std(ours - theirs) / np.std(theirs)))


def test_every_part_is_there_and_described(exported: Path) -> None:
    assert {file.name for file in exported.iterdir()} == {
        "export.json",
        *(f"{name}.onnx" for name in GRAPHS),
    }


def test_an_export_shows_how_far_it_is(
    tiny: Converter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    monkeypatch.setattr("vc.export.torch.onnx.export", lambda *_, **__: _Nothing())
    export_onnx(tiny, tmp_path / "graphs", shares.append)
    assert shares == pytest.approx([number / len(GRAPHS) for number in range(1, len(GRAPHS) + 1)])


class _Nothing:
    """An exported graph that writes nothing."""

    def save(self, path: Path, external_data: bool) -> None:
        assert not external_data


@pytest.mark.parametrize("samples", [513, 4_001, 40_000])
def test_features_are_those_of_pytorch(tiny: Converter, run: Run, samples: int) -> None:
    clips = np.stack([make_voice(hertz)[:samples] for hertz in (110.0, 217.0)]) * 0.1
    clips = np.pad(clips, ((0, 0), (0, samples - clips.shape[1]))).astype(np.float32)
    log_mel, f0 = run("features", clips)
    np.testing.assert_allclose(log_mel, tiny.log_mel(torch.from_numpy(clips)), atol=1e-2)
    for clip, track in zip(clips, f0, strict=True):
        np.testing.assert_allclose(track, estimate_f0(clip, tiny.features), atol=1e-2)


@pytest.mark.parametrize(("batch", "frames"), [(1, 3), (3, 7), (1, 64), (2, 151)])
def test_networks_are_those_of_pytorch(tiny: Converter, run: Run, batch: int, frames: int) -> None:
    generator = torch.Generator().manual_seed(frames)
    log_mel = 2 * torch.randn(batch, 80, frames, generator=generator) - 5
    log_f0 = 5 + 0.2 * torch.randn(batch, frames, generator=generator).cumsum(dim=1).tanh()
    voiced = (torch.rand(batch, frames, generator=generator) > 0.3).float()
    noise = torch.randn(batch, frames * 256, generator=generator)
    details = 2 * torch.randn(batch, 20 + frames, 80, generator=generator) - 5
    assert tiny.vocoder is not None
    with torch.inference_mode():
        content, speaker = tiny.autoencoder.encode(log_mel)
        said = (content, speaker.flip(0), details, log_f0, voiced, log_mel, log_f0 - 0.5)
        decoded = ExportableDecoder(tiny.autoencoder)(*said)
        waveform = tiny.vocoder(decoded, log_f0, voiced, noise, decoded=True)
        source = noise * torch.linspace(0, 0.1, noise.shape[-1])
        followed = tiny.temporal_envelope(waveform, source)
    for graph, inputs, expected in (
        ("content_encoder", (log_mel,), content),
        ("speaker_encoder", (log_mel,), speaker),
        ("decoder", said, decoded),
    ):
        np.testing.assert_allclose(run(graph, *inputs)[0], expected, atol=1e-3, err_msg=graph)
    for graph, inputs, expected in (
        ("vocoder", (decoded, log_f0, voiced, noise), waveform),
        ("temporal_envelope", (waveform, source), followed),
    ):
        (ours,) = run(graph, *inputs)
        assert ours.shape == expected.shape
        assert difference_db(ours, expected.numpy()) < -50, graph


def test_example_converts_as_vc_does_but_without_it(
    tiny: Converter, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, reference = Audio(make_voice(110.0), 16_000), Audio(make_voice(220.0), 16_000)
    padded = Audio(np.pad(reference.waveform, (9_000, 5_000)), 16_000)
    write_audio(tmp_path / "source.wav", source)
    write_audio(tmp_path / "reference.wav", padded)
    output = tmp_path / "converted.wav"
    code = (
        "import runpy, sys; sys.modules.update(torch=None, vc=None); "
        "runpy.run_path(sys.argv[1], run_name=sys.argv.pop(0))"
    )
    paths = [exported, tmp_path / "source.wav", tmp_path / "reference.wav", output]
    subprocess.run([sys.executable, "-c", code, EXAMPLE, *paths], check=True)

    def noise(batch: int, samples: int, generator: torch.Generator) -> torch.Tensor:
        drawn = np.random.default_rng(0).standard_normal((batch, samples))
        return torch.from_numpy(drawn).float()

    monkeypatch.setattr(torch, "randn", noise)
    without_denoiser = Converter(tiny.autoencoder, tiny.vocoder)
    expected = without_denoiser.convert(paths[1], paths[2], learn=False).waveform
    converted = read_audio(output).waveform
    assert converted.shape == expected.shape
    assert difference_db(converted, expected) < -30  # details may come from another like frame


def test_a_wrong_place_or_format_is_refused(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("mine")
    for place, reason in (
        ("file", "is a file; name a folder"),
        ("folder", "holds something other than an export"),
        ("nowhere/folder", "does not exist"),
    ):
        assert main(["export", "-o", str(tmp_path / place)]) == 2
        error = capsys.readouterr().err.strip()
        assert place in error and reason in error and "\n" not in error
    assert (tmp_path / "file").read_text() == "mine"
    assert [file.name for file in (tmp_path / "folder").iterdir()] == ["file"]
    with pytest.raises(SystemExit):
        main(["export", "-o", str(exported), "--format", "tflite"])


def test_only_what_an_export_wrote_is_replaced(
    tiny: Converter, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vc.export.torch.onnx.export", lambda *_, **__: _Nothing())
    for name, text in (("mine.txt", "mine"), ("export.json", '{"name": "mine"}')):
        folder = tmp_path / name
        shutil.copytree(exported, folder)
        (folder / name).write_text(text)
        with pytest.raises(VCError, match="holds something other than an export"):
            export_onnx(tiny, folder)
        assert (folder / name).read_text() == text
    (folder / "export.json").write_bytes((exported / "export.json").read_bytes())
    (tmp_path / "link").symlink_to(folder)
    export_onnx(tiny, tmp_path / "link")
    assert [file.name for file in folder.iterdir()] == ["export.json"]
    monkeypatch.chdir(folder)
    with pytest.raises(VCError, match="is the folder that you are in"):
        export_onnx(tiny, ".")
    assert len(list(tmp_path.iterdir())) == 3  # nothing is left beside them


def test_an_earlier_export_stays_until_the_new_one_is_there(
    tiny: Converter, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vc.export.torch.onnx.export", lambda *_, **__: _Nothing())
    folder = tmp_path / "graphs"
    shutil.copytree(exported, folder)
    rename = os.rename

    def full(path: Path, target: Path) -> None:
        if path.name.endswith(".new"):
            raise OSError(28, "No space left on device")
        rename(path, target)

    monkeypatch.setattr(Path, "rename", full)
    monkeypatch.setattr("vc.export.os.replace", full)
    with pytest.raises(VCError, match="No space left"):
        export_onnx(tiny, folder)
    assert {f.name for f in folder.iterdir()} == {f.name for f in exported.iterdir()}
    assert list(tmp_path.iterdir()) == [folder]


def test_a_missing_package_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vc.export.find_spec", lambda name: None)
    assert main(["export", "-o", str(tmp_path / "graphs")]) == 2
    assert "pip install 'vc[export]'" in capsys.readouterr().err
