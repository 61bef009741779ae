"""Conversion while somebody speaks: samples in, as many converted ones out, a moment later.

The networks are those of whole-clip conversion. They would look 40 frames ahead, but as they were
trained on pieces of speech, they know how to do without what lies behind an end. So each step
computes the last frames as if the clip ended `LOOKAHEAD` frames later, and gives out only what lies
before these. That takes more arithmetic than a causal network (frames are computed many times
over), but no other weights, and costs no words.

What whole-clip conversion takes from the whole clip is estimated from what was heard so far: the
level, the speaker's usual pitch, and the statistics of the content encoder's instance norms. But
nothing is rehearsed, and no residual given back (`vc.model.residual`): a microphone's noise is not
taken out here, and would come back with it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vc.audio import (
    Audio,
    Waveform,
    check_speech,
    frame_levels_db,
    gated_level_db,
    level_frame,
    resample,
)
from vc.blockwise import can_split
from vc.config import FeatureConfig
from vc.convert import Clip, Converter, Pitch, Reference
from vc.errors import AudioError, CheckpointError
from vc.model.layers import ConvNeXtBlock, Statistics, instance_norm
from vc.model.vocal_tract import STRIDE as TRACT_STRIDE
from vc.pitch import PitchRange, estimate_f0, within_range
from vc.resampler import BlockResampler
from vc.stream_statistics import USUAL_FILE, RunningStatistics, load_usual
from vc.vocoder.excitation import WhiteNoise, periods
from vc.voice import Voice

LOOKAHEAD = 4  # frames; with 3 nothing is lost but some clearness, with 2 words are
BLOCK = 2  # frames made in a step: fewer would cost more arithmetic, more would cost time
_FADE = 128  # samples over which one step's end goes over into the next one's beginning
_F0_CONTEXT_S = 0.7
_MEMORY_S = 30.0  # what was heard longer ago is forgotten
_BEGINNING_S = 2.0  # how much the usual statistics count for
_USUAL_LEVEL_S = 0.2  # how much the model's own level counts for
_QUIETEST_DB = -55.0  # what is below cannot be told from a microphone's noise
_SPEECH_DB = 35.0  # so far below active speech, a block still belongs to it
_PAUSE_S = 0.5  # silence that belongs to speech
_MAX_GAIN_DB = 30.0
_SMALLEST_PEAK = 0.02
_PITCH_STEP = 0.1  # share of the way that the shift of the pitch moves in a step
_USUAL_F0_HZ = (120.0, 210.0)  # around these the medians of 3,047 training speakers lie
_USUAL_F0_FRAMES = 30  # how much they count for


class Stream:
    """A conversion that goes on.

    Args:
        converter: a ready model with a neural vocoder.
        references: of the wanted voice, as in `Converter.convert`.
        pitch: as in `Converter.convert`; "match" learns the source's usual pitch on the way.
        sample_rate: of what is pushed and given back, in Hz.
        source: a clip of the person who is going to speak; without one, level, pitch and
            statistics begin with what is usual, and settle in the first seconds.

    Raises:
        AudioError: a clip cannot be read, is silent or too short, or no stream can have that rate.
        VoiceError: a voice file cannot be used.
        CheckpointError: this model cannot be streamed.
    """

    def __init__(
        self,
        converter: Converter,
        references: Reference | Sequence[Reference],
        pitch: Pitch = "match",
        sample_rate: int = 48_000,
        source: Clip | None = None,
    ) -> None:
        voice = converter.voice(references)
        self.sample_rate = sample_rate
        rate = converter.features.sample_rate
        self._in = BlockResampler(sample_rate, rate)
        self._out = BlockResampler(rate, sample_rate)
        ear = _Ear(converter)
        moved = _MovedPitch(voice.pitch, pitch, converter.features)
        self._mouth = _Mouth(converter, voice, ear, moved)
        if source is not None:
            audio = converter.clip(source, "source")
            check_speech(audio, "source")
            # the stream begins as though this had been said just before
            said = resample(audio.waveform, audio.sample_rate, rate)
            self._mouth.push(said)
            self._mouth.begin_anew()
        self._ready = np.zeros(self.latency_samples, np.float32)

    @property
    def latency_samples(self) -> int:
        """How many samples later what was pushed comes back converted."""
        seconds = self._mouth.delay / self._in.to_rate + self._in.delay_s + self._out.delay_s
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
        made = self._out.push(self._mouth.push(self._in.push(waveform)))
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


class _Heard(NamedTuple):
    """Frames, from the first that is kept to the last that is known."""

    log_mel: Tensor  # (1, n_mels, frames)
    f0: Waveform  # (frames,) in Hz, 0 where unvoiced
    is_speech: bool  # or a short pause in it
    gain: float  # that brought the samples to the model's level


class _Ear:
    """Samples -> frames of mel and F0, at a level that follows the speaker's."""

    def __init__(self, converter: Converter) -> None:
        self.converter = converter
        self.features = converter.features
        self._samples = np.zeros(0, np.float32)  # those still needed
        self._first = 0  # frame that lies at the first of them
        self._levels: deque[float] = deque(maxlen=round(_MEMORY_S * 100))
        self._unmeasured = np.zeros(0, np.float32)
        self._peak = _SMALLEST_PEAK
        self._silent_s = math.inf
        self._log_mel = torch.zeros(1, self.features.n_mels, 0)
        self._mel_first = 0

    def listen(self, waveform: Waveform) -> None:
        """Take the next samples."""
        rate = self.features.sample_rate
        self._samples = np.concatenate([self._samples, waveform])
        fading = 0.5 ** (len(waveform) / rate / _MEMORY_S)
        loudest = float(np.abs(waveform).max(initial=0.0))
        self._peak = max(self._peak * fading, loudest, _SMALLEST_PEAK)
        self._unmeasured = np.concatenate([self._unmeasured, waveform])
        length, hop = level_frame(rate)
        count = (len(self._unmeasured) - length) // hop + 1
        if count > 0:
            levels = frame_levels_db(self._unmeasured, rate)
            self._unmeasured = self._unmeasured[count * hop :]
            speech_db = max(self.level_db - _SPEECH_DB, _QUIETEST_DB)
            for level in levels:
                self._silent_s = 0.0 if level > speech_db else self._silent_s + hop / rate
                if level > _QUIETEST_DB:
                    self._levels.append(float(level))

    @property
    def level_db(self) -> float:
        """Of active speech so far, in dBFS."""
        usual = self.features.level_db
        if not self._levels:
            return usual
        heard = gated_level_db(np.array(self._levels))
        seconds = len(self._levels) / 100
        mean = (seconds * heard + _USUAL_LEVEL_S * usual) / (seconds + _USUAL_LEVEL_S)
        return float(np.clip(mean, usual - _MAX_GAIN_DB, usual + _MAX_GAIN_DB))

    def forget_level(self) -> None:
        """What comes next may be louder or quieter."""
        self._levels.clear()
        self._peak = _SMALLEST_PEAK

    @property
    def frames(self) -> int:
        """How many frames can be computed: those whose whole window was heard."""
        hop, window = self.features.hop_length, self.features.n_fft // 2
        samples = self._first * hop + len(self._samples)
        return max(0, (samples - window) // hop + 1)

    def waveform(self, low: int, high: int, gain: float) -> Waveform:
        """The samples of frames `low` to `high`, none of them forgotten yet."""
        hop = self.features.hop_length
        return self._cut(low * hop, high * hop) * np.float32(gain)

    def frames_from(self, low: int, high: int) -> _Heard:
        """Frames `low` to `high`; what lies before `low` is forgotten."""
        gain = 10 ** ((self.features.level_db - self.level_db) / 20)
        new = self._mel_first + self._log_mel.shape[-1]
        self._log_mel = torch.cat([self._log_mel, self._mel(new, high, gain)], dim=-1)
        self._log_mel = self._log_mel[..., low - self._mel_first :]
        self._mel_first = low
        f0 = self._f0(low, high)
        self._forget(low)
        return _Heard(self._log_mel, f0, self._silent_s < _PAUSE_S, gain)

    def _mel(self, low: int, high: int, gain: float) -> Tensor:
        """Log-mel of frames `low` to `high`, each computed once."""
        reach = self.features.n_fft // 2 // self.features.hop_length
        samples = self.waveform(low - reach, high - 1 + reach, gain)
        mel = self.converter.log_mel(torch.from_numpy(samples)[None].to(self.converter.device))
        return mel[..., reach : reach + high - low]

    def _f0(self, low: int, high: int) -> Waveform:
        """F0 of frames `low` to `high`: the best path through these and some before."""
        hop = self.features.hop_length
        first = max(self._first, high - round(_F0_CONTEXT_S * self.features.frame_rate))
        first = min(first, low)
        samples = self._samples[(first - self._first) * hop :]
        return estimate_f0(samples, self.features, self._peak)[low - first : high - first]

    def _forget(self, low: int) -> None:
        hop = self.features.hop_length
        context = max(round(_F0_CONTEXT_S * self.features.frame_rate), 2 * BLOCK)
        first = max(self._first, low - context)
        self._samples = self._samples[(first - self._first) * hop :]
        self._first = first

    def _cut(self, start: int, stop: int) -> Waveform:
        """Samples `start` to `stop`; silence before the first."""
        origin = self._first * self.features.hop_length
        before = max(0, origin - start)
        return np.pad(self._samples[max(0, start - origin) : stop - origin], (before, 0))


class _MovedPitch:
    """The source's F0 as it is to be spoken."""

    def __init__(self, wanted: PitchRange | None, pitch: Pitch, features: FeatureConfig) -> None:
        self._wanted = wanted if pitch == "match" else None
        self._features = features
        self._shift: float | None = None  # of log-F0
        if isinstance(pitch, float | int):
            self._shift = float(pitch) / 12 * math.log(2)
        self._heard: deque[float] = deque(maxlen=round(_MEMORY_S * 60))
        self._last = wanted.median if wanted else math.log(150.0)

    def learn(self, f0: Waveform) -> None:
        """Hear `(frames,)` in Hz that are given out now."""
        self._heard.extend(np.log(f0[f0 > 0]).tolist())

    def move(self, f0: Waveform) -> Waveform:
        """Log-F0 `(frames,)`: moved, within the models' range, and held where nothing is voiced."""
        voiced = f0 > 0
        if self._wanted is not None:
            heard = [*self._heard, *np.log(f0[voiced]).tolist()]
            if heard:
                target = self._wanted.median - _median_so_far(heard)
                way = 1.0 if self._shift is None else _PITCH_STEP
                self._shift = (self._shift or 0.0) + way * (target - (self._shift or 0.0))
        moved = within_range(f0 * math.exp(self._shift or 0.0), self._features)
        held = np.empty(len(f0), np.float32)
        for frame in range(len(f0)):
            if voiced[frame]:
                self._last = math.log(moved[frame])
            held[frame] = self._last
        return held


def _median_so_far(log_f0: Sequence[float]) -> float:
    """Median log-F0 of a speaker: while little was heard, drawn to the nearer of two usual ones."""
    heard = float(np.median(log_f0))
    usual = min((math.log(f0) for f0 in _USUAL_F0_HZ), key=lambda value: abs(value - heard))
    count = len(log_f0)
    return (count * heard + _USUAL_F0_FRAMES * usual) / (count + _USUAL_F0_FRAMES)


class _Mouth:
    """Frames -> samples in the wanted voice, `BLOCK` frames a step."""

    def __init__(self, converter: Converter, voice: Voice, ear: _Ear, pitch: _MovedPitch) -> None:
        vocoder, config = converter.vocoder, converter.autoencoder.config
        streams = config.input_norm and config.block_norm == "instance"
        streams = streams and config.content_stride == 1
        if vocoder is None or not can_split(converter) or not streams or converter.folder is None:
            raise CheckpointError("this model cannot be streamed; use the one that ships with vc")
        self.ear, self.pitch = ear, pitch
        self.features = converter.features
        self.model, self.vocoder = converter.autoencoder, vocoder
        self.speaker = self.model.emphasise(voice.speaker_embedding.to(converter.device)[None])
        self.details = converter.details(voice)
        rate = self.features.frame_rate
        self.norms = [
            RunningStatistics(
                Statistics(*(x.to(converter.device) for x in usual)),
                _BEGINNING_S * rate,
                _MEMORY_S * rate,
            )
            for usual in load_usual(converter.folder / USUAL_FILE, converter.model_sha256)
        ]
        heard = config.content_blocks * (config.content_kernel // 2)
        reach = heard + (1 + config.decoder_blocks) * (config.kernel_size // 2) + 3
        self.spoken_reach = vocoder.context
        reach = max(reach, self.spoken_reach)
        self.reach = BLOCK * -(-reach // BLOCK)  # windows begin at whole blocks, as strides do
        self.noise = WhiteNoise(self.features.hop_length)
        self.waiting = np.zeros(0, np.float32)  # less than a frame
        self.heard = 0  # samples
        self.done = 0  # frames given out
        self.unsaid = 0  # samples, of what comes next, that are left out
        self.decoded = torch.zeros(1, self.features.n_mels, 0, device=converter.device)
        self.log_f0, self.voiced = np.zeros(0, np.float32), np.zeros(0, np.float32)
        self.cycles = 0.0  # periods given out
        self.gain: float | None = None
        self.overlap = np.zeros(0, np.float32)

    @property
    def delay(self) -> int:
        """Samples, at the model's rate, by which what is made lags at most."""
        hop = self.features.hop_length
        return (BLOCK - 1 + LOOKAHEAD) * hop + self.features.n_fft // 2 + hop - 1

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
            if self.ear.frames >= self.done + BLOCK + LOOKAHEAD:
                with torch.inference_mode():
                    made.append(self._step())
        said = np.concatenate(made) if made else np.zeros(0, np.float32)
        left_out = min(self.unsaid, len(said))
        self.unsaid -= left_out
        return said[left_out:]

    def _step(self) -> Waveform:
        """The samples of the next `BLOCK` frames."""
        low, high = max(0, self.done - self.reach), self.done + BLOCK + LOOKAHEAD
        heard = self.ear.frames_from(low, high)
        given = self.done - low  # frames of the window that were given out before
        new = heard.f0[given:]
        log_f0 = np.concatenate([self.log_f0[-given:] if given else new[:0], self.pitch.move(new)])
        voiced = np.concatenate([self.voiced[-given:] if given else new[:0], new > 0])
        voiced = voiced.astype(np.float32)
        if heard.is_speech:
            self.pitch.learn(new[:BLOCK])
        content = self._content(heard.log_mel, slice(given, given + BLOCK), heard.is_speech)
        pitch, flags = (torch.from_numpy(x)[None].to(content.device) for x in (log_f0, voiced))
        decoded = self.model.say(content, self.speaker, pitch, flags, self.details)[..., given:]

        kept = min(given, self.spoken_reach)
        spoken = torch.cat([self.decoded[..., self.decoded.shape[-1] - kept :], decoded], dim=-1)
        source = self.ear.waveform(self.done - kept, high, heard.gain)
        pitch_kept, flags_kept = pitch[:, given - kept :], flags[:, given - kept :]
        waveform = self._speak(spoken, pitch_kept, flags_kept, source, kept)

        until = given + BLOCK
        self.cycles = (self.cycles + periods(pitch[:, given : until + 1], self.features)) % 1.0
        self.decoded = spoken[..., : kept + BLOCK]
        self.log_f0, self.voiced = log_f0[:until], voiced[:until]
        self.done += BLOCK
        return self._at_source_level(waveform, heard.gain)

    def _content(self, log_mel: Tensor, new: slice, learn: bool) -> Tensor:
        """`Autoencoder.encode_content` with statistics of what was heard so far."""
        model, encoder = self.model, self.model.content_encoder
        norms = iter(self.norms)

        def heard(x: Tensor, stride: int = 1) -> Statistics:
            norm = next(norms)
            if learn:
                norm.push(x[..., new.start // stride : new.stop // stride])
            return norm.statistics

        stretch = None
        if model.vocal_tract_encoder is not None:
            seen = model.vocal_tract_encoder.look(model.normalize(log_mel))
            stretch = model.vocal_tract_encoder.tell(heard(seen, TRACT_STRIDE))
        mel = model.normalize(model.straighten(log_mel, stretch))
        x = encoder.look(instance_norm(mel, statistics=heard(mel)))
        for block in encoder.blocks:
            assert isinstance(block, ConvNeXtBlock)
            x = block(x, statistics=heard(block.depthwise(x)))
        content = encoder.project(x)
        return model.squeeze(content, heard(content)).content

    def _speak(
        self, log_mel: Tensor, log_f0: Tensor, voiced: Tensor, source: Waveform, kept: int
    ) -> Waveform:
        """The vocoder stage; what comes before frame `kept` was given out before."""
        hop = self.features.hop_length
        begun = self.cycles - periods(log_f0[:, : kept + 1], self.features)
        low = self.done - kept
        noise = self.noise.read(low, low + log_mel.shape[-1]).to(log_mel.device)
        spoken = self.vocoder(log_mel, log_f0, voiced, noise, begun, decoded=True)
        samples = self.ear.converter.follow(spoken[0].float().cpu().numpy(), source)
        samples = samples[kept * hop : (kept + BLOCK) * hop + _FADE]
        faded = len(self.overlap)
        if faded:
            rise = (np.arange(faded, dtype=np.float32) + 0.5) / faded
            samples[:faded] = rise * samples[:faded] + (1 - rise) * self.overlap
        self.overlap = samples[BLOCK * hop :]
        return samples[: BLOCK * hop]

    def _at_source_level(self, waveform: Waveform, gain: float) -> Waveform:
        """As loud as the source; the gain goes over from that of the step before."""
        gains = np.linspace(self.gain or gain, gain, len(waveform), dtype=np.float32)
        self.gain = gain
        return np.clip(waveform / gains, -1.0, 1.0)
