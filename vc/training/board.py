"""Losses, spectrograms and sounds of a training run, for `tensorboard --logdir runs`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from vc.config import FeatureConfig
from vc.errors import ConfigError
from vc.vocoder.griffin_lim import griffin_lim


class Example(NamedTuple):
    """A mel to look at and to hear by Griffin-Lim, or a waveform to hear."""

    name: str
    log_mel: Tensor | None = None  # (n_mels, frames)
    waveform: Tensor | None = None  # (samples,)


class Board:
    """Event files in a folder.

    Args:
        folder: for the files; made if missing.
        features: of the mels and waveforms.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, features: FeatureConfig) -> None:
        if find_spec("tensorboard") is None:
            raise ConfigError("run.tensorboard needs TensorBoard: pip install 'vc[train]'")
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(folder)
        self.features = features

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Figures by slash names."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def examples(self, step: int, examples: Sequence[Example]) -> None:
        """Pictures, low bands at the bottom, and sounds."""
        rate = self.features.sample_rate
        for name, log_mel, waveform in examples:
            if log_mel is not None:
                mel = log_mel.detach().float().cpu()
                low, high = mel.aminmax()
                picture = ((mel - low) / (high - low).clamp(min=1e-3)).flip(0)
                self.writer.add_image(name, picture[None], step)
                if waveform is None:
                    waveform = griffin_lim(mel[None], self.features)[0]
            if waveform is not None:
                sound = waveform.detach().float().cpu()
                sound = sound / sound.abs().max().clamp(min=1.0)
                self.writer.add_audio(name, sound[None], step, rate)
        self.writer.flush()
