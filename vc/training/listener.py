"""Training task of the listeners: who speaks, through any microphone, and which phones are said."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vc.checkpoint import load_listener, save_checkpoint
from vc.config import (
    DataConfig,
    FeatureConfig,
    ListenerConfig,
    OptimizerConfig,
    RunConfig,
    require_fit,
    require_not_negative,
    require_shares,
)
from vc.losses import ctc_loss, margin_softmax_loss, pairing_loss
from vc.model.autoencoder import Latent
from vc.model.listener import Listener
from vc.training.board import Example
from vc.training.data import Segments, SpeechData, cut_noise, load_noise
from vc.training.loop import autocast, make_optimizer, named_autoencoder, start_from
from vc.training.perturb import PerturbConfig, draw_voices, perturb, resize
from vc.training.phones import PhoneBatch, PhoneLabels

_VALIDATION_BATCHES = 4  # of phones
_LONGEST_LABELLED_S = 16.0


@dataclass(frozen=True)
class ListenerLossConfig:
    """Weights of the losses; 0 turns one off."""

    pairing: float = 1.0  # two pieces of a speaker find each other among all of the batch
    speaker: float = 0.3  # a piece names the training speaker
    phones: float = 1.0  # the cache needs labels (recipes/shipped/phones.py)

    def __post_init__(self) -> None:
        require_not_negative(self, "loss", *vars(self))


@dataclass(frozen=True)
class ListenerRecipe:
    """Everything that one training run is made of."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    listener: ListenerConfig = field(default_factory=ListenerConfig)
    autoencoder: str = ""  # checkpoint that rebuilds some pieces; the shipped one by default
    rebuilt_share: float = 0.12  # of pieces: how mels are decoded is not to tell the speaker
    loss: ListenerLossConfig = field(default_factory=ListenerLossConfig)
    perturb: PerturbConfig = field(
        default_factory=lambda: PerturbConfig(
            resize=0.0, noise_probability=0.5, noise_snr_db=(8.0, 35.0)
        )
    )
    phone_perturb: PerturbConfig = field(
        default_factory=lambda: PerturbConfig(
            resize=0.12, equalizer=0.25, mask_probability=0.7, mask_frames=12
        )
    )
    phone_seconds: float = 100.0  # of labelled speech in a batch
    data: DataConfig = field(default_factory=lambda: DataConfig(segment_frames=144, batch_size=32))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        require_fit(self.listener, "listener", self.features)
        require_shares(self, "recipe", "rebuilt_share")
        require_not_negative(self, "recipe", "phone_seconds")


