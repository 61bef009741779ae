"""Conversion while somebody speaks: samples in, as many converted ones out, a moment later.

The networks are those of whole-clip conversion. They would look 40 frames ahead, but as they were
trained on pieces of speech, they know how to do without what lies behind an end. So each step
computes its frames as if the clip ended some frames later, and gives out only what lies before
these; what was computed in the steps before is remembered (`vc.model.stepwise`). That takes no
other weights, and costs no words.

What whole-clip conversion takes from the whole clip is estimated from what was heard so far: the
level, the speaker's usual pitch, the statistics of the content encoder's instance norms, and, from
time to time, what voices the speaker and the conversion have (`vc.streaming.running_voice`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vc.audio import Audio, Waveform, check_speech, resample
from vc.blockwise import can_split
from vc.convert import Clip, Converter, Reference
from vc.errors import AudioError, CheckpointError
from vc.model.residual import Source, power_left
from vc.model.stepwise import stepwise
from vc.pitch import Pitch
from vc.streaming.content import StepwiseContent
from vc.streaming.decoder import StepwiseDecoder
from vc.streaming.ear import Ear, Heard
from vc.streaming.moved_pitch import MovedPitch
from vc.streaming.resampler import BlockResampler
from vc.streaming.running_voice import RunningVoice
from vc.streaming.steps import STEP
from vc.streaming.vocoder import FADE, Seam, StepwiseVocoder
from vc.voice import Voice


class Stream:
    """A conversion that goes on.

    Args:
        converter: a ready model with a neural vocoder.
        references: of the wanted voice, as in `Converter.convert`.
        pitch: as in `Converter.convert`; "match" learns the source's usual pitch on the way.
        sample_rate: of what is pushed and given back, in Hz.
        source: a clip of the person who is going to speak; without one, level, pitch and
            statistics begin with what is usual, and settle in the first seconds.
        denoise: as in `Converter.convert`: content, too, is read without the microphone's noise.
        learn: as in `Converter.voice`.

    Raises:
        AudioError: a clip cannot be read, is silent or too short, or no stream can have that rate.
        VoiceError: a voice file cannot be used.
        CheckpointError: this model cannot be streamed, or not be denoised.
    """

    def __init__(
        self,
        converter: Converter,
        references: Reference | Sequence[Reference],
        pitch: Pitch = "match",
        sample_rate: int = 48_000,
        source: Clip | None = None,
        denoise: bool = False,
        learn: bool = True,
    ) -> None:
        self.sample_rate = sample_rate
        rate = converter.features.sample_rate
        self._in = BlockResampler(sample_rate, rate)
        self._out = BlockResampler(rate, sample_rate)
        voice = converter.voice(references, learn=learn)  # takes seconds
        moved = MovedPitch(voice.pitch, pitch, converter.features)
        self._conversion = _Conversion(converter, voice, moved, denoise)
        if source is not None:
            audio = converter.clip(source)
            check_speech(audio, "source")
            # the stream begins as though this had been said just before
            said = resample(audio.waveform, audio.sample_rate, rate)
            self._conversion.push(said)
            self._conversion.begin_anew()
        self._ready = np.zeros(self.latency_samples, np.float32)

    @property
    def latency_samples(self) -> int:
        """How many samples later what was pushed comes back converted."""
        seconds = self._conversion.delay / self._in.to_rate + self._in.delay_s + self._out.delay_s
        return math.ceil(seconds * self.sample_rate) + 1

    @property
    def latency_s(self) -> float:
        """The same in seconds. The sound card's own comes to it."""
        return self.latency_samples / self.sample_rate

    def push(self, waveform: Waveform) -> Waveform:
        """Take the next samples, `(samples,)`, of any number; give as many, `latency_s` late.

        What is not a number is taken for silence.

        Raises:
            AudioError: more than one channel.
        """
        if waveform.ndim != 1:
            raise AudioError(f"stream: expected samples of shape (samples,), got {waveform.shape}")
        waveform = np.nan_to_num(waveform.astype(np.float32), posinf=0.0, neginf=0.0)
        made = self._out.push(self._conversion.push(self._in.push(waveform)))
        self._ready = np.concatenate([self._ready, made])
        result, self._ready = np.split(self._ready, [len(waveform)])
        return result

    def finish(self) -> Waveform:
        """The last `latency_samples` of the conversion; nothing can be pushed sensibly then."""
        return self.push(np.zeros(self.latency_samples, np.float32))


def stream_clip(stream: Stream, audio: Audio, block_s: float = 0.032) -> Audio:
    """A clip as though it were spoken live, without the delay; at the stream's rate.

    Raises:
        AudioError: the clip has another rate than the stream.
    """
    if audio.sample_rate != stream.sample_rate:
        raise AudioError(f"stream: runs at {stream.sample_rate} Hz, the clip {audio.sample_rate}")
    block = max(1, round(block_s * audio.sample_rate))
    samples = len(audio.waveform)
    made = [stream.push(audio.waveform[at : at + block]) for at in range(0, samples, block)]
    waveform = np.concatenate([*made, stream.finish()])[stream.latency_samples :]
    return Audio(waveform, audio.sample_rate)


