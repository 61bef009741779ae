"""Listeners: who speaks, and what is said, as others hear it that had no part in saying it.

An autoencoder that judges its conversions by its own encoders learns to please these, not ears: to
its own speaker encoder a conversion is more like the reference than another clip of the reference's
speaker is. So two networks are trained before it, on recordings, and stand still while it learns to
convert. The one that hears speakers is not told a clip's mean spectrum: in a corpus where most
speakers have one recording, that would tell it the microphone, which a conversion takes over
easily. What is left (formants, pitch, how they move) is where conversions still sound like their
source. The one that hears phones keeps the words when the voice is pulled away from the source's.
No part of conversion: nothing of them is shipped.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from vc.config import AutoencoderConfig, FeatureConfig, ListenerConfig
from vc.model.layers import ConvNeXtBlock, MelNetwork, time_statistics
from vc.model.speaker_encoder import SpeakerEncoder
from vc.model.speech_frames import active_frames, frame_levels

STRIDE = 2  # frames a step of phones


class HeardPhones(NamedTuple):
    """What is heard of the words, for every second frame."""

    logits: Tensor  # (batch, 1 + phones, steps); the first is the blank of CTC
    inner: Tensor  # (batch, width, steps): what they are read from


class Listener(MelNetwork):
    """Log-mels `(batch, n_mels, frames)` -> speakers and phones.

    Args:
        config: sizes.
        features: what the mels are; travels with the weights.
    """

    def __init__(self, config: ListenerConfig, features: FeatureConfig) -> None:
        super().__init__(config.n_mels)
        self.config = config
        self.features = features
        self.speaker = SpeakerEncoder(
            AutoencoderConfig(
                n_mels=config.n_mels,
                expansion=config.expansion,
                kernel_size=config.speaker_kernel,
                speaker_width=config.width,
                speaker_blocks=config.speaker_blocks,
                speaker_dim=config.speaker_dim,
                speaker_statistics=False,
            )
        )
        kernel = config.phone_kernel
        self.phone_embed = nn.Conv1d(config.n_mels, config.width, kernel, STRIDE, kernel // 2)
        self.phone_blocks = nn.ModuleList(
            ConvNeXtBlock(config.width, config.expansion, kernel)
            for _ in range(config.phone_blocks)
        )
        self.phone_head = nn.Conv1d(config.width, 1 + config.phones, 1)

    def hear_speaker(self, log_mel: Tensor) -> Tensor:
        """Unit vectors `(batch, speaker_dim)` of who speaks, whatever the microphone."""
        mel = self.normalize(log_mel)
        spoken = time_statistics(mel, active_frames(frame_levels(mel)))
        return self.speaker(mel - spoken.mean)

    def hear_phones(self, log_mel: Tensor) -> HeardPhones:
        """What is said."""
        x = self.phone_embed(self.normalize(log_mel))
        for block in self.phone_blocks:
            x = block(x)
        return HeardPhones(self.phone_head(functional.gelu(x)).float(), x)