class ListenerTask:
    """See `vc.training.loop.Task`."""

    name = "listener"

    def __init__(self, recipe: ListenerRecipe, cache: Path, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.train_data = SpeechData(cache, "train", recipe.features, recipe.data)
        self.validation = SpeechData(cache, "validation", recipe.features, recipe.data)
        self.noise = load_noise(cache, recipe.features, recipe.data)
        self.phones: PhoneLabels | None = None
        self.validation_phones: PhoneLabels | None = None
        config = recipe.listener
        if recipe.loss.phones:
            limits = (_LONGEST_LABELLED_S, recipe.phone_seconds)
            self.phones = PhoneLabels(cache, self.train_data, *limits)
            self.validation_phones = PhoneLabels(cache, self.validation, *limits)
            config = replace(config, phones=len(self.phones.alphabet))
        self.autoencoder = named_autoencoder(recipe.autoencoder, recipe.features).to(device)
        torch.manual_seed(recipe.run.seed)
        self.listener = Listener(config, recipe.features).to(device)
        self.classes = nn.Linear(config.speaker_dim, len(self.train_data.speakers), bias=False)
        if recipe.run.initial:
            start_from(self.listener, load_listener(Path(recipe.run.initial)), recipe.run.fresh)
        else:
            self.listener.set_statistics(*self.train_data.mel_statistics())
        self.average = copy.deepcopy(self.listener).eval().requires_grad_(False)
        self.modules: dict[str, nn.Module] = {
            "listener": self.listener,
            "average": self.average,
            "classes": self.classes.to(device),
        }
        trained = [*self.listener.parameters(), *self.classes.parameters()]
        self.optimizers = {"listener": make_optimizer(iter(trained), recipe.optimizer)}

    def add_gradients(self, step: int, generator: np.random.Generator) -> dict[str, float]:
        """Gradients of a batch of pairs of pieces, and of one of labelled clips."""
        recipe = self.recipe
        self.listener.train()
        clips = self.train_data.draw_clips(generator, recipe.data.batch_size)
        factor = torch.ones(len(clips))
        if recipe.perturb.new_voices:
            drawn = draw_voices(generator, len(clips), recipe.perturb.new_voices)
            factor = torch.from_numpy(drawn).float()
        first, second = self._pairs(self.train_data, generator, clips, factor)
        labels = torch.from_numpy(self.train_data.speaker_of[clips]).to(self.device)
        known = (factor == 1).to(self.device)
        with autocast(self.device, recipe.run):
            pieces = self._perturb(torch.cat([first, second]), generator, recipe.perturb)
            a, b = self.listener.hear_speaker(pieces).chunk(2)
            losses = {"pairing": pairing_loss(a, b, labels)}
            if known.any():
                classes = functional.normalize(self.classes.weight, dim=-1)
                heard = torch.cat([a[known], b[known]])
                cosines = functional.linear(heard, classes).float()
                losses["speaker"] = margin_softmax_loss(cosines, labels[known].repeat(2))
            if self.phones is not None:
                batch = self.phones.draw(generator)
                heard_as = self._perturb(batch.log_mel, generator, recipe.phone_perturb)
                batch = batch._replace(log_mel=heard_as)
                losses["phones"] = self._phone_loss(self.listener, batch)
        weights = recipe.loss
        torch.stack([getattr(weights, k) * v for k, v in losses.items()]).sum().backward()
        return {f"{k}/loss": float(v.detach()) for k, v in losses.items()}

    def _pairs(
        self, data: SpeechData, generator: np.random.Generator, clips: np.ndarray, factor: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Two mels of each speaker, moved to new voices by `factor`; some of them rebuilt."""
        partners = np.array([data.draw_partner(generator, int(c)) for c in clips])
        pieces = [
            data.cut(generator, c, self.recipe.data.segment_frames).to(self.device)
            for c in (clips, partners)
        ]
        moved = [resize(p.log_mel, factor.to(self.device)) for p in pieces]
        count = round(self.recipe.rebuilt_share * len(clips))
        for piece, own, other in zip(pieces, moved, list(reversed(moved)), strict=True):
            picks = generator.choice(len(clips), count, replace=False)
            own[picks] = self._rebuilt(piece, own[picks], other[picks], factor, picks)
        return moved[0], moved[1]

    @torch.no_grad()
    def _rebuilt(
        self, piece: Segments, own: Tensor, other: Tensor, factor: Tensor, picks: np.ndarray
    ) -> Tensor:
        """Mels as the autoencoder says them, in the voice that the other pieces have."""
        log_f0 = piece.log_f0[picks] - factor[picks].log().to(self.device)[:, None]
        with autocast(self.device, self.recipe.run):
            latent = Latent(
                self.autoencoder.encode_content(own), self.autoencoder.encode_speaker(other)
            )
            return self.autoencoder.decode(latent, log_f0, piece.voiced[picks]).float()

    def _phone_loss(self, listener: Listener, batch: PhoneBatch) -> Tensor:
        log_mel = batch.log_mel.to(self.device)
        return ctc_loss(listener.hear_phones(log_mel).logits, batch.targets, batch.lengths)

    def _perturb(
        self, log_mel: Tensor, generator: np.random.Generator, config: PerturbConfig
    ) -> Tensor:
        noise_mel = cut_noise(self.noise, generator, log_mel)
        return perturb(log_mel, config, self.recipe.features.log_floor, noise_mel)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Losses of the averaged weights on fixed clips of held-out speakers.

        Some pieces are rebuilt, as in training; nothing is perturbed.
        """
        data, generator = self.validation, np.random.default_rng(0)
        several = np.array([clips[0] for clips in data.clips_of if len(clips) > 1])
        clips = several[: self.recipe.data.validation_clips]
        figures = {}
        if len(clips) > 1:
            first, second = self._pairs(data, generator, clips, torch.ones(len(clips)))
            a, b = (self.average.hear_speaker(x) for x in (first, second))
            labels = torch.from_numpy(data.speaker_of[clips]).to(self.device)
            figures["pairing"] = float(pairing_loss(a, b, labels))
            figures["same_speaker"] = float((a * b).sum(-1).mean())
            figures["strangers"] = float((a * b.roll(1, 0)).sum(-1).mean())
        phones = self.validation_phones
        if phones is not None and len(phones.clips):
            labelled = [phones.draw(generator) for _ in range(_VALIDATION_BATCHES)]
            losses = [self._phone_loss(self.average, batch) for batch in labelled]
            figures["phones"] = float(torch.stack(losses).mean())
        return figures

    def error(self, metrics: dict[str, float]) -> float:
        """The losses together."""
        return metrics.get("pairing", 0.0) + metrics.get("phones", 0.0)

    def examples(self) -> list[Example]:
        """Nothing to listen to."""
        return []

    def export(self, folder: Path, step: int, metrics: dict[str, float]) -> None:
        """Write the averaged weights."""
        save_checkpoint(self.average, folder, step, metrics)
