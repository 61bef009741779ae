"""A checkpoint is a folder: `model.safetensors` and the `config.json` that says what it is.

The class of a network comes from a closed registry here, never from a path inside a file; nothing
is ever unpickled; weights are checked against the hash that was written with them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

import vc
from vc.config import (
    AutoencoderConfig,
    DenoiserConfig,
    FeatureConfig,
    ListenerConfig,
    MaskedPredictorConfig,
    UnitConfig,
    VocoderConfig,
    from_dict,
    require_fit,
    to_dict,
)
from vc.errors import CheckpointError, ConfigError, DataError
from vc.json_text import parse_json
from vc.model.autoencoder import Autoencoder
from vc.model.denoiser import Denoiser
from vc.model.listener import Listener
from vc.model.masked_predictor import MaskedPredictor
from vc.model.unit_coder import UnitCoder
from vc.safe_write import make_folder, write_bytes
from vc.vocoder.source_filter import SourceFilterVocoder

FORMAT_VERSION = 1
WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
_NEXT_WEIGHTS_FILE = "model.next.safetensors"

C = TypeVar(
    "C",
    AutoencoderConfig,
    VocoderConfig,
    DenoiserConfig,
    UnitConfig,
    MaskedPredictorConfig,
    ListenerConfig,
)
M = TypeVar("M", bound=nn.Module)
Kind = Literal["autoencoder", "vocoder", "denoiser", "units", "masked_predictor", "listener"]
Network = Autoencoder | SourceFilterVocoder | Denoiser | UnitCoder | MaskedPredictor | Listener
KINDS: dict[type[nn.Module], Kind] = {
    Autoencoder: "autoencoder",
    SourceFilterVocoder: "vocoder",
    Denoiser: "denoiser",
    UnitCoder: "units",
    MaskedPredictor: "masked_predictor",
    Listener: "listener",
}


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself."""

    kind: str
    step: int
    package_version: str
    features: FeatureConfig
    model: dict[str, Any]
    metrics: dict[str, float]
    sha256: str
    folder: Path = Path()


def save_checkpoint(
    module: Network,
    folder: Path,
    step: int,
    metrics: dict[str, float],
) -> None:
    """Write a network's folder, whole or not at all.

    Weights are stored in half precision; loading them and saving again changes nothing.

    Args:
        module: the network; carries its own configurations.
        folder: made if missing.
        step: training steps so far.
        metrics: figures measured on held-out speech, for the record.

    Raises:
        DataError: it cannot be written.
    """
    make_folder(folder)
    data = _weights(module)
    description = {
        "format_version": FORMAT_VERSION,
        "kind": KINDS[type(module)],
        "package_version": vc.__version__,
        "step": step,
        "features": to_dict(module.features),
        "model": to_dict(module.config),
        "metrics": metrics,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    _end_earlier_save(folder)
    # the weights lie beside the old ones until the description that fits them is there
    write_bytes(folder / _NEXT_WEIGHTS_FILE, data)
    write_bytes(folder / CONFIG_FILE, (json.dumps(description, indent=2) + "\n").encode())
    try:
        (folder / _NEXT_WEIGHTS_FILE).replace(folder / WEIGHTS_FILE)
    except OSError as error:
        raise DataError(f"{folder / WEIGHTS_FILE}: cannot be written ({error.strerror})") from error


def _end_earlier_save(folder: Path) -> None:
    """Move the weights into place that an interrupted writer left, if they are those described."""
    following = folder / _NEXT_WEIGHTS_FILE
    with contextlib.suppress(OSError, CheckpointError):
        found = hashlib.sha256(following.read_bytes()).hexdigest()
        if found == inspect_checkpoint(folder).sha256:
            following.replace(folder / WEIGHTS_FILE)


def weights_sha256(module: nn.Module) -> str:
    """The checksum that a checkpoint of this network records, whether or not it was saved."""
    return hashlib.sha256(_weights(module)).hexdigest()


def _weights(module: nn.Module) -> bytes:
    return save(
        {
            name: value.detach().half().contiguous().cpu()
            for name, value in module.state_dict().items()
        }
    )


def inspect_checkpoint(folder: Path) -> CheckpointInfo:
    """Read a checkpoint's description without its weights.

    Raises:
        CheckpointError: no such checkpoint, or one that this version cannot read.
    """
    path = folder / CONFIG_FILE
    try:
        stored = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder}: no checkpoint there ({path.name} is missing)") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged; copy the checkpoint again") from error
    if not isinstance(stored, dict) or "format_version" not in stored or "kind" not in stored:
        raise CheckpointError(f"{path}: not a checkpoint of this program")
    if stored["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format {stored['format_version']}, but this program reads "
            f"{FORMAT_VERSION}; install the version that wrote it ({stored.get('package_version')})"
        )
    try:
        known = {field.name for field in fields(CheckpointInfo)} - {"folder"}
        info = from_dict(CheckpointInfo, {k: v for k, v in stored.items() if k in known})
    except ConfigError as error:
        raise CheckpointError(f"{path}: damaged or foreign ({error})") from error
    return replace(info, folder=folder)


