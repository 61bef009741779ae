"""The disentangling autoencoder: a clip's latent is the pair (content, speaker embedding)."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from vc.config import AutoencoderConfig, FeatureConfig
from vc.model.bottleneck import Bottled, make_bottleneck
from vc.model.content_encoder import ContentEncoder
from vc.model.decoder import Decoder
from vc.model.details import finish
from vc.model.layers import MelNetwork, Statistics, instance_norm, time_statistics
from vc.model.residual import Source, residual
from vc.model.speaker_encoder import (
    SpeakerEncoder,
    ask_again,
    exaggerate,
    spectral_statistics,
    split_embedding,
)
from vc.model.speech_frames import frame_levels, near_speech
from vc.model.tuning import Tuning, tuned
from vc.model.vocal_tract import VocalTractEncoder, bend

_FOLLOWING = 0.01  # how far the average voice moves to each batch's
_HEARD_S = 60.0


class Latent(NamedTuple):
    """What an autoencoder knows of a batch of clips."""

    content: Tensor  # (batch, content_dim, content_frames): what is said
    speaker_embedding: Tensor  # (batch, embedding_dim): who says it


class Autoencoder(MelNetwork):
    """Log-mel -> (content, speaker embedding) -> log-mel.

    Converting is swapping: decode one clip's content with another's speaker embedding.

    Args:
        config: sizes.
        features: what the mels are; travels with the weights.
    """

    def __init__(self, config: AutoencoderConfig, features: FeatureConfig) -> None:
        super().__init__(config.n_mels)
        self.config = config
        self.features = features
        self.vocal_tract_encoder = VocalTractEncoder(config) if config.tract_width else None
        self.content_encoder = ContentEncoder(config)
        self.bottleneck = make_bottleneck(config)
        self.speaker_encoder = SpeakerEncoder(config)
        if config.emphasis:
            self.register_buffer("average_voice", torch.zeros(config.embedding_dim))
        self.decoder = Decoder(config, features)
        stride = config.content_stride
        # of a clip, that say enough of its voice; None for all of it
        self.heard_frames: int | None = stride * round(_HEARD_S * features.frame_rate / stride)

    def encode(self, log_mel: Tensor) -> Latent:
        """Both latents of `(batch, n_mels, frames)`."""
        return Latent(self.encode_content(log_mel), self.encode_speaker(log_mel))

    def encode_content(self, log_mel: Tensor) -> Tensor:
        """`(batch, n_mels, frames)` -> `(batch, content_dim, content_frames)`.

        What is taken out of content is what is constant while the speaker speaks: long silence
        does not count.
        """
        counted = near_speech(frame_levels(self.normalize(log_mel)))
        content = self.look_at_content(log_mel, counted)
        counted = counted[..., :: self.config.content_stride]
        return self.squeeze(content, time_statistics(content, counted)).content

    def look_at_content(self, log_mel: Tensor, counted: Tensor | None = None) -> Tensor:
        """`encode_content` before the bottleneck; `counted` frames as in `time_statistics`."""
        straight = self.straighten(log_mel, self.hear_vocal_tract(log_mel, counted))
        return self.content_encoder(self.normalize(straight), counted)

    def hear_vocal_tract(self, log_mel: Tensor, counted: Tensor | None = None) -> Tensor | None:
        """Stretch of the vocal tracts of whole clips, `(batch, 3)`; None if nobody asks for it."""
        if self.vocal_tract_encoder is None:
            return None
        stretch: Tensor = self.vocal_tract_encoder(self.normalize(log_mel), counted)
        return stretch.detach()

    def straighten(self, log_mel: Tensor, stretch: Tensor | None) -> Tensor:
        """`(batch, n_mels, frames)` as a speaker with an average vocal tract would have said it.

        Args:
            log_mel: clips, or parts of them.
            stretch: of the vocal tracts of the whole clips, as `hear_vocal_tract` tells it.
        """
        return log_mel if stretch is None else bend(log_mel, -stretch)

    def squeeze(self, content: Tensor, statistics: Statistics | None = None) -> Bottled:
        """What the bottleneck lets through of the content encoder's output.

        Args:
            content: `(batch, content_dim, content_frames)`.
            statistics: of the whole clip, where `content` is only a part of it.
        """
        content = content.float()
        if self.bottleneck.wants_unit_variance:
            content = instance_norm(content, statistics=statistics)
        bottled: Bottled = self.bottleneck(content)
        return bottled

    def encode_speaker(self, log_mel: Tensor, repaired: bool = True) -> Tensor:
        """`(batch, n_mels, frames)` -> `(batch, embedding_dim)`.

        Args:
            log_mel: clips.
            repaired: False asks for the clip's own mean and spread, whatever happened to it.
        """
        return self.speaker_encoder(self.normalize(log_mel), repaired)

    def repair(self, log_mel: Tensor, speaker_embedding: Tensor) -> Tensor:
        """A clip with the mean spectrum that the speaker encoder says its speaker has.

        What a telephone has cut off stays lost, but there is no step where it was cut.

        Args:
            log_mel: `(batch, n_mels, frames)`.
            speaker_embedding: of the same clips, `(batch, embedding_dim)`.

        Returns:
            `(batch, n_mels, frames)`.
        """
        if not self.config.speaker_repair:
            return log_mel
        heard = spectral_statistics(self.normalize(log_mel)).mean
        moved = split_embedding(speaker_embedding, self.config).mean - heard
        return log_mel + (moved * self.get_buffer("mel_scale"))[..., None]

    @torch.no_grad()
    def follow_voices(self, speaker_embedding: Tensor) -> None:
        """While training: let the average voice follow a batch `(batch, embedding_dim)`."""
        if self.config.emphasis:
            average = self.get_buffer("average_voice")
            average.lerp_(speaker_embedding.mean(dim=0).to(average), _FOLLOWING)

    def decode(self, latent: Latent, log_f0: Tensor, voiced: Tensor) -> Tensor:
        """Latent and pitch -> log-mel.

        Args:
            latent: content and speaker, of the same or of different clips.
            log_f0: `(batch, frames)`, natural log of Hz, interpolated through unvoiced frames.
            voiced: `(batch, frames)`, 1.0 where voiced.

        Returns:
            `(batch, n_mels, frames)`.
        """
        return self.denormalize(
            self.decoder(latent.content, latent.speaker_embedding, log_f0, voiced)
        )

    def rebuild(self, latent: Latent, log_f0: Tensor, voiced: Tensor) -> Tensor:
        """`decode` a source in its own voice: by the decoder that was tuned to none."""
        own = self.untuned_decoder
        return self.denormalize(own(latent.content, latent.speaker_embedding, log_f0, voiced))

    def decode_both(self, latent: Latent, log_f0: Tensor, voiced: Tensor) -> tuple[Tensor, Tensor]:
        """`decode` the first clip of a batch of two, and `rebuild` the second, in one go."""
        voices = latent.speaker_embedding
        begun = self.decoder.begin(latent.content, voices, log_f0, voiced)
        if self.untuned_decoder is self.decoder:
            said, rebuilt = self.decoder.end(begun, voices).split(1)
        else:
            said = self.decoder.end(begun[:1], voices[:1])
            rebuilt = self.untuned_decoder.end(begun[1:], voices[1:])
        return self.denormalize(said), self.denormalize(rebuilt)

    @property
    def untuned_decoder(self) -> Decoder:
        """The decoder as it was before it knew a voice."""
        return self._modules.get("untuned") or self.decoder  # type: ignore[return-value]

    def tuned(self, tuning: Tuning | None) -> Autoencoder:
        """The same model, for conversions into a voice that its decoder has learnt.

        All but what was tuned is shared. Such a decoder says all of the voice that it is asked for,
        so it is not asked for more (`emphasise`). See `vc.model.tuning`.
        """
        if tuning is None:
            return self
        twin = copy.copy(self)
        twin.config = replace(self.config, emphasis=0.0)
        decoder = tuned(self.decoder, tuning)
        twin._modules = self._modules | {"decoder": decoder, "untuned": self.decoder}
        return twin

    def emphasise(self, speaker_embedding: Tensor) -> Tensor:
        """What to ask the decoder for, to be given a voice `(batch, embedding_dim)`.

        It says a little less of a voice than it is asked for, so it is asked for more
        (`config.emphasis`), as guidance does with conditional diffusion (Ho & Salimans 2022,
        arXiv:2207.12598).
        """
        if not self.config.emphasis:
            return speaker_embedding
        average, share = self.get_buffer("average_voice"), self.config.emphasis
        return exaggerate(speaker_embedding, average, share, self.config)

    def rehearse(
        self, content: Tensor, speaker_embedding: Tensor, log_f0: Tensor, voiced: Tensor
    ) -> Tensor:
        """Say a clip for oneself, hear what voice it has, and ask for what was missing.

        Args:
            content: as in `decode`; only the beginning is said (`heard_frames`).
            speaker_embedding: whose voice, `(batch, embedding_dim)`.
            log_f0: as in `decode`.
            voiced: as in `decode`.

        Returns:
            What the decoder is to be asked for, `(batch, embedding_dim)`.
        """
        asked, share = self.emphasise(speaker_embedding), self.config.closed_loop
        if not share:
            return asked
        frames = self.heard_frames
        beginning = Latent(content[..., : frames and frames // self.config.content_stride], asked)
        said = self.decode(beginning, log_f0[:, :frames], voiced[:, :frames])
        heard = self.encode_speaker(said, repaired=False)
        return ask_again(asked, speaker_embedding, heard, share, self.config)

    def listen_to_source(self, log_mel: Tensor, log_f0: Tensor) -> Source | None:
        """A source, for what is lost of it to be given back; see `vc.model.residual`.

        Args:
            log_mel: of the clip, `(batch, n_mels, frames)`; its beginning is listened to.
            log_f0: of the same frames, as they are spoken there.

        Returns:
            None if nothing is to be given back.
        """
        if not self.config.residual:
            return None
        beginning = log_mel[..., : self.heard_frames]
        # what a telephone has cut off is not to be missed: it was never there
        voice = self.encode_speaker(beginning, repaired=False)
        return Source(log_mel, log_f0, voice, self.hear_vocal_tract(beginning))

    def say(
        self,
        content: Tensor,
        speaker_embedding: Tensor,
        log_f0: Tensor,
        voiced: Tensor,
        details: Tensor | None,
        source: Source | None = None,
    ) -> Tensor:
        """Content in a voice, as a vocoder is given it: `decode`, for conversions.

        What the latents lost is given back, if the source is there to tell (`config.residual`),
        and what the decoder blurs is mended (`vc.model.details.finish`).

        Args:
            content: `(batch, content_dim, content_frames)`.
            speaker_embedding: what `emphasise` or `rehearse` asks for, `(batch, embedding_dim)`.
            log_f0: as in `decode`.
            voiced: as in `decode`.
            details: frames that lend theirs, `(batch, kept, n_mels)`, or None.
            source: the frames that content was read from. Unless it tells what vocal tract the
                conversion has, that is heard in these.

        Returns:
            `(batch, n_mels, frames)`.
        """
        decoded = self.decode(Latent(content, speaker_embedding), log_f0, voiced)
        if source is not None:
            if source.said_stretch is None:
                heard = self.hear_vocal_tract(decoded[..., : self.heard_frames])
                source = source._replace(said_stretch=heard)
            own = Latent(content, source.speaker_embedding)
            rebuilt = self.rebuild(own, source.log_f0, voiced)
            decoded = decoded + residual(source, rebuilt, voiced, self.config.residual)
        return finish(decoded, voiced, details)

    def forward(self, log_mel: Tensor, log_f0: Tensor, voiced: Tensor) -> Tensor:
        """Rebuild a clip from its own latent."""
        return self.decode(self.encode(log_mel), log_f0, voiced)
