"""Training task of the vocoder: rebuild real speech from its own mel and pitch.

First with spectral losses on true mels; then, from those weights, with a discriminator and with
mels as the autoencoder decodes them, since that is what it will hear in a conversion; last with
conversions themselves, of which no recording exists: they must sound real to the discriminator and
have the formants that were decoded.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vc.checkpoint import load_vocoder, save_checkpoint
from vc.config import (
    DataConfig,
    FeatureConfig,
    OptimizerConfig,
    RunConfig,
    VocoderConfig,
    require_fit,
    require_not_negative,
    require_shares,
)
from vc.errors import ConfigError
from vc.features import LogMel
from vc.losses import envelope_loss, multi_resolution_stft_loss
from vc.model.autoencoder import Latent
from vc.model.details import finish, voiced_frames
from vc.training.board import Example
from vc.training.data import Segments, SpeechData
from vc.training.discriminators import (
    PeriodDiscriminator,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
)
from vc.training.loop import autocast, frozen, make_optimizer, named_autoencoder, start_from
from vc.vocoder.source_filter import SourceFilterVocoder

_EDGE_FRAMES = 2  # a segment's ends miss their neighbours: no loss there
_FEWEST_VOICED = 10  # frames of a segment that is decoded


@dataclass(frozen=True)
class VocoderLossConfig:
    """Weights of the losses; 0 turns one off and saves its cost."""

    stft: float = 1.0
    mel: float = 1.0
    adversarial: float = 0.0
    feature_matching: float = 0.0
    conversion_adversarial: float = 0.0  # conversions sound real
    conversion_envelope: float = 1.0  # and have the broad spectrum that was decoded
    adversarial_from: float = 0.0  # share of the run before which the discriminator learns unheard

    def __post_init__(self) -> None:
        require_not_negative(self, "loss", *vars(self))
        require_shares(self, "loss", "adversarial_from")

    @property
    def hears_discriminator(self) -> bool:
        """Whether a loss rests on what the discriminator has learnt."""
        return any((self.adversarial, self.feature_matching, self.conversion_adversarial))


@dataclass(frozen=True)
class VocoderRecipe:
    """Everything that one vocoder training run is made of."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    vocoder: VocoderConfig = field(default_factory=VocoderConfig)
    loss: VocoderLossConfig = field(default_factory=VocoderLossConfig)
    data: DataConfig = field(default_factory=lambda: DataConfig(segment_frames=48, batch_size=24))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)
    autoencoder: str = ""  # checkpoint whose decoded mels are also trained on
    decoded_share: float = 0.5  # of each batch, if there is one
    converted: int = 0  # conversions between the clips of a batch that are added to it

    def __post_init__(self) -> None:
        require_fit(self.vocoder, "vocoder", self.features)
        require_shares(self, "recipe", "decoded_share")
        require_not_negative(self, "recipe", "converted")
        if self.converted and self.data.batch_size < 2:
            raise ConfigError("data: batch_size must be at least 2 for conversions, or converted 0")


