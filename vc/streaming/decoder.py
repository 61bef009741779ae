"""Content of a clip that goes on, in another voice, as a vocoder is given it."""

from __future__ import annotations

import torch
from torch import Tensor

from vc.convert import Converter
from vc.model.autoencoder import Autoencoder, Latent
from vc.model.details import CONTEXT, finish
from vc.model.residual import Source, residual
from vc.model.speaker_encoder import ask_again
from vc.model.stepwise import Past
from vc.streaming.running_voice import RunningVoice
from vc.streaming.steps import STEP
from vc.voice import Voice

_FIRST_S = 1.5  # of speech, and what was said is listened to; not together with the source


class StepwiseDecoder:
    """`Autoencoder.rehearse` and `say`, by what was said so far.

    Args:
        converter: of the stream.
        model: the stepwise copy of its autoencoder.
        voice: the wanted one.
    """

    def __init__(self, converter: Converter, model: Autoencoder, voice: Voice) -> None:
        self.model = model
        self.wanted = voice.speaker_embedding.to(converter.device)[None]
        self._emphasised = model.emphasise(self.wanted)
        self.details = converter.details(voice)
        self.said = RunningVoice(converter.autoencoder, _FIRST_S)
        self._decoded, self._voiced = Past(CONTEXT, STEP), Past(CONTEXT, STEP)

    def __call__(
        self,
        content: Tensor,
        log_f0: Tensor,
        voiced: Tensor,
        source: Source | None,
        is_speech: bool,
    ) -> Tensor:
        """The frames of a step, `(1, n_mels, frames)`.

        Args:
            content: `(1, content_dim, frames)`.
            log_f0: `(1, frames)`, as it is to be spoken.
            voiced: `(1, frames)`, 1.0 where voiced.
            source: once its voice is known.
            is_speech: whether a voice can be heard in these frames.
        """
        own_voice, own_log_f0 = self.wanted, log_f0
        if source is not None:
            own_voice, own_log_f0 = source.speaker_embedding, source.log_f0
        # in both voices at once, as far as they go together: reading the weights takes the time
        latent = Latent(content.expand(2, -1, -1), torch.cat([self._asked(), own_voice]))
        tracks = torch.cat([log_f0, own_log_f0])
        said, rebuilt = self.model.decode_both(latent, tracks, voiced.expand(2, -1))
        if is_speech:
            self.said.hear(said[..., : STEP.new])
        share = self.model.config.residual
        if source is not None and share:
            source = source._replace(said_stretch=self.said.stretch)
            said = said + residual(source, rebuilt, voiced, share)
        decoded, flags = self._decoded.join(said), self._voiced.join(voiced)
        return finish(decoded, flags, self.details)[..., -said.shape[-1] :]

    def _asked(self) -> Tensor:
        """The voice that the decoder is asked for, `(1, embedding_dim)`."""
        asked, config = self._emphasised, self.model.config
        if self.said.embedding is None:
            return asked
        return ask_again(asked, self.wanted, self.said.embedding, config.closed_loop, config)
