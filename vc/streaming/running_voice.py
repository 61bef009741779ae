"""The voice of a clip that goes on: who speaks, and how long their vocal tract is."""

from __future__ import annotations

import torch
from torch import Tensor

from vc.model.autoencoder import Autoencoder
from vc.model.speaker_encoder import average_embeddings
from vc.streaming.steps import MEMORY_S

_LISTEN_S = 2.0  # so often a voice is listened to, and to so much of it
_FIRST_S = 1.0  # for the first time after so much speech


class RunningVoice:
    """A voice that speaks on, listened to from time to time.

    Args:
        model: hears voices.
        first_s: seconds of speech, after which it is listened to for the first time.
    """

    def __init__(self, model: Autoencoder, first_s: float = _FIRST_S) -> None:
        self._model = model
        rate = model.features.frame_rate
        self._frames = torch.zeros(1, model.features.n_mels, 0)  # not listened to yet
        self._enough = round(first_s * rate)
        self._listened = 0
        self.embedding: Tensor | None = None  # (1, embedding_dim), once it was listened to
        self.stretch: Tensor | None = None  # of the vocal tract, (1, 3)

    def hear(self, log_mel: Tensor) -> None:
        """Take the frames of speech that come next, `(1, n_mels, frames)`."""
        self._frames = torch.cat([self._frames.to(log_mel), log_mel], dim=-1)
        if self._frames.shape[-1] < self._enough:
            return
        embedding = self._model.encode_speaker(self._frames, repaired=False)
        stretch = self._model.hear_vocal_tract(self._frames)
        if self.embedding is not None:
            both = torch.cat([self.embedding, embedding])
            weights = both.new_tensor([self._listened, 1.0])
            embedding = average_embeddings(both, weights, self._model.config)[None]
        if self.stretch is not None and stretch is not None:
            stretch = torch.lerp(self.stretch, stretch, 1 / (self._listened + 1))
        self.embedding, self.stretch = embedding, stretch
        self._listened = min(self._listened + 1, round(MEMORY_S / _LISTEN_S))
        self._frames = self._frames[..., :0]
        self._enough = round(_LISTEN_S * self._model.features.frame_rate)
