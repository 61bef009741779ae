"""Training task of the autoencoder: rebuild, disentangle, and make the swap hold.

Each step rebuilds clean mels from perturbed ones with the speaker vector of another piece of the
same speaker. The further losses each close one way in which a swap can fail; every weight can be
set to 0 in the recipe.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vc.checkpoint import load_autoencoder, load_listener, save_checkpoint
from vc.config import (
    AutoencoderConfig,
    DataConfig,
    FeatureConfig,
    OptimizerConfig,
    RunConfig,
    require_fit,
    require_not_negative,
    require_shares,
)
from vc.errors import ConfigError
from vc.losses import (
    contrastive_loss,
    envelope_loss,
    margin_softmax_loss,
    mistaken_phones_loss,
    mistaken_voice_loss,
)
from vc.model.autoencoder import Autoencoder, Latent
from vc.model.layers import instance_norm
from vc.model.listener import Listener
from vc.model.speaker_encoder import split_embedding
from vc.model.vocal_tract import TRACT_DEVIATION, bend, draw_stretches
from vc.training.board import Example
from vc.training.data import Segments, SpeechData, cut_noise, load_noise
from vc.training.discriminators import MelDiscriminator, discriminator_loss, generator_loss
from vc.training.loop import (
    autocast,
    frozen,
    make_optimizer,
    require_features,
    start_from,
)
from vc.training.perturb import PerturbConfig, draw_voices, perturb, resize
from vc.training.phones import PhoneHead, PhoneLabels

_STATISTICS_SHARE = 0.3  # of spectral statistics beside the learnt identity, in a speaker distance


@dataclass(frozen=True)
class AutoencoderLossConfig:
    """Weights of the losses; 0 turns one off and saves its cost."""

    reconstruction: float = 1.0
    envelope: float = 1.0  # the same after smoothing over the bands: where the words are
    bottleneck: float = 0.0  # what the bottleneck asks for its content (see vc/model/bottleneck.py)
    content_again: float = 0.0  # content read from the rebuilt mel is the same (AutoVC's loss)
    vocal_tract: float = 1.0  # its stretch is heard, the same in two clips of a speaker
    speaker: float = 0.03  # the speaker vector names the training speaker
    contrastive: float = 0.0  # content is the same under another perturbation
    ctc: float = 0.0  # content tells phones, where transcripts exist
    swap_from: float = 0.2  # share of the run after which the losses below begin; 1: never
    swap_content: float = 0.15  # content of the swapped decode is the source's
    swap_speaker: float = 1.5  # speaker of the swapped decode is the reference's
    adversarial: float = 0.2  # swapped decodes look real for the speaker
    heard_speaker: float = 0.0  # a listener hears the reference's voice in swaps, not the source's
    heard_phones: float = 0.0  # it hears the source's phones in them
    heard_sounds: float = 0.0  # and, inside, the source's sounds, frame by frame

    def __post_init__(self) -> None:
        require_not_negative(self, "loss", *vars(self))
        require_shares(self, "loss", "swap_from")


@dataclass(frozen=True)
class AutoencoderRecipe:
    """Everything that one autoencoder training run is made of."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    loss: AutoencoderLossConfig = field(default_factory=AutoencoderLossConfig)
    listener: str = ""  # checkpoint of the listener, for the losses `heard_*`
    trained: tuple[str, ...] = ()  # parts that are trained while the others stand still; (): all
    perturb: PerturbConfig = field(default_factory=PerturbConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        require_fit(self.autoencoder, "autoencoder", self.features)
        if self.loss.swap_from < 1 and self.data.batch_size < 2:
            raise ConfigError("data: batch_size must be at least 2 for swaps, or loss.swap_from 1")


class Judged(NamedTuple):
    """What the discriminator judges: mels, and the speakers they claim to be."""

    mel: Tensor  # (batch, n_mels, frames), normalised
    speaker: Tensor  # (batch, embedding_dim)


class AutoencoderTask:
    """See `vc.training.loop.Task`."""

    name = "autoencoder"

    def __init__(self, recipe: AutoencoderRecipe, cache: Path, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        config, weights = recipe.autoencoder, recipe.loss
        self.train_data = SpeechData(cache, "train", recipe.features, recipe.data)
        self.validation = SpeechData(cache, "validation", recipe.features, recipe.data)
        self.noise = load_noise(cache, recipe.features, recipe.data)
        self.phones = PhoneLabels(cache, self.train_data) if weights.ctc else None
        self.listener = self._load_listener()

        torch.manual_seed(recipe.run.seed)
        self.model = Autoencoder(config, recipe.features).to(device)
        if recipe.run.initial:
            start_from(self.model, load_autoencoder(Path(recipe.run.initial)), recipe.run.fresh)
        else:
            self.model.set_statistics(*self.train_data.mel_statistics())
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.classes = nn.Linear(config.speaker_dim, len(self.train_data.speakers), bias=False)
        if recipe.run.initial:
            self._start_classes()
        self.phone_head = PhoneHead(
            config.content_dim, len(self.phones.alphabet) if self.phones else 0
        )
        self.discriminator = MelDiscriminator(config.n_mels, config.embedding_dim)
        self.modules: dict[str, nn.Module] = {
            "autoencoder": self.model,
            "average": self.average,
            "classes": self.classes.to(device),
            "phone_head": self.phone_head.to(device),
            "discriminator": self.discriminator.to(device),
        }
        self._keep_still()
        trained = chain(
            self.model.parameters(), self.classes.parameters(), self.phone_head.parameters()
        )
        self.optimizers = {
            "autoencoder": make_optimizer(trained, recipe.optimizer),
            "discriminator": make_optimizer(
                self.discriminator.parameters(),
                recipe.optimizer,
                recipe.optimizer.discriminator_rate,
            ),
        }

    def _load_listener(self) -> Listener | None:
        """The listener, standing still; None if nothing is asked of it.

        Raises:
            ConfigError: its losses have a weight, but it is not named, or cannot hear that.
        """
        weights = self.recipe.loss
        if not (weights.heard_speaker or weights.heard_phones or weights.heard_sounds):
            return None
        if not self.recipe.listener:
            raise ConfigError("loss.heard_* need a listener; train one, and name its checkpoint")
        listener = load_listener(Path(self.recipe.listener)).to(self.device).requires_grad_(False)
        require_features(listener, self.recipe.listener, self.recipe.features)
        if not listener.config.phones and (weights.heard_phones or weights.heard_sounds):
            raise ConfigError(f"{self.recipe.listener}: was trained without phones")
        return listener

    def _keep_still(self) -> None:
        """Let only the parts that the recipe names learn.

        Raises:
            ConfigError: the model has no such part.
        """
        parts = self.recipe.trained
        if not parts:
            return
        for part in parts:
            if getattr(self.model, part, None) is None:
                raise ConfigError(f"trained: the model has no part '{part}'")
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in parts)

    @torch.no_grad()
    def _start_classes(self) -> None:
        """Begin each class where the initial model already puts its speaker.

        From random classes, the speaker loss would first undo what the speaker encoder knows.
        """
        generator = np.random.default_rng(self.recipe.run.seed)
        first_clips = np.array([clips[0] for clips in self.train_data.clips_of])
        for speakers in torch.arange(len(first_clips)).split(64):
            segments = self._cut(self.train_data, generator, first_clips[speakers.numpy()])
            embedding = self.average.encode_speaker(segments.log_mel)
            identity = split_embedding(embedding, self.model.config).identity
            self.classes.weight[speakers] = identity.cpu()

    def add_gradients(self, step: int, generator: np.random.Generator) -> dict[str, float]:
        """Gradients of the autoencoder and, once swaps count, of the discriminator."""
        recipe, weights = self.recipe, self.recipe.loss
        self.model.train()
        clips = self.train_data.draw_clips(generator, recipe.data.batch_size)
        partners = np.array([self.train_data.draw_partner(generator, int(c)) for c in clips])
        source = self._cut(self.train_data, generator, clips)
        reference = self._cut(self.train_data, generator, partners)
        factor = torch.ones(len(clips))
        if recipe.perturb.new_voices:
            drawn = draw_voices(generator, len(clips), recipe.perturb.new_voices)
            factor = torch.from_numpy(drawn).float()
            source, reference = (self._in_new_voices(s, factor) for s in (source, reference))
        with autocast(self.device, self.recipe.run):
            losses, real, fake = self._losses(source, reference, factor == 1, generator, step)
            if self.phones is not None and step % 2 == 0:
                losses["ctc"] = self._ctc_loss(generator, step)
        total = torch.stack([getattr(weights, k) * v for k, v in losses.items()]).sum()
        total.backward()
        report = {f"{k}/loss": float(v.detach()) for k, v in losses.items()}
        if real and fake and weights.adversarial:
            report["discriminator/loss"] = self._discriminator_gradients(real, fake)
        return report

    def _in_new_voices(self, segments: Segments, factor: Tensor) -> Segments:
        """Segments whose formants and pitch are moved down by their `factor`, `(batch,)`."""
        factor = factor.to(self.device)
        return segments._replace(
            log_mel=resize(segments.log_mel, factor),
            log_f0=segments.log_f0 - factor.log().unsqueeze(-1),
        )

    def _losses(
        self,
        source: Segments,
        reference: Segments,
        known: Tensor,
        generator: np.random.Generator,
        step: int,
    ) -> tuple[dict[str, Tensor], Judged | None, Judged | None]:
        """Losses by configuration name, and the real and decoded mels to show a discriminator.

        `known` `(batch,)` tells which clips have their speaker's own voice.
        """
        weights, model = self.recipe.loss, self.model
        views = 2 if weights.contrastive and step % 2 else 1
        perturbed = torch.cat([self._perturb(source.log_mel, generator) for _ in range(views)])
        encoded, *other = model.look_at_content(perturbed).split(len(source.clips))
        speaker = model.encode_speaker(reference.log_mel)
        model.follow_voices(speaker)
        bottled = model.squeeze(encoded)
        latent = Latent(bottled.content, speaker)
        rebuilt = model.decode(latent, source.log_f0, source.voiced)
        difference = rebuilt - source.log_mel
        losses = {"reconstruction": difference.abs().mean()}
        if weights.envelope:
            losses["envelope"] = envelope_loss(difference)
        if weights.bottleneck:
            losses["bottleneck"] = bottled.loss
        if weights.content_again:
            again = model.look_at_content(rebuilt)
            losses["content_again"] = (again - encoded).abs().mean()
        if weights.vocal_tract and model.vocal_tract_encoder is not None:
            losses["vocal_tract"] = self._vocal_tract_loss(source, reference, generator)
        if weights.speaker and known.any():
            labels = torch.from_numpy(self.train_data.speaker_of)[source.clips.cpu()][known]
            identity = split_embedding(speaker, model.config).identity[known.to(self.device)]
            classes = functional.normalize(self.classes.weight, dim=-1)
            cosines = functional.linear(identity, classes)
            losses["speaker"] = margin_softmax_loss(cosines.float(), labels.to(self.device))
        if other:
            first, second = instance_norm(encoded), instance_norm(other[0])
            losses["contrastive"] = contrastive_loss(first, second)
        swapping_for = step - weights.swap_from * self.recipe.run.steps
        if swapping_for < 0:
            return losses, None, None

        # half of the batch is swapped: each with a random other one
        half = slice(0, max(1, len(speaker) // 2))
        order = torch.arange(len(speaker)).roll(int(generator.integers(1, len(speaker))))
        other_speaker = speaker[order][half]
        swapped = model.decode(
            Latent(latent.content[half], other_speaker),
            source.log_f0_about(reference.median_log_f0()[order])[half],
            source.voiced[half],
        )
        with frozen(model.content_encoder, model.speaker_encoder):
            if weights.swap_content:
                heard = instance_norm(model.look_at_content(swapped))
                said = instance_norm(encoded[half]).detach()
                losses["swap_content"] = contrastive_loss(heard, said)
            if weights.swap_speaker:
                spoken = model.encode_speaker(swapped)
                losses["swap_speaker"] = self._speaker_distance(spoken, other_speaker.detach())
        if self.listener is not None:
            losses |= self._listened(swapped, source.log_mel, reference.log_mel[order])
        # only swaps are judged: rebuilt mels have a truth to be compared with
        real = Judged(model.normalize(source.log_mel[half]), speaker[half].detach())
        fake = Judged(model.normalize(swapped), other_speaker.detach())
        if weights.adversarial and swapping_for >= self.recipe.optimizer.warmup_steps:
            with frozen(self.discriminator):
                losses["adversarial"] = generator_loss(self.discriminator(*fake))
        return losses, real, fake

    def _listened(self, swapped: Tensor, source: Tensor, reference: Tensor) -> dict[str, Tensor]:
        """What the listener has to say of the first clips of a batch, swapped."""
        listener, count, weights = self.listener, len(swapped), self.recipe.loss
        assert listener is not None
        losses = {}
        if weights.heard_speaker:
            with torch.no_grad():
                wanted = listener.hear_speaker(reference[:count])
                own = listener.hear_speaker(source[:count])
            heard = listener.hear_speaker(swapped)
            losses["heard_speaker"] = mistaken_voice_loss(heard, wanted, own)
        if weights.heard_phones or weights.heard_sounds:
            with torch.no_grad():
                said = listener.hear_phones(source[:count])
            heard_as = listener.hear_phones(swapped)
            if weights.heard_phones:
                losses["heard_phones"] = mistaken_phones_loss(heard_as.logits, said.logits)
            if weights.heard_sounds:
                losses["heard_sounds"] = contrastive_loss(heard_as.inner, said.inner)
        return losses

    def _speaker_distance(self, embedding: Tensor, wanted: Tensor) -> Tensor:
        """1 - cosine of the learnt parts, plus the mean distance of the spectral statistics."""
        ours, theirs = (split_embedding(e, self.model.config) for e in (embedding, wanted))
        distance = 1 - (ours.identity * theirs.identity).sum(dim=-1).mean()
        for a, b in zip(ours[1:], theirs[1:], strict=True):
            distance = distance + _STATISTICS_SHARE * (a - b).abs().mean()
        return distance

    def _vocal_tract_loss(
        self, first: Segments, second: Segments, generator: np.random.Generator
    ) -> Tensor:
        """Two pieces of each speaker, bent by random stretches, must differ by just these."""
        assert self.model.vocal_tract_encoder is not None
        unbent = replace(self.recipe.perturb, resize=0.0)
        pieces = torch.cat([first.log_mel, second.log_mel])
        pieces = self._perturb(pieces, generator, unbent)
        stretch = draw_stretches(len(pieces), self.device)
        bent = self.model.normalize(bend(pieces, stretch))
        heard = self.model.vocal_tract_encoder(bent)
        ours, theirs = ((heard - stretch) / TRACT_DEVIATION).chunk(2)
        # the average speaker has a stretch of 0
        return (ours - theirs).square().mean() + 0.1 * (ours + theirs).mean().square()

    def _ctc_loss(self, generator: np.random.Generator, step: int) -> Tensor:
        assert self.phones is not None
        batch = self.phones.draw(generator)
        log_mel = self._perturb(batch.log_mel.to(self.device), generator)
        content = self.model.encode_content(log_mel)
        if step < self.recipe.optimizer.warmup_steps:
            content = content.detach()  # the head starts anew: first it must learn to read
        return self.phone_head.loss(content, batch)

    def _discriminator_gradients(self, real: Judged, fake: Judged) -> float:
        """Show the discriminator real mels with their own speaker, and swapped decodes."""
        with autocast(self.device, self.recipe.run):
            loss = discriminator_loss(
                self.discriminator(*real), self.discriminator(fake.mel.detach(), fake.speaker)
            )
        loss.backward()
        return float(loss.detach())

    def _perturb(
        self, log_mel: Tensor, generator: np.random.Generator, config: PerturbConfig | None = None
    ) -> Tensor:
        noise_mel = cut_noise(self.noise, generator, log_mel)
        floor = self.recipe.features.log_floor
        return perturb(log_mel, config or self.recipe.perturb, floor, noise_mel)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Rebuild and convert fixed segments of held-out speakers with the averaged weights."""
        generator = np.random.default_rng(0)
        data, model = self.validation, self.average
        clips = data.first_clips(self.recipe.data.validation_clips)
        source = self._cut(data, generator, clips)
        partners = np.array([data.draw_partner(generator, int(c)) for c in clips])
        reference = self._cut(data, generator, partners)
        latent = Latent(
            model.encode_content(source.log_mel), model.encode_speaker(reference.log_mel)
        )
        rebuilt = model.decode(latent, source.log_f0, source.voiced)
        swapped, other = self._swapped(latent, source, reference)
        heard = model.encode(swapped)
        own = model.encode_speaker(source.log_mel)
        return {
            "reconstruction": float((rebuilt - source.log_mel).abs().mean()),
            "swap_content": float(contrastive_loss(heard.content, latent.content)),
            "swap_to_reference": float(1 - self._speaker_distance(heard.speaker_embedding, other)),
            "swap_to_source": float(1 - self._speaker_distance(heard.speaker_embedding, own)),
        }

    def _swapped(
        self, latent: Latent, source: Segments, reference: Segments
    ) -> tuple[Tensor, Tensor]:
        """Each clip in the voice and pitch of one by somebody else, and the embeddings of these."""
        places = torch.from_numpy(self.validation.other_speakers(source.clips.cpu().numpy()))
        places = places.to(self.device)
        other = latent.speaker_embedding[places]
        log_f0 = source.log_f0_about(reference.median_log_f0()[places])
        return self.average.decode(Latent(latent.content, other), log_f0, source.voiced), other

    def error(self, metrics: dict[str, float]) -> float:
        """How far rebuilt mels are from the truth, and swapped ones from the reference."""
        return metrics["reconstruction"] + 1 - metrics["swap_to_reference"]

    @torch.no_grad()
    def examples(self) -> list[Example]:
        """A held-out clip, rebuilt, and in the voice of another speaker."""
        clips = np.array([0, len(self.validation.utterances) - 1])
        segments = self._cut(self.validation, np.random.default_rng(0), clips)
        latent = self.average.encode(segments.log_mel)
        rebuilt = self.average.decode(latent, segments.log_f0, segments.voiced)
        swapped, _ = self._swapped(latent, segments, segments)
        mels = {"source": segments.log_mel, "rebuilt": rebuilt, "converted": swapped}
        return [Example(f"autoencoder/{name}", mel[0]) for name, mel in mels.items()]

    def export(self, folder: Path, step: int, metrics: dict[str, float]) -> None:
        """Write the averaged weights."""
        save_checkpoint(self.average, folder, step, metrics)

    def _cut(self, data: SpeechData, generator: np.random.Generator, clips: np.ndarray) -> Segments:
        return data.cut(generator, clips, self.recipe.data.segment_frames).to(self.device)