class VocoderTask:
    """See `vc.training.loop.Task`."""

    name = "vocoder"

    def __init__(self, recipe: VocoderRecipe, cache: Path, device: torch.device) -> None:
        self.recipe = recipe
        self.device = device
        torch.manual_seed(recipe.run.seed)
        self.vocoder = SourceFilterVocoder(recipe.vocoder, recipe.features).to(device)
        if recipe.run.initial:
            initial = load_vocoder(Path(recipe.run.initial))
            start_from(self.vocoder, initial, recipe.run.fresh)
        # in training mode as well: what `vocoder.clarity_*` add is not to be measured
        self.average = copy.deepcopy(self.vocoder).requires_grad_(False)
        self.discriminator = PeriodDiscriminator().to(device)
        self.autoencoder = (
            named_autoencoder(recipe.autoencoder, recipe.features).to(device)
            if recipe.autoencoder
            else None
        )
        self.log_mel = LogMel(recipe.features).to(device)
        self.modules: dict[str, nn.Module] = {
            "vocoder": self.vocoder,
            "average": self.average,
            "discriminator": self.discriminator,
        }
        self.optimizers = {
            "vocoder": make_optimizer(self.vocoder.parameters(), recipe.optimizer),
            "discriminator": make_optimizer(
                self.discriminator.parameters(),
                recipe.optimizer,
                recipe.optimizer.discriminator_rate,
            ),
        }
        # no clip is repeated until it fills a segment: where it begins again, its mel would be of
        # another waveform
        whole_s = (recipe.data.segment_frames + 2) / recipe.features.frame_rate
        data = replace(recipe.data, min_clip_s=max(recipe.data.min_clip_s, whole_s))
        self.train_data, self.validation = (
            SpeechData(cache, split, recipe.features, data, waveforms=True)
            for split in ("train", "validation")
        )

    def add_gradients(self, step: int, generator: np.random.Generator) -> dict[str, float]:
        """Gradients of random segments, of the vocoder and of the discriminator."""
        recipe, weights = self.recipe, self.recipe.loss
        clips = self.train_data.draw_clips(generator, recipe.data.batch_size)
        segments, waveform = self._cut(self.train_data, generator, clips)
        converted = self._some_converted(segments, generator)
        segments = self._some_decoded(segments)
        rebuilt, waveform = self._rebuild(self.vocoder, segments, waveform)
        losses = self._spectral_losses(rebuilt, waveform)
        heard = step >= weights.adversarial_from * recipe.run.steps
        if heard and (weights.adversarial or weights.feature_matching):
            losses |= self._adversarial_losses(rebuilt, waveform)
        if converted is not None:
            conversion = self._synthesize(self.vocoder, converted)
            losses["conversion_envelope"] = self._envelope_loss(conversion, converted.log_mel)
            if heard and weights.conversion_adversarial:
                losses["conversion_adversarial"], _ = self._sounds_unreal(conversion)
            rebuilt = torch.cat([rebuilt, conversion])
        total = torch.stack([getattr(weights, k) * v for k, v in losses.items()]).sum()
        total.backward()
        report = {f"{k}/loss": float(v.detach()) for k, v in losses.items()}
        if weights.hears_discriminator:
            report["discriminator/loss"] = self._discriminator_gradients(rebuilt, waveform)
        return report

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Spectral losses of the averaged weights on fixed segments of held-out speakers."""
        torch.manual_seed(0)  # of the noise that is shaped
        generator = np.random.default_rng(0)
        clips = self.validation.first_clips(self.recipe.data.validation_clips)
        segments, waveform = self._cut(self.validation, generator, clips)
        losses = self._spectral_losses(*self._rebuild(self.average, segments, waveform))
        return {k: float(v) for k, v in losses.items()}

    def error(self, metrics: dict[str, float]) -> float:
        """The spectral losses together."""
        return metrics["stft"] + metrics["mel"]

    @torch.no_grad()
    def examples(self) -> list[Example]:
        """A held-out piece as recorded and as synthesised."""
        torch.manual_seed(0)
        longest = np.array([int(np.argmax(self.validation.frames))])
        segments, waveform = self._cut(self.validation, np.random.default_rng(0), longest)
        rebuilt, waveform = self._rebuild(self.average, segments, waveform)
        return [
            Example("vocoder/source", waveform=waveform[0]),
            Example("vocoder/synthesised", waveform=rebuilt[0]),
        ]

    def export(self, folder: Path, step: int, metrics: dict[str, float]) -> None:
        """Write the averaged weights."""
        save_checkpoint(self.average, folder, step, metrics)

    def _cut(
        self, data: SpeechData, generator: np.random.Generator, clips: np.ndarray
    ) -> tuple[Segments, Tensor]:
        frames = self.recipe.data.segment_frames
        segments, waveform = data.cut_with_waveform(generator, clips, frames)
        return segments.to(self.device), waveform.to(self.device)

    @torch.no_grad()
    def _some_decoded(self, segments: Segments) -> Segments:
        """Replace the mels of a share of the batch by their own reconstructions.

        Where hardly anybody speaks there is no voice to be decoded: breath would be made of
        silence, and cost more than all other segments together.
        """
        share = slice(0, round(self.recipe.decoded_share * len(segments.log_mel)))
        if self.autoencoder is None or not share.stop:
            return segments
        true = Segments(*(x[share] for x in segments))
        is_spoken = (true.voiced.sum(dim=-1) >= _FEWEST_VOICED)[:, None, None]
        log_mel = segments.log_mel.clone()
        decoded = self._as_heard(true, true.log_f0, true)
        log_mel[share] = torch.where(is_spoken, decoded, true.log_mel)
        return segments._replace(log_mel=log_mel)

    @torch.no_grad()
    def _some_converted(
        self, segments: Segments, generator: np.random.Generator
    ) -> Segments | None:
        """The first clips of a batch, each in the voice and pitch of a random other one."""
        count = self.recipe.converted
        if self.autoencoder is None or not count:
            return None
        order = torch.arange(len(segments.clips)).roll(
            int(generator.integers(1, len(segments.clips)))
        )
        source = Segments(*(x[:count] for x in segments))
        reference = Segments(*(x[order][:count] for x in segments))
        log_f0 = source.log_f0_about(reference.median_log_f0())
        log_mel = self._as_heard(source, log_f0, reference)
        return source._replace(log_mel=log_mel, log_f0=log_f0)

    def _as_heard(self, source: Segments, log_f0: Tensor, reference: Segments) -> Tensor:
        """Mels `(batch, n_mels, frames)` of a source in a reference's voice, as in a conversion."""
        assert self.autoencoder is not None
        with autocast(self.device, self.recipe.run):
            latent = Latent(
                self.autoencoder.encode_content(source.log_mel),
                self.autoencoder.encode_speaker(reference.log_mel),
            )
            decoded = self.autoencoder.decode(latent, log_f0, source.voiced)
        finished = []  # one by one, as references differ in how many frames are voiced
        for clip, log_mel in enumerate(decoded.float()):
            details = voiced_frames(reference.log_mel[clip], reference.voiced[clip])
            finished.append(finish(log_mel[None], source.voiced[clip][None], details[None]))
        return torch.cat(finished)

    def _rebuild(
        self, vocoder: SourceFilterVocoder, segments: Segments, waveform: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Synthesised and true waveform without the segment's ends."""
        edge = _EDGE_FRAMES * self.recipe.features.hop_length
        return self._synthesize(vocoder, segments), waveform[:, edge:-edge]

    def _synthesize(self, vocoder: SourceFilterVocoder, segments: Segments) -> Tensor:
        """Waveform without the segment's ends."""
        with autocast(self.device, self.recipe.run):
            waveform = vocoder(segments.log_mel, segments.log_f0, segments.voiced)
        edge = _EDGE_FRAMES * self.recipe.features.hop_length
        return waveform[:, edge:-edge]

    def _spectral_losses(self, rebuilt: Tensor, waveform: Tensor) -> dict[str, Tensor]:
        return {
            "stft": multi_resolution_stft_loss(rebuilt, waveform),
            "mel": (self.log_mel(rebuilt) - self.log_mel(waveform)).abs().mean(),
        }

    def _adversarial_losses(self, rebuilt: Tensor, waveform: Tensor) -> dict[str, Tensor]:
        unreal, features = self._sounds_unreal(rebuilt)
        with torch.no_grad(), autocast(self.device, self.recipe.run):
            _, real_features = self.discriminator(waveform)
        return {
            "adversarial": unreal,
            "feature_matching": feature_matching_loss(real_features, features),
        }

    def _envelope_loss(self, conversion: Tensor, log_mel: Tensor) -> Tensor:
        """Of synthesised conversions, given the mels they were made from."""
        inner = slice(_EDGE_FRAMES, -_EDGE_FRAMES)
        wanted = log_mel[..., inner]  # the frames that `conversion` begins and ends with
        difference = self.log_mel(conversion)[..., : wanted.shape[-1]] - wanted
        return envelope_loss(difference[..., inner])

    def _sounds_unreal(self, synthesised: Tensor) -> tuple[Tensor, list[Tensor]]:
        """How far from real the discriminator finds it, and its inner features."""
        with frozen(self.discriminator), autocast(self.device, self.recipe.run):
            scores, features = self.discriminator(synthesised)
        return torch.stack([generator_loss(s) for s in scores]).mean(), features

    def _discriminator_gradients(self, rebuilt: Tensor, waveform: Tensor) -> float:
        with autocast(self.device, self.recipe.run):
            real, _ = self.discriminator(waveform)
            fake, _ = self.discriminator(rebuilt.detach())
        losses = [discriminator_loss(r, f) for r, f in zip(real, fake, strict=True)]
        loss = torch.stack(losses).mean()
        loss.backward()
        return float(loss.detach())
