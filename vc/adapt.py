"""Adapt the model to one voice: learn it from minutes of clips, and say what that gains.

Every reference is learnt (`vc.learn_voice`), by more steps the more of it there is. From minutes it
can be told how well: every fifth clip is held out, and must be brought back from invented voices
better by the decoder that has learnt the others than by one that has not, or nothing that was
learnt is kept. No weight of the model changes, so the result is a voice file like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from vc.audio import MIN_REFERENCE_S, Audio, check_speech, read_audio, speech_s
from vc.convert import Converter, share_of
from vc.errors import AudioError, VoiceError
from vc.layouts import LeftOut
from vc.learn_voice import Lesson
from vc.model.autoencoder import Autoencoder, Latent
from vc.voice import Voice

MIN_TUNING_S = 20.0  # of speech, beside which some can be held out
_HELD_OUT = 5  # every so many clips one is held out
_LISTENING = 0.3  # share of the work
T = TypeVar("T")
_DB = 20 / np.log(10)  # of one natural-log unit of magnitude


@dataclass(frozen=True)
class Adaptation:
    """A voice, and what was gained by tuning it."""

    voice: Voice  # the better one
    is_tuned: bool
    average_error_db: float | None  # of held-out clips brought back by the embedding alone
    tuned_error_db: float | None  # the same by what was learnt; None: too little speech to tell
    clips: int
    speech_s: float  # of the clips, without silence at their ends
    left_out: list[LeftOut]


def adapt_voice(
    converter: Converter,
    files: Sequence[Path],
    name: str = "",
    steps: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Adaptation:
    """The voice in `files`, learnt.

    Args:
        converter: its autoencoder is the model that is adapted to.
        files: clips of one speaker, a minute or more in all.
        name: what to call the voice.
        steps: of gradient descent; see `vc.learn_voice`.
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
    total_s = sum(map(speech_s, heard))
    kept_s = sum(speech_s(audio) for audio in _without_held_out(heard))
    others, clips, lessons = converter.other_voices(), [], []
    for number, audio in enumerate(heard, 1):
        clips.append(converter.hear(audio))
        lessons.append(converter.lesson(clips[-1], others))
        progress(_LISTENING * number / len(heard))
    learning = share_of(progress, _LISTENING, 1)
    if len(heard) < _HELD_OUT or kept_s < MIN_TUNING_S:
        voice = converter.voice_of(clips, name)
        if others:  # as in `Converter.voice`
            voice = converter.learn(voice, lessons, steps, learning)
        is_tuned = voice.tuning is not None
        progress(1.0)
        return Adaptation(voice, is_tuned, None, None, len(heard), total_s, left_out)
    average = converter.voice_of(_without_held_out(clips))
    learnt = converter.learn(average, _without_held_out(lessons), steps, learning)
    held_out = lessons[_HELD_OUT - 1 :: _HELD_OUT]
    errors = [_error_db(converter.autoencoder, held_out, voice) for voice in (average, learnt)]
    is_tuned = errors[1] < errors[0]
    voice = converter.voice_of(clips, name)
    if is_tuned:
        voice = replace(voice, tuning=learnt.tuning)
    progress(1.0)
    return Adaptation(voice, is_tuned, errors[0], errors[1], len(heard), total_s, left_out)


def _without_held_out(things: Sequence[T]) -> list[T]:
    """What is learnt from, of what there is one of for each clip."""
    return [thing for number, thing in enumerate(things, 1) if number % _HELD_OUT]


@torch.inference_mode()
def _error_db(model: Autoencoder, lessons: Sequence[Lesson], voice: Voice) -> float:
    """Mean distance of the clips' mels from those brought back in the voice, in dB."""
    model, total, frames = model.tuned(voice.tuning), 0.0, 0
    for lesson in lessons:
        voices = len(lesson.content)
        speaker = voice.speaker_embedding.to(lesson.log_mel).expand(voices, -1)
        log_f0, voiced = (x.expand(voices, -1) for x in (lesson.log_f0, lesson.voiced))
        back = model.decode(Latent(lesson.content, speaker), log_f0, voiced)
        total += float((back - lesson.log_mel).abs().mean(dim=(0, 1)).sum())
        frames += lesson.log_mel.shape[-1]
    return total / frames * _DB
