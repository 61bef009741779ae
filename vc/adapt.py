"""Adapt the model to one voice: tune the speaker embedding on minutes of the speaker's clips.

An embedding that was only listened to (`Converter.voice`) is what the speaker encoder makes of the
clips. Here it goes on from there, by gradient through the frozen decoder, to what converts into
the speaker's own clips best: a textual inversion (Gal et al. 2022, arXiv:2208.01618) for voices. No
weight of the model changes, so the result is a voice file like any other.

A conversion into the voice has no truth to be compared with, but the way back has: the speaker's
clips are converted into invented voices, and content read from these must, with the embedding,
become the clips again (self transformations, Neekhara et al. 2023, arXiv:2310.09653). Every fifth
clip is held out; on these the tuned embedding must beat the average one, or the average is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vc.audio import MIN_REFERENCE_S, Audio, check_speech, read_audio, speech_s
from vc.convert import Converter, moved_f0
from vc.errors import AudioError, CheckpointError, VoiceError
from vc.layouts import LeftOut
from vc.losses import envelope_loss
from vc.model.autoencoder import Autoencoder, Latent
from vc.model.speaker_encoder import with_unit_identity
from vc.pitch import estimate_f0, interpolate_log_f0
from vc.voice import Voice

MIN_TUNING_S = 20.0  # with less speech than this, tuning would learn the clips, not the voice
_HELD_OUT = 5  # every so many clips one is held out
_OTHERS = 4  # invented voices that each clip is also said in
_WINDOW_FRAMES, _BATCH_SIZE, _LEARNING_RATE = 128, 8, 1e-2
_DB = 20 / np.log(10)  # of one natural-log unit of magnitude


@dataclass(frozen=True)
class Adaptation:
    """A voice, and what was gained by tuning it."""

    voice: Voice  # the better one
    is_tuned: bool
    average_error_db: float | None  # of held-out clips brought back with the average embedding
    tuned_error_db: float | None  # the same with the tuned one; None: too little speech to tune
    clips: int
    speech_s: float  # of the clips, without silence at their ends
    left_out: list[LeftOut]


@dataclass(frozen=True)
class _Clip:
    """What is known of one clip; `content` is read once, since its encoder does not change."""

    content: Tensor  # (voices, content_dim, content_frames), read from it in other voices
    log_mel: Tensor  # (n_mels, frames)
    log_f0: Tensor  # (frames,)
    voiced: Tensor  # (frames,)


def adapt_voice(
    converter: Converter,
    files: Sequence[Path],
    name: str = "",
    steps: int = 300,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Adaptation:
    """The best embedding for the voice in `files`.

    Args:
        converter: its autoencoder is the model that is adapted to.
        files: clips of one speaker, a minute or more in all.
        name: what to call the voice.
        steps: of gradient descent.
        seed: of the order in which pieces are looked at.
        progress: called with the share done, 0 to 1.

    Raises:
        VoiceError: no clip can be used; the first reason is given.
    """
    progress = progress or (lambda share: None)
    heard: list[Audio] = []
    left_out: list[LeftOut] = []
    for file in files:
        try:
            audio = read_audio(file)
            check_speech(audio, str(file), MIN_REFERENCE_S)
            heard.append(audio)
        except AudioError as error:
            left_out.append(LeftOut(file, str(error)))
    if not heard:
        raise VoiceError(left_out[0].reason if left_out else "no clip of the voice was given")
    everything = converter.voice(heard, name)
    total_s = sum(map(speech_s, heard))
    found = Adaptation(everything, False, None, None, len(heard), total_s, left_out)
    held_out, kept = heard[_HELD_OUT - 1 :: _HELD_OUT], list(heard)
    del kept[_HELD_OUT - 1 :: _HELD_OUT]
    if not held_out or sum(map(speech_s, kept)) < MIN_TUNING_S:
        progress(1.0)
        return found
    clips, others = [], _other_voices(converter, seed)
    for number, audio in enumerate([*kept, *held_out], 1):
        clips.append(_clip(converter, audio, others))
        progress(0.3 * number / len(heard))
    average = converter.voice(kept, name)
    start = average.speaker_embedding.to(converter.device)
    tuned = _tune(converter.autoencoder, clips[: len(kept)], start, steps, seed, progress)
    errors = [_error_db(converter.autoencoder, clips[len(kept) :], e) for e in (start, tuned)]
    found = replace(found, average_error_db=errors[0], tuned_error_db=errors[1])
    progress(1.0)
    if errors[1] >= errors[0]:
        return found
    return replace(found, voice=replace(everything, speaker_embedding=tuned.cpu()), is_tuned=True)


def _other_voices(converter: Converter, seed: int) -> list[Voice]:
    """Voices that belong to nobody; none, if the model cannot invent them."""
    try:
        return [converter.new_voice(seed + number) for number in range(_OTHERS)]
    except CheckpointError:
        return []


@torch.inference_mode()
def _clip(converter: Converter, audio: Audio, others: Sequence[Voice]) -> _Clip:
    model = converter.autoencoder
    waveform = converter.reference_waveform(audio)
    f0 = estimate_f0(waveform, converter.features)
    voiced = converter._tensor((f0 > 0).astype(np.float32))
    log_mel = converter.log_mel(converter._tensor(waveform))
    content = model.encode_content(log_mel)
    versions = []
    for other in others:
        moved = moved_f0(f0, other, "match", converter.features)
        log_f0 = converter._tensor(interpolate_log_f0(moved))
        latent = Latent(content, other.speaker_embedding.to(converter.device)[None])
        versions.append(model.encode_content(model.decode(latent, log_f0, voiced))[0])
    own_f0 = converter._tensor(interpolate_log_f0(f0))
    return _Clip(torch.stack(versions or [content[0]]), log_mel[0], own_f0[0], voiced[0])


def _tune(
    model: Autoencoder,
    clips: Sequence[_Clip],
    start: Tensor,
    steps: int,
    seed: int,
    progress: Callable[[float], None],
) -> Tensor:
    """The embedding `(embedding_dim,)` that brings the clips back best, searched from `start`."""
    generator = np.random.default_rng(seed)
    lengths = np.array([clip.log_mel.shape[-1] for clip in clips], float)
    embedding = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([embedding], lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        chosen = generator.choice(len(clips), _BATCH_SIZE, p=lengths / lengths.sum())
        pieces = [_cut(clips[i], model.config.content_stride, generator) for i in chosen]
        content, log_mel, log_f0, voiced = (torch.stack(part) for part in zip(*pieces, strict=True))
        speaker = with_unit_identity(embedding, model.config).expand(_BATCH_SIZE, -1)
        error = model.decode(Latent(content, speaker), log_f0, voiced) - log_mel
        loss = error.abs().mean() + envelope_loss(error)
        (embedding.grad,) = torch.autograd.grad(loss, [embedding])
        optimizer.step()
        schedule.step()
        progress(0.3 + 0.7 * (step + 1) / steps)
    return with_unit_identity(embedding.detach(), model.config)


def _cut(
    clip: _Clip, stride: int, generator: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A piece of one length; a shorter clip is repeated until it fills it."""
    whole = max(1, clip.log_mel.shape[-1] // stride)  # content frames
    wanted = _WINDOW_FRAMES // stride
    first = generator.integers(max(1, whole - wanted + 1))
    content_rows = torch.from_numpy((first + np.arange(wanted)) % whole)
    rows = (content_rows[:, None] * stride + torch.arange(stride)).flatten()
    rows = rows.clamp(max=clip.log_mel.shape[-1] - 1)
    return (
        clip.content[generator.integers(len(clip.content))][:, content_rows],
        clip.log_mel[:, rows],
        clip.log_f0[rows],
        clip.voiced[rows],
    )


@torch.inference_mode()
def _error_db(model: Autoencoder, clips: Sequence[_Clip], embedding: Tensor) -> float:
    """Mean distance of the clips' mels from those brought back with one embedding, in dB."""
    total, frames = 0.0, 0
    for clip in clips:
        voices = len(clip.content)
        latent = Latent(clip.content, embedding.expand(voices, -1))
        log_f0, voiced = (x.expand(voices, -1) for x in (clip.log_f0, clip.voiced))
        back = model.decode(latent, log_f0, voiced)
        total += float((back - clip.log_mel).abs().mean(dim=(0, 1)).sum())
        frames += clip.log_mel.shape[-1]
    return total / frames * _DB
