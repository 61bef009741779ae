"""Learn a voice from its clips: a few seconds of training, each time that a voice is new.

A conversion into a voice has no truth to be compared with, but the way back has: the clips are
said in voices that belong to nobody, and content read from these must, with the embedding of the
voice, become the clips again (self transformations, Neekhara et al. 2023, arXiv:2310.09653). So the
decoder learns how this speaker says what others have said, which is what it is asked for later.
What it learns is small (`vc.model.tuning`), and the more of the voice there is, the more it is.

What is to become of a clip is not the clip itself, but what the decoder says, with what is missing
of the clip as far as that is broad over the bands and slow. For what is fine and fast nobody can
know from content, so of that a decoder would learn the mean, and blur; and harmonics go with the
pitch, which is another in half of the lessons, as the voice is to be heard at all. How a speaker
moves is asked for in another way: where the pitch is the clip's, the content encoder is to hear
what it hears in the clip (a perceptual loss, Johnson et al. 2016, arXiv:1603.08155, by the model's
own ears).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vc.audio import Waveform
from vc.losses import envelope_loss
from vc.model.autoencoder import Autoencoder, Latent
from vc.model.decoder import Decoder
from vc.model.layers import smooth_bands, smooth_frames
from vc.model.tuning import Tuning, tuned, untuned
from vc.pitch import interpolate_log_f0, moved_f0
from vc.voice import Voice

OTHERS = 8  # voices that each clip is also said in

_STEPS_A_SECOND, _MIN_STEPS, _MAX_STEPS = 12.0, 30, 600  # of the voice's clips
_WINDOW_FRAMES, _LEARNING_RATE = 128, 2e-3
_SHIFTS = (0.0, -7.0, 0.0, 7.0, 0.0, -3.5, 0.0, 3.5)  # semitones, one for each voice
_COEFFICIENTS, _SMOOTHED_FRAMES = 12, 5  # cepstral; of what is learnt
_MOST_FRAMES = 40_000  # that are kept for the second half of the decoder: 40 MB
_HEARD_WEIGHT, _OTHER_PITCH_WEIGHT = 10.0, 2.0  # beside what is said at the clip's own pitch
_EDGE_FRAMES = 16  # of a piece, where what lies beyond it would be heard, too


class Lesson(NamedTuple):
    """One clip of the voice, and what is heard in it as others say it."""

    content: Tensor  # (voices, content_dim, content_frames)
    log_mel: Tensor  # (n_mels, frames), of the clip itself
    log_f0: Tensor  # (frames,)
    voiced: Tensor  # (frames,)


class Exercise(NamedTuple):
    """What the second half of the decoder is given, and what it is to make of it."""

    begun: Tensor  # (voices, width, frames)
    wanted: Tensor  # (voices, n_mels, frames)
    content: Tensor  # (voices, content_dim, content_frames), to be heard in it
    is_heard: Tensor  # (voices,), whether that is asked for


@torch.inference_mode()
def hear_lesson(
    model: Autoencoder, log_mel: Tensor, f0: Waveform, others: Sequence[Voice]
) -> Lesson:
    """Have a clip said by others, and listen.

    Args:
        model: that the voice is learnt for.
        log_mel: of the clip, `(1, n_mels, frames)`.
        f0: `(frames,)` in Hz, 0 where unvoiced.
        others: voices that it is said in; without any, content of the clip itself is all.
    """
    content = model.encode_content(log_mel)
    voiced = torch.from_numpy((f0 > 0).astype(np.float32)).to(log_mel)[None]
    versions = []
    for other in others:
        log_f0 = interpolate_log_f0(moved_f0(f0, other.pitch, "match", model.features))
        latent = Latent(content, other.speaker_embedding.to(log_mel)[None])
        said = model.decode(latent, torch.from_numpy(log_f0).to(log_mel)[None], voiced)
        versions.append(model.encode_content(said)[0])
    own_log_f0 = torch.from_numpy(interpolate_log_f0(f0)).to(log_mel)
    heard = torch.stack(versions or [content[0]])
    return Lesson(heard, log_mel[0], own_log_f0, voiced[0])


def learn_voice(
    model: Autoencoder,
    lessons: Sequence[Lesson],
    speaker_embedding: Tensor,
    steps: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Tuning:
    """What the decoder learns from clips of a voice.

    Args:
        model: not changed.
        lessons: one for each clip.
        speaker_embedding: of the voice, `(embedding_dim,)`.
        steps: of gradient descent; by default as many as there are seconds, twelve times, within
            bounds: few clips are learnt by heart by many.
        progress: called with the share done, 0 to 1.
    """
    seconds = sum(lesson.log_mel.shape[-1] for lesson in lessons) / model.features.frame_rate
    steps = steps or round(np.clip(_STEPS_A_SECOND * seconds, _MIN_STEPS, _MAX_STEPS))
    generator = np.random.default_rng(0)  # the same clips give the same voice
    stride = model.config.content_stride
    embedding = speaker_embedding.detach().to(model.get_buffer("mel_mean"))[None]
    exercises = [make_exercise(model, lesson, embedding) for lesson in _thin_out(lessons)]
    shares = np.array([lesson.log_mel.shape[-1] for lesson in lessons], float)
    shares /= shares.sum()
    with torch.inference_mode(False), torch.enable_grad():
        embedding = embedding.clone()  # of a caller's inference mode, perhaps
        tuning = untuned(model.decoder, torch.Generator().manual_seed(0))
        learnt = [tensor.requires_grad_(True) for tensor in tuning.values()]
        optimizer = torch.optim.Adam(learnt, lr=_LEARNING_RATE, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for step in range(steps):
            chosen = generator.choice(len(lessons), p=shares)
            exercise = cut_exercises([exercises[chosen]], generator, stride)
            decoder = tuned(model.decoder, tuning, factored=True)
            said = say_exercise(model, decoder, exercise, embedding)
            loss = lesson_loss(said, exercise)
            if exercise.is_heard.all():
                loss = loss + _HEARD_WEIGHT * heard_loss(model, said, exercise)
            else:  # or other pitches would hardly count beside it
                loss = _OTHER_PITCH_WEIGHT * loss
            for tensor, gradient in zip(learnt, torch.autograd.grad(loss, learnt), strict=True):
                tensor.grad = gradient
            optimizer.step()
            schedule.step()
            if progress:
                progress((step + 1) / steps)
    return {name: tensor.detach().half().cpu() for name, tensor in tuning.items()}


def _thin_out(lessons: Sequence[Lesson]) -> list[Lesson]:
    """Of long clips in many voices fewer voices, but one for each kind of exercise."""
    frames = sum(lesson.log_mel.shape[-1] for lesson in lessons)
    most = max(2, _MOST_FRAMES // frames)
    return [lesson._replace(content=lesson.content[:most]) for lesson in lessons]


@torch.inference_mode()
def make_exercise(model: Autoencoder, lesson: Lesson, embedding: Tensor) -> Exercise:
    """What is to be learnt from a lesson; see the module.

    Args:
        model: whose decoder is to learn it.
        lesson: of any length.
        embedding: of the voice, `(1, embedding_dim)`.
    """
    voiced = lesson.voiced[None]

    def say(content: Tensor, log_f0: Tensor) -> tuple[Tensor, Tensor]:
        half = model.decoder.begin(content[None], embedding, log_f0, voiced)
        return half, model.denormalize(model.decoder.end(half, embedding))

    begun, wanted, is_heard = [], [], []
    # a clip that is repeated to fill a piece would be heard as something else
    fills_a_piece = lesson.log_mel.shape[-1] >= _WINDOW_FRAMES
    for number, content in enumerate(lesson.content):
        half, said = say(content, lesson.log_f0[None])
        missing = smooth_bands(lesson.log_mel[None] - said, _COEFFICIENTS)
        missing = smooth_frames(missing, _SMOOTHED_FRAMES)
        shift = _SHIFTS[number % len(_SHIFTS)]
        if shift:
            own_f0 = lesson.log_f0.exp().cpu().numpy()
            log_f0 = np.log(moved_f0(own_f0, None, shift, model.features))
            half, said = say(content, torch.from_numpy(log_f0).to(half)[None])
        begun.append(half)
        wanted.append(said + missing)
        is_heard.append(fills_a_piece and not shift)
    heard = model.encode_content(lesson.log_mel[None]).expand(len(begun), -1, -1)
    return Exercise(torch.cat(begun), torch.cat(wanted), heard, torch.tensor(is_heard))


def cut_exercises(
    exercises: Sequence[Exercise], generator: np.random.Generator, stride: int
) -> Exercise:
    """Pieces of one length of several, each in one voice; a shorter one is repeated to fill it.

    Args:
        exercises: of any length.
        generator: that the pieces are drawn with.
        stride: mel frames for each frame of content.
    """
    pieces = []
    for exercise in exercises:
        voices, _, frames = exercise.wanted.shape
        first = generator.integers(max(1, frames - _WINDOW_FRAMES + 1)) // stride * stride
        rows = torch.from_numpy((first + np.arange(_WINDOW_FRAMES)) % frames)
        voice = generator.integers(voices)
        heard = exercise.content[voice][:, rows[::stride] // stride]
        spoken = exercise.begun[voice][:, rows], exercise.wanted[voice][:, rows]
        pieces.append(Exercise(*spoken, heard, exercise.is_heard[voice]))
    return Exercise(*(torch.stack(parts) for parts in zip(*pieces, strict=True)))


def say_exercise(
    model: Autoencoder, decoder: Decoder, exercise: Exercise, embedding: Tensor
) -> Tensor:
    """What `decoder`, tuned to a voice, makes of pieces of one length, `(pieces, n_mels, frames)`.

    Args:
        model: that the decoder belongs to.
        decoder: whose second half speaks.
        exercise: several pieces.
        embedding: of the voice, `(1, embedding_dim)`.
    """
    said = decoder.end(exercise.begun, embedding.expand(len(exercise.begun), -1))
    return model.denormalize(said)


def lesson_loss(said: Tensor, exercise: Exercise) -> Tensor:
    """How far what was said, `(pieces, n_mels, frames)`, is from what was wanted."""
    error = said - exercise.wanted
    return error.abs().mean() + envelope_loss(error)


def heard_loss(model: Autoencoder, said: Tensor, exercise: Exercise) -> Tensor:
    """How far what is heard in what was said is from what is heard in the clip.

    Args:
        model: that listens.
        said: `(pieces, n_mels, frames)`.
        exercise: what was to be said.
    """
    edge = _EDGE_FRAMES // model.config.content_stride
    error = model.encode_content(said) - exercise.content
    return error[..., edge : error.shape[-1] - edge].abs().mean()