class _Conversion:
    """A stream at the model's rate.

    Args:
        converter: a ready model with a neural vocoder.
        voice: the wanted one.
        pitch: moves the source's.
        denoise: as in `Converter.convert`.

    Raises:
        CheckpointError: this model cannot be streamed, or not be denoised.
    """

    def __init__(
        self, converter: Converter, voice: Voice, pitch: MovedPitch, denoise: bool
    ) -> None:
        vocoder, config = converter.vocoder, converter.autoencoder.config
        streams = config.input_norm and config.block_norm == "instance"
        streams = streams and config.content_stride == 1
        if vocoder is None or not can_split(converter) or not streams or converter.folder is None:
            raise CheckpointError("this model cannot be streamed; use the one that ships with vc")
        if denoise:
            converter.need_denoiser()
        self.converter, self.features, self.denoise = converter, converter.features, denoise
        self.pitch, self.own_pitch = pitch, MovedPitch(None, "keep", converter.features)
        model = stepwise(converter.autoencoder.tuned(voice.tuning), STEP)
        self.own_voice = RunningVoice(converter.autoencoder)
        self.encode_content = StepwiseContent(converter, model)
        self.decode = StepwiseDecoder(converter, model, voice)
        self.speak = StepwiseVocoder(vocoder)
        self.ear, self.seam = Ear(converter, self.speak.kept), Seam()
        self.waiting = np.zeros(0, np.float32)  # less than a frame
        self.heard = 0  # samples
        self.done = 0  # frames given out
        self.unsaid = 0  # samples, of what comes next, that are left out

    @property
    def delay(self) -> int:
        """Samples, at the model's rate, by which what is made lags at most."""
        hop, window = self.features.hop_length, self.features.n_fft // 2
        return (STEP.frames - 1 + -(-window // hop)) * hop - 1

    def begin_anew(self) -> None:
        """Never say what was not said yet; what comes next may be of another level."""
        self.ear.forget_level()
        self.unsaid = self.heard - self.done * self.features.hop_length

    def push(self, waveform: Waveform) -> Waveform:
        """Take the next samples at the model's rate; give those that are ready."""
        made = []
        hop = self.features.hop_length
        self.heard += len(waveform)
        self.waiting = np.concatenate([self.waiting, waveform])
        while len(self.waiting) >= hop:  # in steps of one size, whatever is pushed at once
            self.ear.listen(self.waiting[:hop])
            self.waiting = self.waiting[hop:]
            if self.ear.frames >= self.done + STEP.frames:
                with torch.inference_mode():
                    made.append(self._step())
        said = np.concatenate(made) if made else np.zeros(0, np.float32)
        left_out = min(self.unsaid, len(said))
        self.unsaid -= left_out
        return said[left_out:]

    def _step(self) -> Waveform:
        """The samples of the next `STEP.new` frames."""
        low, high, hop = self.done, self.done + STEP.frames, self.features.hop_length
        heard = self.ear.frames_from(low)
        log_f0, own_log_f0 = (
            self._tensor(track.move(heard.f0)) for track in (self.pitch, self.own_pitch)
        )
        voiced = self._tensor((heard.f0 > 0).astype(np.float32))
        if heard.is_speech:
            self.pitch.learn(heard.f0[: STEP.new])
            self.own_voice.hear(heard.quiet[..., : STEP.new])
        content = self.encode_content(
            heard.quiet if self.denoise else heard.log_mel, self.own_voice.stretch, heard.is_speech
        )
        source = self._source(heard, own_log_f0)
        log_mel = self.decode(content, log_f0, voiced, source, heard.is_speech)
        spoken = self.speak(log_mel, log_f0, voiced)
        before = len(spoken) // hop - STEP.frames  # frames that were given out
        spoken = self.converter.follow(spoken, self.ear.waveform(low - before, high, heard.gain))
        self.done += STEP.new
        samples = spoken[before * hop :][: STEP.new * hop + FADE]
        return self.seam.join(samples, STEP.new * hop, heard.gain)

    def _source(self, heard: Heard, log_f0: Tensor) -> Source | None:
        """What can be given back of it, once its voice is known; `log_f0` as it is spoken there."""
        voice = self.own_voice
        if voice.embedding is None:
            return None
        left = power_left(heard.quiet, heard.log_mel)
        return Source(heard.quiet, log_f0, voice.embedding, voice.stretch, left=left)

    def _tensor(self, values: Waveform) -> Tensor:
        return torch.from_numpy(values)[None].to(self.converter.device)
