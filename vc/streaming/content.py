"""Content of a clip that goes on."""

from __future__ import annotations

import torch
from torch import Tensor

from vc.convert import Converter
from vc.model.autoencoder import Autoencoder
from vc.model.layers import ConvNeXtBlock, Statistics
from vc.streaming.statistics import (
    USUAL_FILE,
    RunningInstanceNorm,
    RunningStatistics,
    load_usual,
)
from vc.streaming.steps import MEMORY_S

_BEGINNING_S = 2.0  # how much the usual statistics count for


class StepwiseContent:
    """`Autoencoder.encode_content` of a clip that goes on, by statistics of what was heard so far.

    Args:
        converter: with a content encoder that can do so; see `Stream`.
        model: the stepwise copy of its autoencoder.

    Raises:
        CheckpointError: what is usual for this model is not known.
    """

    def __init__(self, converter: Converter, model: Autoencoder) -> None:
        assert converter.folder is not None
        self.model = model
        usual = load_usual(converter.folder / USUAL_FILE, converter.model_sha256)
        usual = [Statistics(*(x.to(converter.device) for x in statistics)) for statistics in usual]
        tract = model.vocal_tract_encoder
        with torch.inference_mode():
            self.usual_stretch = None if tract is None else tract.tell(usual.pop(0))
        rate = converter.features.frame_rate
        self.norms = [RunningStatistics(x, _BEGINNING_S * rate, MEMORY_S * rate) for x in usual]
        of_mel, *of_blocks, self.of_content = self.norms
        model.content_encoder.norm = RunningInstanceNorm(of_mel)
        for block, running in zip(model.content_encoder.blocks, of_blocks, strict=True):
            assert isinstance(block, ConvNeXtBlock)
            block.norm = RunningInstanceNorm(running)

    def __call__(self, log_mel: Tensor, stretch: Tensor | None, is_speech: bool) -> Tensor:
        """The frames of a step, `(1, n_mels, frames)` -> `(1, content_dim, frames)`.

        Args:
            log_mel: of the step.
            stretch: of the speaker's vocal tract, once it was heard.
            is_speech: whether statistics are of such frames.
        """
        for norm in self.norms:
            norm.listening = is_speech
        model = self.model
        stretch = self.usual_stretch if stretch is None else stretch
        mel = model.normalize(model.straighten(log_mel, stretch))
        content = model.content_encoder(mel)
        return model.squeeze(content, self.of_content.hear(content)).content
