"""What whole-clip conversion takes from the whole clip, estimated while the clip is being said.

The content encoder's instance norms, and the encoder of vocal tracts before them, need mean and
variance of each channel over the speech of a clip. A stream begins with what is usual among many
clips, and moves on to what it hears.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vc.errors import CheckpointError
from vc.model.autoencoder import Autoencoder
from vc.model.layers import (
    ConvNeXtBlock,
    InstanceNorm,
    Statistics,
    instance_norm,
    time_statistics,
)
from vc.model.speech_frames import frame_levels, near_speech
from vc.model.vocal_tract import STRIDE as TRACT_STRIDE
from vc.safe_write import write_bytes
from vc.streaming.steps import STEP

USUAL_FILE = "stream.safetensors"


class RunningStatistics:
    """Mean and variance over time of what came so far; the distant past is forgotten.

    What comes while it is not `listening` does not count.

    Args:
        usual: `(1, channels, 1)` each, to begin with.
        frames: how many frames that beginning counts for.
        horizon: frames after which the past counts no more than this.
    """

    def __init__(self, usual: Statistics, frames: float, horizon: float) -> None:
        self._mean = usual.mean
        self._square = usual.variance + usual.mean.square()
        self._frames, self._horizon = frames, horizon
        self.listening = True

    def push(self, x: Tensor) -> None:
        """Hear `(1, channels, frames)`."""
        wide = x.float()
        share = x.shape[-1] / (self._frames + x.shape[-1])
        self._mean = torch.lerp(self._mean, wide.mean(dim=-1, keepdim=True), share)
        self._square = torch.lerp(self._square, wide.square().mean(dim=-1, keepdim=True), share)
        self._frames = min(self._frames + x.shape[-1], self._horizon)

    @property
    def statistics(self) -> Statistics:
        """As they are now."""
        return Statistics(self._mean, (self._square - self._mean.square()).clamp(min=0))

    def hear(self, x: Tensor) -> Statistics:
        """The frames of a step, `(1, channels, frames)`, of which only the new ones count."""
        if self.listening:
            self.push(x[..., : STEP.count_new(x)])
        return self.statistics


class RunningInstanceNorm(InstanceNorm):
    """An instance norm that takes out of a step what was heard so far.

    Args:
        running: what was heard by this norm.
    """

    def __init__(self, running: RunningStatistics) -> None:
        super().__init__()
        self.running = running

    def forward(
        self, x: Tensor, statistics: Statistics | None = None, counted: Tensor | None = None
    ) -> Tensor:
        """See the class."""
        return instance_norm(x, statistics=self.running.hear(x))


def clip_statistics(model: Autoencoder, log_mel: Tensor) -> list[Statistics]:
    """What is taken from a whole clip: for the vocal tract, then for each instance norm of content.

    Args:
        model: whose content encoder has instance norms throughout.
        log_mel: `(1, n_mels, frames)`.
    """
    counted = near_speech(frame_levels(model.normalize(log_mel)))
    found = []
    if model.vocal_tract_encoder is not None:
        seen = model.vocal_tract_encoder.look(model.normalize(log_mel))
        found.append(time_statistics(seen, counted[..., ::TRACT_STRIDE]))
    mel = model.normalize(model.straighten(log_mel, model.hear_vocal_tract(log_mel, counted)))
    found.append(time_statistics(mel, counted))
    x = model.content_encoder.look(instance_norm(mel, statistics=found[-1]))
    for block in model.content_encoder.blocks:
        assert isinstance(block, ConvNeXtBlock)
        found.append(time_statistics(block.depthwise(x), counted))
        x = block(x, statistics=found[-1])
    return [*found, time_statistics(model.content_encoder.project(x), counted)]


def save_usual(path: Path, usual: Sequence[Statistics], model_sha256: str) -> None:
    """Write the usual statistics beside the model they belong to, whole or not at all."""
    tensors = {
        f"{number}.{name}": value.contiguous()
        for number, statistics in enumerate(usual)
        for name, value in statistics._asdict().items()
    }
    write_bytes(path, save(tensors, {"model": model_sha256}))


def load_usual(path: Path, model_sha256: str) -> list[Statistics]:
    """Read what is usual for a model.

    Raises:
        CheckpointError: missing, damaged or of another model.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: this model cannot be streamed; the file is missing")
    try:
        with safe_open(path, "pt") as file:
            model = (file.metadata() or {}).get("model")
            count = len(file.keys()) // 2
            usual = [
                Statistics(file.get_tensor(f"{n}.mean"), file.get_tensor(f"{n}.variance"))
                for n in range(count)
            ]
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged; copy the model again") from error
    if model != model_sha256:
        raise CheckpointError(f"{path}: belongs to another model; measure it again for this one")
    return usual
