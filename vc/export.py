"""Export: the whole model as ONNX graphs, for programs without PyTorch.

Six graphs make a conversion: features, content encoder, speaker encoder, decoder, vocoder and
temporal envelope; the number of clips and their length are free in each. Beside them `export.json`
says what they were made from. `recipes/onnx/convert.py` converts with them, ONNX Runtime and NumPy
alone.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim

import vc
from vc.config import to_dict
from vc.convert import Converter, Progress
from vc.errors import CheckpointError, VCError
from vc.exportable import (
    ExportableContentEncoder,
    ExportableDecoder,
    ExportableFeatures,
    ExportableSpeakerEncoder,
    ExportableTemporalEnvelope,
    ExportableVocoder,
)
from vc.json_text import parse_json
from vc.model.details import MIN_FRAMES
from vc.safe_write import check_parent

FORMAT_VERSION = 1
DESCRIPTION_FILE = "export.json"

_FILES = {  # all that an export writes
    DESCRIPTION_FILE,
    "content_encoder.onnx",
    "decoder.onnx",
    "features.onnx",
    "speaker_encoder.onnx",
    "temporal_envelope.onnx",
    "vocoder.onnx",
}
_BATCH, _FRAMES = 2, 101  # of the clips that are traced; odd, so that no stride seems to divide it


class Graph(NamedTuple):
    """One file of an export."""

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Input(NamedTuple):
    """What a graph is given."""

    example: Tensor
    free: dict[int, Dim]  # the axes that may have any size


def export_onnx(
    converter: Converter, folder: str | os.PathLike[str], progress: Progress | None = None
) -> list[Path]:
    """Write a folder of ONNX graphs, whole or not at all.

    Args:
        converter: with a neural vocoder.
        folder: new, or an earlier export, which is replaced.
        progress: called with the share that is done, 0 to 1, after each graph.

    Returns:
        The files.

    Raises:
        VCError: packages are missing, or the folder holds something else or cannot be written.
        CheckpointError: the model has no neural vocoder.
    """
    folder = Path(folder)
    check_exportable_to(folder)
    place = Path(os.path.realpath(folder))
    beside = place.with_name(f".{place.name}.new")
    try:
        shutil.rmtree(beside, ignore_errors=True)  # of an export that was killed
        beside.mkdir()
        _write_all(converter, beside, progress or (lambda share: None))
        _replace(place, beside)
    except OSError as error:
        raise VCError(f"{folder}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return sorted(folder.iterdir())


def check_exportable_to(folder: Path) -> None:
    """Refuse a folder before any work is done for it.

    Raises:
        VCError: see `export_onnx`.
    """
    if find_spec("onnx") is None or find_spec("onnxscript") is None:
        raise VCError("exporting needs ONNX; install it with: pip install 'vc[export]'")
    if folder.is_file():
        raise VCError(f"{folder}: is a file; name a folder")
    check_parent(folder)
    if not folder.is_dir():
        return
    if folder.samefile("."):
        raise VCError(f"{folder}: is the folder that you are in; name another folder")
    if not _is_replaceable(folder):
        raise VCError(f"{folder}: holds something other than an export; name another folder")


def _is_replaceable(folder: Path) -> bool:
    """Whether a folder is empty, or holds an export and nothing else."""
    try:
        files = list(folder.iterdir())
        if not files:
            return True
        if not all(file.name in _FILES and file.is_file() for file in files):
            return False
        description = parse_json((folder / DESCRIPTION_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(description, dict) and {"format_version", "model"} <= description.keys()


def _replace(folder: Path, beside: Path) -> None:
    """Move an export to its place; an earlier one is kept until it is there."""
    earlier = folder.with_name(f".{folder.name}.replaced")
    try:
        if folder.is_dir():
            shutil.rmtree(earlier, ignore_errors=True)  # of an export that was killed
            folder.rename(earlier)
        beside.rename(folder)
    except BaseException:
        with suppress(OSError):
            earlier.rename(folder)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def _write_all(converter: Converter, folder: Path, progress: Progress) -> None:
    inputs, wanted = example_inputs(converter), graphs(converter)
    for number, graph in enumerate(wanted, 1):
        given = [inputs[name] for name in graph.inputs]
        with _quiet():
            program = torch.onnx.export(
                graph.module.eval(),
                tuple(one.example for one in given),
                input_names=graph.inputs,
                output_names=graph.outputs,
                dynamic_shapes=tuple(one.free for one in given),
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        program.save(folder / f"{graph.name}.onnx", external_data=False)
        progress(number / len(wanted))
    description = {
        "format_version": FORMAT_VERSION,
        "package_version": vc.__version__,
        "model": converter.model_sha256,
        "features": to_dict(converter.features),
    }
    text = json.dumps(description, indent=2) + "\n"
    (folder / DESCRIPTION_FILE).write_text(text, encoding="utf-8")


def graphs(converter: Converter) -> list[Graph]:
    """What is exported of a converter.

    Raises:
        CheckpointError: it has no neural vocoder.
    """
    if converter.vocoder is None:
        raise CheckpointError("a model without a neural vocoder cannot be exported")
    model, pitch = converter.autoencoder, ("log_f0", "voiced")
    return [
        Graph("features", ExportableFeatures(converter.log_mel), ("waveform",), ("log_mel", "f0")),
        Graph("content_encoder", ExportableContentEncoder(model), ("log_mel",), ("content",)),
        Graph(
            "speaker_encoder",
            ExportableSpeakerEncoder(model),
            ("log_mel",),
            ("speaker_embedding",),
        ),
        Graph(
            "decoder",
            ExportableDecoder(model),
            ("content", "speaker_embedding", "details", *pitch, "source_log_mel", "source_log_f0"),
            ("log_mel",),
        ),
        Graph(
            "vocoder",
            ExportableVocoder(converter.vocoder),
            ("log_mel", *pitch, "noise"),
            ("waveform",),
        ),
        Graph(
            "temporal_envelope",
            ExportableTemporalEnvelope(converter.temporal_envelope),
            ("spoken", "source"),
            ("waveform",),
        ),
    ]


def example_inputs(converter: Converter) -> dict[str, Input]:
    """One of each input, of the shape that it has for two clips."""
    config, hop = converter.autoencoder.config, converter.features.hop_length
    batch, frames = Dim("batch"), Dim("frames")
    content_frames = frames if config.content_stride == 1 else Dim("content_frames")
    content = torch.zeros(_BATCH, config.content_dim, -(-_FRAMES // config.content_stride))
    of_waveform = {0: batch, 1: Dim("samples")}
    return {
        "waveform": Input(torch.zeros(_BATCH, _FRAMES * hop), of_waveform),
        "spoken": Input(torch.zeros(_BATCH, _FRAMES * hop), of_waveform),
        "source": Input(torch.zeros(_BATCH, _FRAMES * hop), of_waveform),
        "log_mel": Input(torch.zeros(_BATCH, config.n_mels, _FRAMES), {0: batch, 2: frames}),
        "source_log_mel": Input(torch.zeros(_BATCH, config.n_mels, _FRAMES), {0: batch, 2: frames}),
        "content": Input(content, {0: batch, 2: content_frames}),
        "speaker_embedding": Input(torch.zeros(_BATCH, config.embedding_dim), {0: batch}),
        "details": Input(
            torch.zeros(_BATCH, 2 * MIN_FRAMES, config.n_mels),
            {0: batch, 1: Dim("kept", min=MIN_FRAMES)},
        ),
        # tensors of their own: one that was given twice would become one input
        "log_f0": Input(torch.zeros(_BATCH, _FRAMES), {0: batch, 1: frames}),
        "source_log_f0": Input(torch.zeros(_BATCH, _FRAMES), {0: batch, 1: frames}),
        "voiced": Input(torch.zeros(_BATCH, _FRAMES), {0: batch, 1: frames}),
        "noise": Input(torch.zeros(_BATCH, _FRAMES * hop), {0: batch, 1: hop * frames}),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on its own inner workings."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