def load_autoencoder(folder: Path) -> Autoencoder:
    """Load an autoencoder in evaluation mode on the CPU."""
    info = _inspect_kind(folder, "autoencoder")
    config = _model_config(AutoencoderConfig, info)
    return _with_weights(lambda: Autoencoder(config, info.features), info)


def load_vocoder(folder: Path) -> SourceFilterVocoder:
    """Load a vocoder in evaluation mode on the CPU."""
    info = _inspect_kind(folder, "vocoder")
    config = _model_config(VocoderConfig, info)
    return _with_weights(lambda: SourceFilterVocoder(config, info.features), info)


def load_denoiser(folder: Path) -> Denoiser:
    """Load a denoiser in evaluation mode on the CPU."""
    info = _inspect_kind(folder, "denoiser")
    config = _model_config(DenoiserConfig, info)
    return _with_weights(lambda: Denoiser(config, info.features), info)


def load_unit_coder(folder: Path) -> UnitCoder:
    """Load a coder of units in evaluation mode on the CPU."""
    info = _inspect_kind(folder, "units")
    config = _model_config(UnitConfig, info)
    return _with_weights(lambda: UnitCoder(config, info.features), info)


def load_masked_predictor(folder: Path) -> MaskedPredictor:
    """Load a network whose codes learn phones in evaluation mode on the CPU."""
    info = _inspect_kind(folder, "masked_predictor")
    config = _model_config(MaskedPredictorConfig, info)
    return _with_weights(lambda: MaskedPredictor(config, info.features), info)


def load_listener(folder: Path) -> Listener:
    """Load the listeners of a training in evaluation mode on the CPU."""
    info = _inspect_kind(folder, "listener")
    config = _model_config(ListenerConfig, info)
    return _with_weights(lambda: Listener(config, info.features), info)


def _inspect_kind(folder: Path, kind: Kind) -> CheckpointInfo:
    info = inspect_checkpoint(folder)
    if info.kind != kind:
        raise CheckpointError(f"{folder}: holds a {info.kind}, where a {kind} is needed")
    return info


def _model_config(cls: type[C], info: CheckpointInfo) -> C:
    try:
        config = from_dict(cls, info.model, "model")
        require_fit(config, "model", info.features)
        return config
    except ConfigError as error:
        raise CheckpointError(f"{info.folder / CONFIG_FILE}: {error}") from error


def _read_weights(info: CheckpointInfo) -> bytes:
    """The weights that a description is of."""
    path, following = info.folder / WEIGHTS_FILE, info.folder / _NEXT_WEIGHTS_FILE
    if following.is_file():  # whoever wrote them was interrupted, perhaps after the description
        with contextlib.suppress(OSError):
            data = following.read_bytes()
            if hashlib.sha256(data).hexdigest() == info.sha256:
                return data
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != info.sha256:
        raise CheckpointError(f"{path}: damaged (its hash is not the recorded one); copy it again")
    return data


def _with_weights(make: Callable[[], M], info: CheckpointInfo) -> M:
    """The network that `make` builds, which is built only when its size is known to be right."""
    path = info.folder / WEIGHTS_FILE
    data = _read_weights(info)
    try:
        weights = load(data)
        with torch.device("meta"):  # takes no memory
            wanted = {name: tuple(w.shape) for name, w in make().state_dict().items()}
    except (SafetensorError, RuntimeError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: does not fit its configuration ({reason})") from error
    found = {name: tuple(w.shape) for name, w in weights.items()}
    for name in [*wanted, *found]:
        if wanted.get(name) != found.get(name):
            raise CheckpointError(
                f"{path}: does not fit its configuration "
                f"({name} is {found.get(name)} instead of {wanted.get(name)})"
            )
    module = make()
    module.load_state_dict({k: v.float() for k, v in weights.items()}, strict=True)
    return module.eval().requires_grad_(False)
