"""Conversion: the words of a source clip in the voice of reference clips.

This is the one path from audio to converted audio; the command line, the recipes and the demo all
come through here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vc.anomaly import NORMALITY_FILE, Normality, Strangeness, load_normality
from vc.audio import (
    MIN_REFERENCE_S,
    MIN_SPEECH_S,
    Audio,
    Loudness,
    Waveform,
    active_level_db,
    check_speech,
    fit_length,
    normalize_level,
    read_audio,
    resample,
    speech_span,
    wanted_level_db,
    without_offset,
)
from vc.checkpoint import load_autoencoder, load_denoiser, load_vocoder, weights_sha256
from vc.clip_check import NO_SPEECH_KINDS, NOT_SPEECH, STRANGE, Problem, check_clip
from vc.config import SHIPPED, model_part
from vc.denoise import REFERENCE_EXPONENT, clean_blocks
from vc.errors import AudioError, CheckpointError, VCError, VoiceError
from vc.features import LogMel
from vc.learn_voice import OTHERS, Lesson, hear_lesson, learn_voice
from vc.model.autoencoder import Autoencoder
from vc.model.denoiser import Denoiser
from vc.model.details import thin_out, voiced_frames
from vc.model.residual import Source
from vc.model.speaker_encoder import average_embeddings
from vc.model.tuning import fits
from vc.pitch import Pitch, estimate_f0, interpolate_log_f0, moved_f0, pitch_range
from vc.sight import LOOKED_AT_S, look
from vc.vocoder.griffin_lim import griffin_lim
from vc.vocoder.high_band import HighBand, add_high_band
from vc.vocoder.source_filter import SourceFilterVocoder
from vc.vocoder.temporal_envelope import TemporalEnvelope
from vc.voice import Voice, blend_voices, is_voice_file, load_voice
from vc.voice_prior import PRIOR_FILE, VoicePrior, load_prior

COMMENT = "Converted speech: synthetic, not a recording of the person it sounds like (vc)"
_REMEMBERED = 8  # learnt voices, 0.3 MB each
_LEARNING = 0.6  # share of a bar of progress that listening to a voice and learning it have
LONG_S = 60.0  # longer clips are converted in blocks, to the same result in constant memory

Clip = Audio | str | os.PathLike[str]
Reference = Clip | Voice  # a path may name a clip or a voice file
Progress = Callable[[float], None]


class Embedding(NamedTuple):
    """What the model knows of a clip, for other uses than converting it."""

    content: np.ndarray  # (frames, content_dim): what is said
    speaker_embedding: np.ndarray  # (embedding_dim,): who says it
    f0: Waveform  # (frames,) in Hz, 0 where unvoiced
    frame_rate: float  # of content, frames a second; F0 has `content_stride` times as many


class ClipReport(NamedTuple):
    """What is to be known of a clip before it is converted."""

    problems: list[Problem]  # the worst first; empty for a good clip
    strangeness: Strangeness | None  # None if the model was not asked, or knows no normal speech


class HeardClip(NamedTuple):
    """What is known of a clip of a voice."""

    samples: int  # at the model's rate
    log_mel: Tensor  # (1, n_mels, frames), repaired
    f0: Waveform  # (frames,) in Hz
    speaker_embedding: Tensor  # (embedding_dim,)
    details: Tensor  # (kept, n_mels)
    level_db: float  # of active speech as it was recorded, in dBFS


class Converter:
    """A ready model: encoders, decoder, vocoder and denoiser.

    Args:
        autoencoder: in evaluation mode.
        vocoder: made for the same features; None for Griffin-Lim.
        denoiser: made for the same features; None if nothing is ever denoised.
        folder: of the checkpoint, for what lies beside the networks: the prior of voices, what
            normal speech is, usual statistics, units. None does without them.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        vocoder: SourceFilterVocoder | None,
        denoiser: Denoiser | None = None,
        folder: Path | None = None,
    ) -> None:
        for other in (vocoder, denoiser):
            if other is not None and other.features != autoencoder.features:
                raise CheckpointError(
                    "autoencoder, vocoder and denoiser were trained on different features; "
                    "train those that do not fit"
                )
        self.autoencoder = autoencoder
        self.vocoder = vocoder
        self.denoiser = denoiser
        self.folder = folder
        self.features = autoencoder.features
        self.device = autoencoder.get_buffer("mel_mean").device
        self.log_mel = LogMel(self.features).to(self.device)
        self.temporal_envelope = TemporalEnvelope(self.features).to(self.device)
        self._learnt: dict[bytes, Voice] = {}  # the last few, by what was heard of them

    @cached_property
    def model_sha256(self) -> str:
        """Checksum of the autoencoder's weights: which model a voice belongs to."""
        return weights_sha256(self.autoencoder)

    def convert(
        self,
        source: Clip,
        references: Reference | Sequence[Reference],
        pitch: Pitch = "match",
        sample_rate: int | None = None,
        progress: Progress | None = None,
        strength: float = 1.0,
        denoise: bool = False,
        learn: bool = True,
        loudness: Loudness = "match",
    ) -> Audio:
        """Say the source's words in the references' voice.

        Args:
            source: a file or `Audio`.
            references: one or more clips, voice files or `Voice`s of the wanted speaker.
            pitch: "match" moves the source's median F0 to the references', "keep" leaves it, a
                number shifts it by so many semitones.
            sample_rate: of the result in Hz; the source's own by default.
            progress: called with the share done, 0 to 1.
            strength: how far to go from the source's own voice (0) to the references' (1); a
                pitch that is matched goes as far.
            denoise: take background noise and echoes out of the source first; all but its
                content, and the references, are always heard without them.
            learn: as in `voice`.
            loudness: "match" makes it as loud as the references, within reason; "keep" as loud as
                the source.

        Returns:
            As long as the source (to the sample, at the source's rate).

        Raises:
            AudioError: a clip cannot be read, is silent or too short.
            VoiceError: a voice file cannot be used.
            CheckpointError: to be denoised, but the model has no denoiser.
        """
        check_strength(strength)
        progress = progress or (lambda share: None)
        original = self.clip(source)
        check_speech(original, _name(source, "source"))
        voice = self.voice(references, learn=learn, progress=share_of(progress, 0, _LEARNING))
        progress = share_of(progress, _LEARNING, 1)
        if strength < 1:
            voice = self.towards(voice, pieces(original, LONG_S), strength)
        if original.duration_s > LONG_S:
            from vc.blockwise import can_split, convert_waveform

            if can_split(self):
                target_rate = sample_rate or original.sample_rate
                return convert_waveform(
                    self, original, voice, pitch, target_rate, progress, denoise, loudness
                )
        progress(0.1)
        waveform = quiet = self._levelled(original)
        if denoise or self.denoiser is not None:
            quiet = self._clean(waveform)
        with torch.inference_mode():
            heard = quiet if denoise else waveform
            converted = self._convert(heard, quiet, voice, pitch, progress)
        target_rate = sample_rate or original.sample_rate
        converted = self._at_rate(converted, original, target_rate)
        own_db = active_level_db(original.waveform, original.sample_rate)
        level_db = wanted_level_db(own_db, voice.level_db, loudness)
        converted = normalize_level(converted, target_rate, level_db)
        progress(1.0)
        return Audio(converted, target_rate)

    def towards(self, voice: Voice, source: Iterable[Audio], strength: float) -> Voice:
        """The voice that lies a share `strength` of the way from the source's own to `voice`.

        The source comes in pieces of `LONG_S`, one of which says enough of its voice.
        """
        own = self._listen([(_first_speech(source), "source")], MIN_SPEECH_S)
        weights = (1 - strength, strength)
        return blend_voices([own, voice], weights, self.autoencoder.config, voice.name)

    def embed(self, clip: Clip) -> Embedding:
        """Both latents and the pitch of a clip, as numpy arrays.

        Args:
            clip: a file or `Audio`, short enough for memory.

        Raises:
            AudioError: the clip cannot be read, is silent or too short.
        """
        audio = self.clip(clip)
        check_speech(audio, _name(clip, "clip"))
        waveform = self._levelled(audio)
        with torch.inference_mode():
            content, speaker = self.autoencoder.encode(self.log_mel(self._tensor(waveform)))
        return Embedding(
            content[0].T.cpu().numpy(),
            speaker[0].cpu().numpy(),
            estimate_f0(waveform, self.features),
            self.features.frame_rate / self.autoencoder.config.content_stride,
        )

    def check(self, clip: Clip, role: Literal["source", "reference"] = "source") -> ClipReport:
        """Say what is wrong with a clip: by its signal, and by how strange it is to the model.

        Args:
            clip: a file or `Audio`, short enough for memory.
            role: what it is to be used as; a reference should be longer.

        Raises:
            AudioError: the clip cannot be read.
        """
        audio = self.clip(clip)
        audio = audio._replace(waveform=without_offset(audio.waveform))
        problems = check_clip(audio, role, self.features)
        if self.normality is None or any(problem.blocking for problem in problems):
            return ClipReport(problems, None)
        samples = round(3 * LOOKED_AT_S * audio.sample_rate)  # some of it may be silence
        first = max(0, (len(audio.waveform) - samples) // 2)
        middle = audio.waveform[first : first + samples]
        waveform = resample(middle, audio.sample_rate, self.features.sample_rate)
        if not np.isfinite(active_level_db(waveform, self.features.sample_rate)):
            return ClipReport(problems, None)
        sight = look(self.autoencoder, self.log_mel, self.voice_prior, waveform)
        if sight is None:
            return ClipReport(problems, None)
        strangeness = self.normality.judge(sight)
        if strangeness.kind is not None:
            if strangeness.kind in NO_SPEECH_KINDS:  # says it better
                problems = [p for p in problems if p.message != NOT_SPEECH]
            problems.insert(0, Problem(STRANGE[strangeness.kind], blocking=False))
        return ClipReport(problems, strangeness)

    @cached_property
    def voice_prior(self) -> VoicePrior:
        """How the voices that this model knows are distributed.

        Raises:
            CheckpointError: the model has no prior of voices.
        """
        if self.folder is None:
            raise CheckpointError("this model cannot make new voices; load it from a folder")
        return load_prior(self.folder / PRIOR_FILE, self.model_sha256)

    @cached_property
    def normality(self) -> Normality | None:
        """What speech normally looks like to this model; None if nobody has fitted it."""
        if self.folder is None or not (self.folder / PRIOR_FILE).is_file():
            return None
        return load_normality(self.folder / NORMALITY_FILE, self.model_sha256)

    def denoise(self, clip: Clip) -> Audio:
        """Take background noise and echoes out of a clip; nothing else is changed below 8 kHz.

        What lies above is made anew (`vc.vocoder.high_band`).

        Args:
            clip: a file or `Audio`.

        Returns:
            As long as the clip, at its rate.

        Raises:
            AudioError: the clip cannot be read, is silent or too short.
            CheckpointError: the model has no denoiser.
        """
        original = self.clip(clip)
        check_speech(original, _name(clip, "clip"))
        rate = self.features.sample_rate
        waveform = without_offset(resample(original.waveform, original.sample_rate, rate))
        level_db = active_level_db(waveform, rate)
        cleaned = self._clean(self._level(waveform))
        cleaned = cleaned * np.float32(10 ** ((level_db - self.features.level_db) / 20))
        cleaned = self._at_rate(cleaned, original, original.sample_rate)
        return Audio(cleaned, original.sample_rate)

    def _clean(self, waveform: Waveform, exponent: float = 1.0) -> Waveform:
        """Denoise `(samples,)` at the model's rate and level; see `vc.denoise.clean_blocks`."""
        denoiser, samples = self.need_denoiser(), len(waveform)
        blocks = clean_blocks(denoiser, lambda a, b: waveform[a:b], samples, exponent)
        return np.concatenate(list(blocks))

    def need_denoiser(self) -> Denoiser:
        """The denoiser.

        Raises:
            CheckpointError: the model has none.
        """
        if self.denoiser is None:
            raise CheckpointError("this model has no denoiser; train one, or do not denoise")
        return self.denoiser

    def voice(
        self,
        references: Reference | Sequence[Reference],
        name: str = "",
        learn: bool = True,
        progress: Progress | None = None,
    ) -> Voice:
        """Listen to one or more clips of a speaker, or read voices that were kept.

        Background noise is taken out of the clips (if the model has a denoiser) and silence at
        their edges left out; longer clips count for more. A voice that was kept counts as much as
        all the clips together.

        Args:
            references: clips, voice files or `Voice`s.
            name: what to call the voice; by default the name of the only one that was kept.
            learn: have the decoder learn the voice from the clips (`vc.learn_voice`): seconds of
                training, after which it is more like them. Without, or with a model that has no
                prior of voices, they are only listened to.
            progress: called with the share done, 0 to 1.

        Raises:
            AudioError: a clip cannot be read, is silent or too short.
            VoiceError: a voice file cannot be used.
        """
        single = isinstance(references, (str, os.PathLike, Audio, Voice))
        given: Sequence[Reference] = [references] if single else references  # type: ignore
        voices: list[Voice] = []
        clips: list[tuple[Audio, str]] = []
        for number, reference in enumerate(given, 1):
            if isinstance(reference, Voice):
                voices.append(reference)
            elif not isinstance(reference, Audio) and is_voice_file(reference):
                voices.append(self.read_voice(reference))
            else:
                clip_name = _name(reference, f"reference {number}")
                clips.append((self.clip(reference), clip_name))
        if clips:
            heard = self._learn(clips, progress) if learn else self._listen(clips, MIN_REFERENCE_S)
            voices.append(heard)
        if not voices:
            raise VCError("no reference clip given; name at least one")
        if len(voices) == 1:
            return replace(voices[0], name=name or voices[0].name)
        return blend_voices(voices, [1.0] * len(voices), self.autoencoder.config, name)

    def read_voice(self, path: str | os.PathLike[str]) -> Voice:
        """Read a voice file that this model can speak with.

        Raises:
            VoiceError: as `load_voice`, or what it holds does not fit the model.
        """
        voice = load_voice(path, self.model_sha256)
        config, details = self.autoencoder.config, voice.details
        known = voice.speaker_embedding.shape == (config.embedding_dim,)
        if not known or (details is not None and details.shape[1] != config.n_mels):
            raise VoiceError(f"{path}: damaged; save or copy the voice again")
        if voice.tuning is not None and not fits(voice.tuning, self.autoencoder.decoder):
            raise VoiceError(f"{path}: damaged; save or copy the voice again")
        return voice

    def new_voice(
        self,
        seed: int,
        like: Reference | Sequence[Reference] | None = None,
        name: str = "",
    ) -> Voice:
        """Invent a voice that belongs to nobody; see `vc.voice_prior`.

        Args:
            seed: another number, another voice.
            like: clips, voice files or `Voice`s that it shall resemble.
            name: what to call it.

        Raises:
            AudioError: a clip cannot be read, is silent or too short.
            VoiceError: a voice file cannot be used, or the seed is negative.
            CheckpointError: the model has no prior of voices.
        """
        prior = self.voice_prior
        model = None if like is None else self.voice(like, learn=False)
        return prior.sample(seed, self.autoencoder.config, model, name)

    def _listen(self, clips: Sequence[tuple[Audio, str]], min_duration_s: float) -> Voice:
        for audio, name in clips:
            check_speech(audio, name, min_duration_s)
        return self.voice_of([self.hear(audio) for audio, _ in clips])

    def _learn(self, clips: Sequence[tuple[Audio, str]], progress: Progress | None) -> Voice:
        """`_listen` to references, and `learn` them; those that came before are remembered."""
        fingerprint = voice_key([audio for audio, _ in clips])
        remembered = self._learnt.get(fingerprint)
        if remembered is not None:
            return remembered
        for audio, name in clips:
            check_speech(audio, name, MIN_REFERENCE_S)
        heard = [self.hear(audio) for audio, _ in clips]
        voice, others = self.voice_of(heard), self.other_voices()
        if not others:
            return voice
        voice = self.learn(voice, [self.lesson(clip, others) for clip in heard], progress=progress)
        while len(self._learnt) >= _REMEMBERED:
            self._learnt.pop(next(iter(self._learnt), b""), None)
        self._learnt[fingerprint] = voice
        return voice

    def forget_voices(self, but: Collection[bytes] = ()) -> None:
        """Forget the voices that were learnt last, which are remembered in case they come again.

        Args:
            but: `voice_key`s of the clips whose voices are still remembered.
        """
        for key in list(self._learnt):
            if key not in but:
                self._learnt.pop(key, None)

    def hear(self, audio: Audio) -> HeardClip:
        """What is to be known of a clip of a voice, for `voice_of` and `lesson`."""
        recorded, waveform = self._reference(audio)
        f0 = estimate_f0(waveform, self.features)
        with torch.inference_mode():
            log_mel = self.log_mel(self._tensor(waveform))
            taken_out = None
            if self.denoiser is not None:
                taken_out = (self.log_mel(self._tensor(recorded)) - log_mel)[0].cpu()
            embedding = self.autoencoder.encode_speaker(log_mel)
            log_mel = self.autoencoder.repair(log_mel, embedding)
        details = voiced_frames(log_mel[0].cpu(), torch.from_numpy(f0), taken_out)
        level_db = active_level_db(audio.waveform, audio.sample_rate)
        return HeardClip(len(waveform), log_mel, f0, embedding[0], details, level_db)

    def voice_of(self, heard: Sequence[HeardClip], name: str = "") -> Voice:
        """The voice of one or more clips that were heard; longer ones count for more."""
        samples = [clip.samples for clip in heard]
        embedding = average_embeddings(
            torch.stack([clip.speaker_embedding for clip in heard]).cpu(),
            torch.tensor(samples),
            self.autoencoder.config,
        )
        details = thin_out(torch.cat([clip.details for clip in heard])).half()
        pitch = pitch_range(np.concatenate([clip.f0 for clip in heard]))
        level_db = float(np.average([clip.level_db for clip in heard], weights=samples))
        return Voice(embedding, pitch, name, details, level_db=level_db)

    def lesson(self, heard: HeardClip, others: Sequence[Voice]) -> Lesson:
        """A clip of a voice, to `learn` it from; `others` are the voices that it is said in."""
        return hear_lesson(self.autoencoder, heard.log_mel, heard.f0, others)

    def learn(
        self,
        voice: Voice,
        lessons: Sequence[Lesson],
        steps: int | None = None,
        progress: Progress | None = None,
    ) -> Voice:
        """A voice that was listened to, learnt by the decoder; see `vc.learn_voice`."""
        embedding = voice.speaker_embedding
        tuning = learn_voice(self.autoencoder, lessons, embedding, steps, progress)
        return replace(voice, tuning=tuning)

    def other_voices(self) -> list[Voice]:
        """Voices that belong to nobody, for lessons; none, if the model cannot invent any."""
        try:
            return [self.new_voice(seed) for seed in range(OTHERS)]
        except CheckpointError:
            return []

    def reference_waveform(self, audio: Audio) -> Waveform:
        """A reference clip as it is listened to: `(samples,)` at the model's rate and level.

        Its noise would become part of the voice, so it is taken out; silence at its ends is cut.
        """
        return self._reference(audio)[1]

    def _reference(self, audio: Audio) -> tuple[Waveform, Waveform]:
        """The same stretch of a reference clip as it was recorded, and as it is listened to."""
        recorded = cleaned = self._levelled(audio)
        if self.denoiser is not None:
            cleaned = self._level(self._clean(recorded, REFERENCE_EXPONENT))
        span = speech_span(cleaned, self.features.sample_rate)
        return recorded[span], cleaned[span]

    def _convert(
        self, waveform: Waveform, quiet: Waveform, voice: Voice, pitch: Pitch, progress: Progress
    ) -> Waveform:
        """Convert `(samples,)` at the model's rate.

        All but content is read from `quiet`, the same without its noise.
        """
        f0 = estimate_f0(quiet, self.features)
        voiced = self._tensor((f0 > 0).astype(np.float32))
        log_f0 = self._tensor(interpolate_log_f0(moved_f0(f0, voice.pitch, pitch, self.features)))
        progress(0.3)
        heard, quiet_mel = (self.log_mel(self._tensor(x)) for x in (waveform, quiet))
        content = self.autoencoder.encode_content(heard)
        own_log_f0 = self._tensor(interpolate_log_f0(f0))
        source = self.autoencoder.listen_to_source(quiet_mel, own_log_f0)
        source = source and source.frames(quiet_mel, own_log_f0, heard)
        decoded = self._say(content, voice, log_f0, voiced, source)
        progress(0.6)
        spoken = self.synthesize(decoded, log_f0, voiced)
        return fit_length(self.follow(spoken, quiet), len(waveform))

    def speak(self, content: Tensor, voice: Voice, log_f0: Tensor, voiced: Tensor) -> Waveform:
        """Say content in a voice, from wherever content and pitch come.

        Args:
            content: `(1, content_dim, content_frames)`.
            voice: whose.
            log_f0: `(frames,)`, natural log of Hz, interpolated through unvoiced frames.
            voiced: `(frames,)`, 1.0 where voiced.

        Returns:
            `(frames * hop_length,)` at the model's rate.
        """
        with torch.inference_mode():
            log_f0, voiced = (x[None].to(self.device) for x in (log_f0, voiced))
            decoded = self._say(content.to(self.device), voice, log_f0, voiced, None)
            return self.synthesize(decoded, log_f0, voiced)

    def _say(
        self, content: Tensor, voice: Voice, log_f0: Tensor, voiced: Tensor, source: Source | None
    ) -> Tensor:
        """A whole clip rehearsed, and said: `(1, n_mels, frames)`."""
        model = self.autoencoder.tuned(voice.tuning)
        wanted = voice.speaker_embedding.to(self.device)[None]
        asked = model.rehearse(content, wanted, log_f0, voiced)
        return model.say(content, asked, log_f0, voiced, self.details(voice), source)

    def details(self, voice: Voice) -> Tensor | None:
        """Frames that lend their details to a voice, `(1, kept, n_mels)`; None if there are none.

        A voice that has none of its own (an invented one) borrows from many speakers.
        """
        if voice.details is not None:
            return voice.details[None]
        if self.folder is None or not (self.folder / PRIOR_FILE).is_file():
            return None
        return torch.from_numpy(self.voice_prior.details)[None]

    def synthesize(
        self, log_mel: Tensor, log_f0: Tensor, voiced: Tensor, decoded: bool = True
    ) -> Waveform:
        """Vocoder stage: `(1, n_mels, frames)` and pitch `(1, frames)` -> `(samples,)`.

        `decoded` says whether a decoder made the mels, or a recording has them.
        """
        if self.vocoder is None:
            return griffin_lim(log_mel, self.features)[0].cpu().numpy()
        samples = log_mel.shape[-1] * self.features.hop_length
        # the same noise for the same length: converting twice gives the same file
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(1, samples, generator=generator).to(self.device)
        waveform = self.vocoder(log_mel, log_f0, voiced, noise, decoded=decoded)
        return waveform[0].float().cpu().numpy()

    def follow(self, spoken: Waveform, source: Waveform) -> Waveform:
        """Last stage of a conversion: `(samples,)` moves as its source does between mel frames."""
        source = fit_length(source, len(spoken))
        return self.temporal_envelope(self._tensor(spoken), self._tensor(source))[0].cpu().numpy()

    def _at_rate(self, made: Waveform, original: Audio, rate: int) -> Waveform:
        """What was made of a clip at the model's rate, at another, and as wide as the clip is."""
        model_rate = self.features.sample_rate
        samples = round(len(original.waveform) * rate / original.sample_rate)
        made = fit_length(resample(made, model_rate, rate), samples)
        if not HighBand.is_wanted(model_rate, min(original.sample_rate, rate)):
            return made
        wide = fit_length(resample(original.waveform, original.sample_rate, rate), samples)
        return add_high_band(made, wide, model_rate, rate)

    def clip(self, clip: Clip) -> Audio:
        """Read a clip, if it was not read yet.

        Raises:
            AudioError: it cannot be read, or its samples are not floating-point numbers.
        """
        if not isinstance(clip, Audio):
            return read_audio(clip)
        waveform = np.asarray(clip.waveform)
        if not np.issubdtype(waveform.dtype, np.floating):
            raise AudioError(
                f"clip: its samples are of type {waveform.dtype}; "
                "give floating-point numbers from -1 to 1"
            )
        return clip._replace(waveform=waveform.astype(np.float32, copy=False))

    def _levelled(self, audio: Audio) -> Waveform:
        """A clip at the model's rate and level, without offset, `(samples,)`."""
        waveform = resample(audio.waveform, audio.sample_rate, self.features.sample_rate)
        return self._level(without_offset(waveform))

    def _level(self, waveform: Waveform) -> Waveform:
        return normalize_level(waveform, self.features.sample_rate, self.features.level_db)

    def _tensor(self, values: Waveform) -> Tensor:
        return torch.from_numpy(values)[None].to(self.device)


@torch.inference_mode(False)  # of whoever calls: weights of that mode cannot learn a voice
def load(
    checkpoint: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    vocoder: Literal["neural", "griffin-lim"] = "neural",
) -> Converter:
    """Load a converter; the one that ships with the package by default.

    Args:
        checkpoint: folder with `autoencoder/` in it, and perhaps `vocoder/` and `denoiser/`; the
            shipped ones take the place of those that are missing.
        device: a torch device name.
        vocoder: the checkpoint's own, or Griffin-Lim, which needs no weights.

    Raises:
        CheckpointError: the folder is missing, damaged or foreign.
    """
    folder = Path(checkpoint) if checkpoint is not None else SHIPPED
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such checkpoint folder; check the name")
    autoencoder = load_autoencoder(folder / "autoencoder").to(device)
    neural = None
    if vocoder == "neural":
        neural = load_vocoder(model_part(folder, "vocoder")).to(device)
    denoiser = load_denoiser(model_part(folder, "denoiser")).to(device)
    # a model of other features does without the shipped denoiser; its own must fit
    fits = denoiser.features == autoencoder.features or (folder / "denoiser").is_dir()
    return Converter(autoencoder, neural, denoiser if fits else None, folder)


def check_strength(strength: float) -> None:
    """Refuse a share of the way that is none.

    Raises:
        VCError: not between 0 and 1.
    """
    if not 0 <= strength <= 1:
        raise VCError(f"strength {strength:g}: must lie between 0 and 1")


def voice_key(clips: Sequence[Audio]) -> bytes:
    """What a voice that was learnt of clips is remembered by: the same for the same clips."""
    digest = hashlib.sha256()
    for audio in clips:
        digest.update(f"{audio.sample_rate} {audio.waveform.shape} ".encode())
        digest.update(audio.waveform.tobytes())
    return digest.digest()


def share_of(progress: Progress, before: float, after: float) -> Progress:
    """Tells of a part of the work, that goes from one share of it to another."""
    return lambda share: progress(before + (after - before) * share)


def pieces(audio: Audio, seconds: float) -> Iterator[Audio]:
    """A clip in pieces of so many seconds."""
    length = round(seconds * audio.sample_rate)
    for start in range(0, len(audio.waveform), length):
        yield Audio(audio.waveform[start : start + length], audio.sample_rate)


def _first_speech(clip: Iterable[Audio]) -> Audio:
    """The first piece of a clip in which anybody speaks; the last where nobody does."""
    for piece in clip:
        try:
            check_speech(piece, "source")
        except AudioError:
            continue
        break
    return piece


def _name(clip: Clip, role: str) -> str:
    return role if isinstance(clip, Audio) else f"{role} {Path(clip)}"
