"""Conversion of any length in constant memory, equal to converting the whole clip at once.

Whatever the whole-clip path takes from the whole clip is gathered first: level, peak and pitch
range, then, layer by layer, the mean and variance of speech that the content encoder's instance
norms use. Only then is the result made, block by block. Each block is computed with as much
context on both sides as the networks see, the F0 track's phase and the noise go on from block to
block, and only the middle is kept: there is no seam to hide, so nothing is cross-faded.

What is too long for memory waits in unnamed scratch files (`Rows`), about 1 GB an hour; memory
holds one block, and pitch and level of each frame (2 MB an hour).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import soxr
import torch
from torch import Tensor

from vc.audio import (
    MIN_SPEECH_S,
    PEAK_LIMIT,
    Audio,
    Loudness,
    Waveform,
    check_activity,
    check_writable,
    file_duration_s,
    read_blocks,
    subtract,
    unusual_offset,
    wanted_level_db,
    writable_rate,
    write_audio,
    write_blocks,
)
from vc.convert import (
    COMMENT,
    LONG_S,
    Converter,
    Progress,
    Reference,
    check_strength,
    pieces,
    share_of,
)
from vc.denoise import clean_blocks
from vc.model.autoencoder import Latent
from vc.model.content_encoder import ContentEncoder
from vc.model.details import CONTEXT
from vc.model.layers import ConvNeXtBlock, InstanceNorm, Statistics, instance_norm
from vc.model.speech_frames import frame_levels, near_speech
from vc.model.vocal_tract import STRIDE as TRACT_STRIDE
from vc.on_disk import LevelMeter, Rows
from vc.pitch import Pitch, estimate_f0, interpolate_log_f0, moved_f0
from vc.vocoder.excitation import WhiteNoise, periods
from vc.vocoder.high_band import HighBand, HighBandEar, HighBandMouth
from vc.vocoder.source_filter import SourceFilterVocoder
from vc.voice import Voice

BLOCK_S = 16.0
_F0_CONTEXT_S = 3.0  # on both sides: the F0 track's best path does not look further
_NOTHING = np.zeros(0, np.float32)
# shares of the whole time, as measured
_LEARN = 0.05  # share of a bar of progress that learning the voice has; of the rest:
_LISTEN, _ANALYSE, _ENCODE, _SYNTHESIZE = 0.05, 0.4, 0.55, 0.95


@dataclass(frozen=True)
class FileConversion:
    """What became of one file."""

    path: Path
    duration_s: float  # of what was written
    source_s: float
    sample_rate: int

    @property
    def is_partial(self) -> bool:
        """Whether it was interrupted."""
        return self.duration_s < self.source_s - 0.01


def can_split(converter: Converter) -> bool:
    """Whether a converter's decoder and vocoder look at a bounded stretch of frames only."""
    return converter.vocoder is not None and converter.autoencoder.config.decoder_norm == "layer"


def convert_file(
    converter: Converter,
    source: str | os.PathLike[str],
    references: Reference | Sequence[Reference],
    output: str | os.PathLike[str],
    pitch: Pitch = "match",
    sample_rate: int | None = None,
    progress: Progress | None = None,
    keep_partial: bool = False,
    strength: float = 1.0,
    denoise: bool = False,
    learn: bool = True,
    loudness: Loudness = "match",
) -> FileConversion:
    """Convert a file of any length into another file.

    Args:
        converter: a ready model.
        source: file whose words are kept.
        references: clips of the wanted voice, or a `Voice`.
        output: file to write; replaced when the new one is whole. Scratch files go beside it.
        pitch: as in `Converter.convert`.
        sample_rate: of the output in Hz; the source's own by default.
        progress: called with the share done, 0 to 1.
        keep_partial: on Ctrl-C, write what was synthesised until then; where there is an `output`
            already, beside it.
        strength: as in `Converter.convert`.
        denoise: as in `Converter.convert`.
        learn: as in `Converter.voice`.
        loudness: as in `Converter.convert`.

    Returns:
        How much was written: all, unless it was interrupted and `keep_partial` is set.

    Raises:
        AudioError: a clip cannot be read, is silent or too short, or the output cannot be written.
        KeyboardInterrupt: interrupted; `output` is as it was before.
    """
    source, output = Path(source), Path(output)
    check_writable(output)
    check_strength(strength)
    progress = progress or (lambda share: None)
    if not can_split(converter) or file_duration_s(source) <= LONG_S:
        converted = converter.convert(
            source, references, pitch, sample_rate, progress, strength, denoise, learn, loudness
        )
        write_audio(output, converted, COMMENT)
        rate = writable_rate(output, converted.sample_rate)
        return FileConversion(output, converted.duration_s, converted.duration_s, rate)
    voice = converter.voice(references, learn=learn, progress=share_of(progress, 0, _LEARN))
    progress = share_of(progress, _LEARN, 1)
    if strength < 1:
        voice = converter.towards(voice, read_blocks(source, LONG_S), strength)
    with _LongConversion(converter, output.parent, progress) as work:
        blocks = read_blocks(source, BLOCK_S)
        work.listen(blocks, f"source {source}", lambda r: writable_rate(output, sample_rate or r))
        work.denoise(everywhere=denoise)
        level_db = wanted_level_db(work.level_db, voice.level_db, loudness)
        target = output
        try:
            work.synthesize(voice, pitch)
        except KeyboardInterrupt:
            if not keep_partial or not work.converted_samples:
                raise
            target = _place_of_part(output)
        try:
            made = work.result(level_db, PEAK_LIMIT)
        except KeyboardInterrupt:
            if not keep_partial:
                raise
            made = work.result(level_db, PEAK_LIMIT)  # unmeasured, nothing can be kept
        part = _place_of_part(output) if keep_partial else None
        samples = work.result_samples
        written = write_blocks(target, made, work.rate, COMMENT, part, samples)
        if part is not None and written < samples:
            target = part
        done = FileConversion(target, written / work.rate, work.source_s, work.rate)
        if not done.is_partial:
            progress(1.0)
        return done


def _place_of_part(output: Path) -> Path:
    """Where a part of the result is kept: never in the place of a result."""
    if not output.exists():
        return output
    return output.with_name(f"{output.stem}.partial{output.suffix}")


def convert_waveform(
    converter: Converter,
    original: Audio,
    voice: Voice,
    pitch: Pitch,
    sample_rate: int,
    progress: Progress,
    denoise: bool = False,
    loudness: Loudness = "match",
) -> Audio:
    """`convert_file` for a waveform in memory: beside it and the result, memory stays constant."""
    with _LongConversion(converter, None, progress) as work:
        work.listen(pieces(original, BLOCK_S), "source", lambda source_rate: sample_rate)
        work.denoise(everywhere=denoise)
        work.synthesize(voice, pitch)
        converted = np.empty(work.result_samples, np.float32)
        done = 0
        for block in work.result(wanted_level_db(work.level_db, voice.level_db, loudness)):
            converted[done : done + len(block)] = block
            done += len(block)
    progress(1.0)
    return Audio(converted, sample_rate)


class _Extent:
    """Mean, and deviation from it, of a waveform that comes in blocks."""

    def __init__(self) -> None:
        self._lowest, self._highest, self._samples = np.inf, -np.inf, 0
        self._total, self._square = 0.0, 0.0

    def push(self, waveform: Waveform) -> None:
        """Take the next samples, `(samples,)`, at least one."""
        self._lowest = min(self._lowest, float(waveform.min()))
        self._highest = max(self._highest, float(waveform.max()))
        self._total += float(waveform.sum(dtype=np.float64))
        self._square += float(np.square(waveform, dtype=np.float64).sum())
        self._samples += len(waveform)

    @property
    def peak(self) -> float:
        """Of everything so far."""
        return max(self._highest - self.mean, self.mean - self._lowest)

    @property
    def mean(self) -> float:
        """Of everything so far."""
        return self._total / self._samples

    @property
    def offset(self) -> float:
        """See `vc.audio.unusual_offset`; of everything so far."""
        variance = self._square / self._samples - self.mean**2
        return unusual_offset(self.mean, float(np.sqrt(max(variance, 0.0))))


class _Resampler:
    """Resamples a waveform that comes in blocks.

    Args:
        from_rate: Hz.
        to_rate: Hz.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        self._soxr: soxr.ResampleStream | None = None
        if from_rate != to_rate:
            self._soxr = soxr.ResampleStream(from_rate, to_rate, 1, "float32")

    def push(self, waveform: Waveform, last: bool = False) -> Waveform:
        """Take the next samples; give those that are ready, all with the last."""
        if self._soxr is None:
            return waveform
        resampled: Waveform = self._soxr.resample_chunk(waveform, last=last)
        return resampled


class _Span(NamedTuple):
    """Rows `start` to `stop` are wanted; `low` to `high` are needed to compute them."""

    low: int
    start: int
    stop: int
    high: int


def _spans(total: int, length: int, context: int) -> Iterator[_Span]:
    for start in range(0, total, length):
        stop = min(start + length, total)
        yield _Span(max(0, start - context), start, stop, min(total, stop + context))


@dataclass(frozen=True)
class _Levelled:
    """A waveform at the model's rate, brought to its level when it is read."""

    rows: Rows
    gain: float = 1.0
    offset: float = 0.0  # before that gain
    peak: float = 0.0  # largest deviation from the mean, at that level

    def read(self, start: int, stop: int) -> Waveform:
        """Some of the samples."""
        centred = subtract(self.rows.read(start, stop), self.offset)
        return (centred * self.gain).astype(np.float32)


class _LongConversion:
    """One long conversion: `listen`, then `synthesize`, then `result`.

    Args:
        converter: with a neural vocoder.
        folder: for scratch files; None for the system's temporary folder.
        progress: called with the share done.
    """

    def __init__(self, converter: Converter, folder: Path | None, progress: Progress) -> None:
        assert converter.vocoder is not None
        self.converter = converter
        self.vocoder: SourceFilterVocoder = converter.vocoder
        self.model, self.features = converter.autoencoder, converter.features
        self.folder, self.progress = folder, progress
        stride = self.model.config.content_stride
        # whole content frames
        self.block_frames = stride * max(1, round(BLOCK_S * self.features.frame_rate / stride))
        self.source_rate, self.source_samples = 0, 0
        self.rate = 0  # of the result
        self.level_db = 0.0  # of the source
        self._open = ExitStack()
        self.waveform = self._rows(1)  # source at the model's rate, as read
        self.heard = _Levelled(self.waveform)  # what content is read from
        self.quiet = self.heard  # what all else is read from
        self.converted = self._rows(1)  # result at the model's rate
        self.ear: HighBandEar | None = None  # for what lies above the model's band
        self.above = self._rows(1)  # what the source has there

    def __enter__(self) -> _LongConversion:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    @property
    def source_s(self) -> float:
        """Length of the source in seconds."""
        return self.source_samples / self.source_rate

    @property
    def converted_samples(self) -> int:
        """How much was synthesised, at the model's rate."""
        return min(len(self.converted), len(self.waveform))

    def listen(self, blocks: Iterable[Audio], name: str, rate_for: Callable[[int], int]) -> None:
        """First pass: bring the source to the model's rate, measure level, mean and peak.

        Args:
            blocks: of the source.
            name: what the user calls it.
            rate_for: says what rate the result is to have, from the source's; both in Hz.

        Raises:
            AudioError: it cannot be read, is silent or too short.
        """
        rate = self.features.sample_rate
        extent = _Extent()
        original: LevelMeter | None = None
        at_model_rate = self._meter(rate)
        resampler: _Resampler | None = None

        def take(waveform: Waveform) -> None:
            if waveform.size:
                self.waveform.append(waveform)
                at_model_rate.push(waveform)
                extent.push(waveform)

        for waveform, self.source_rate in blocks:
            if original is None or resampler is None:
                self.rate = rate_for(self.source_rate)
                original = self._meter(self.source_rate)
                resampler = _Resampler(self.source_rate, rate)
                above = self._listen_above()
            original.push(waveform)
            take(resampler.push(waveform))
            above(waveform, False)
        assert original is not None and resampler is not None  # readers refuse an empty file
        take(resampler.push(_NOTHING, last=True))
        above(_NOTHING, True)
        self.source_samples = original.samples
        self.level_db = original.active_level_db()
        check_activity(name, self.level_db, original.speech_s(), MIN_SPEECH_S)
        gain_db = self.features.level_db - at_model_rate.active_level_db()
        gain = 10 ** (gain_db / 20) if np.isfinite(gain_db) else 1.0
        self.heard = self.quiet = _Levelled(self.waveform, gain, extent.offset, gain * extent.peak)
        self.progress(_LISTEN)

    def _listen_above(self) -> Callable[[Waveform, bool], None]:
        """What takes the source, block by block, and keeps what lies above the model's band."""
        model_rate = self.features.sample_rate
        if not HighBand.is_wanted(model_rate, min(self.source_rate, self.rate)):
            return lambda waveform, last: None
        ear = self.ear = HighBandEar(HighBand(model_rate, self.rate))
        resampler = _Resampler(self.source_rate, self.rate)
        self.above = self._rows(1 + ear.band.bands)

        def take(waveform: Waveform, last: bool) -> None:
            self.above.append(ear.push(resampler.push(waveform, last), last))

        return take

    def denoise(self, everywhere: bool) -> None:
        """After `listen`: take the noise out of what is read without it; see `Converter.convert`.

        Args:
            everywhere: content is read from that, too.

        Raises:
            CheckpointError: asked for everywhere, and the model has no denoiser.
        """
        if not everywhere and self.converter.denoiser is None:
            return
        denoiser = self.converter.need_denoiser()
        cleaned, extent = self._rows(1), _Extent()
        for block in clean_blocks(denoiser, self.heard.read, len(self.waveform)):
            cleaned.append(block)
            extent.push(block)
        self.quiet = _Levelled(cleaned, peak=extent.peak)
        if everywhere:
            self.heard = self.quiet

    def synthesize(self, voice: Voice, pitch: Pitch) -> None:
        """All other passes: pitch and mel, content layer by layer, then the result."""
        with torch.inference_mode():
            with self._rows(self.features.n_mels) as log_mel:
                f0, levels = self._analyse(log_mel)
                content = self._encode_content(log_mel, near_speech(levels))
            self._decode(content, voice, f0, moved_f0(f0, voice.pitch, pitch, self.features))

    @property
    def result_samples(self) -> int:
        """Samples of `result`."""
        if self.converted_samples < len(self.waveform):  # interrupted
            return int(self.converted_samples * self.rate / self.features.sample_rate)
        return round(self.source_samples * self.rate / self.source_rate)

    def result(self, level_db: float, peak_limit: float = np.inf) -> Iterator[Waveform]:
        """Blocks of the result; all of it is measured first.

        Args:
            level_db: of active speech, in dBFS.
            peak_limit: turn it down if a sample would exceed this.
        """
        gain = self._gain(level_db, peak_limit)
        return ((block * gain).astype(np.float32) for block in self._resampled())

    def _gain(self, level_db: float, peak_limit: float) -> float:
        peak = 0.0
        with closing(LevelMeter(self.rate, self.folder)) as meter:
            for block in self._resampled():
                meter.push(block)
                peak = max(peak, float(np.abs(block).max(initial=0.0)))
            gain_db = level_db - meter.active_level_db()
        gain = 10 ** (gain_db / 20) if np.isfinite(gain_db) else 1.0
        return min(gain, peak_limit / max(gain * peak, 1e-9) * gain)

    def _resampled(self) -> Iterator[Waveform]:
        """The result at its rate, with what lies above the model's band."""
        total, length = self.converted_samples, self.block_frames * self.features.hop_length
        resampler = _Resampler(self.features.sample_rate, self.rate)
        ear = self.ear
        mouth = ear and HighBandMouth(ear.band, self.above.read, ear.noise)
        left = self.result_samples
        for start in range(0, total, length):
            stop = min(start + length, total)
            block = resampler.push(self.converted.read(start, stop), last=stop == total)[:left]
            left -= len(block)
            if stop == total:
                block = np.pad(block, (0, left))
            yield mouth.push(block, last=stop == total) if mouth else block

    def _analyse(self, log_mel: Rows) -> tuple[Waveform, Tensor]:
        """Mel of every frame; returns F0 `(frames,)` in Hz and levels `(1, frames)`."""
        hop, frames = self.features.hop_length, len(self.waveform) // self.features.hop_length + 1
        f0_context = round(_F0_CONTEXT_S * self.features.frame_rate)
        track, levels = [], []
        for span in _spans(frames, self.block_frames, f0_context):
            waveform = self.quiet.read(span.low * hop, span.high * hop)
            f0 = estimate_f0(waveform, self.features, self.quiet.peak)
            track.append(f0[span.start - span.low : span.stop - span.low])
            mel = self._log_mel(self.heard, span.start, span.stop)
            levels.append(frame_levels(self.model.normalize(mel)))
            log_mel.append(_numpy(mel))
            self._report(_LISTEN, _ANALYSE, span.stop / frames)
        return np.concatenate(track), torch.cat(levels, dim=-1)

    def _log_mel(self, clip: _Levelled, start: int, stop: int) -> Tensor:
        """Frames `start` to `stop`, `(1, n_mels, frames)`, as they are in the whole clip."""
        hop = self.features.hop_length
        context = -(-self.features.n_fft // (2 * hop))
        low = max(0, start - context)
        waveform = clip.read(low * hop, (stop + context) * hop)
        mel: Tensor = self.converter.log_mel(self.converter._tensor(waveform))
        return mel[..., start - low : stop - low]

    def _encode_content(self, log_mel: Rows, counted: Tensor) -> Rows:
        """`Autoencoder.encode_content`, one layer of the whole file after the other.

        Args:
            log_mel: of every frame.
            counted: the frames whose statistics are taken, `(1, 1, frames)`.
        """
        encoder: ContentEncoder = self.model.content_encoder
        config = encoder.config
        passes = 2 * len(encoder.blocks) + 5
        done = 0

        def finished() -> None:
            nonlocal done
            done += 1
            self._report(_ANALYSE, _ENCODE, done / passes)

        stretch = self._stretch(log_mel, counted)
        finished()

        def normalize(mel: Tensor) -> Tensor:
            return self.model.normalize(self.model.straighten(mel, stretch))

        whole = self._statistics(log_mel, normalize, counted) if config.input_norm else None
        finished()

        def embed(mel: Tensor) -> Tensor:
            mel = normalize(mel)
            return encoder.look(instance_norm(mel, statistics=whole) if whole else mel)

        radius = config.kernel_size // 2
        x = self._mapped(log_mel, embed, config.width, radius, config.content_stride)
        counted = counted[..., :: config.content_stride]
        finished()
        radius = config.content_kernel // 2
        for block in encoder.blocks:
            assert isinstance(block, ConvNeXtBlock)
            of_block = None
            if isinstance(block.norm, InstanceNorm):
                of_block = self._statistics(x, block.depthwise, counted, radius)
            finished()
            with x:
                x = self._mapped(x, partial(block, statistics=of_block), config.width, radius)
            finished()
        with x:
            content = self._mapped(x, encoder.project, config.content_dim)
        finished()
        with content:
            of_content = self._statistics(content, lambda y: y, counted)
            return self._mapped(
                content, lambda y: self.model.squeeze(y, of_content).content, config.content_dim
            )

    def _stretch(self, log_mel: Rows, counted: Tensor) -> Tensor | None:
        """Of the speaker's vocal tract, `(1, 3)`, from the whole file; None if nobody asks."""
        encoder, config = self.model.vocal_tract_encoder, self.model.config
        if encoder is None:
            return None
        radius = config.kernel_size // 2
        context = config.tract_blocks * radius + -(-radius // TRACT_STRIDE)
        seen = self._statistics(
            log_mel,
            lambda mel: encoder.look(self.model.normalize(mel)),
            counted[..., ::TRACT_STRIDE],
            context,
            TRACT_STRIDE,
        )
        return encoder.tell(seen)

    def _decode(self, content: Rows, voice: Voice, f0: Waveform, moved: Waveform) -> None:
        """Content and pitch -> samples, with phase and noise that go on from block to block.

        Args:
            content: of the whole file.
            voice: whose.
            f0: of the source, `(frames,)` in Hz, 0 where unvoiced.
            moved: the same as it is to be spoken.
        """
        config, hop = self.model.config, self.features.hop_length
        radius, stride = config.kernel_size // 2, config.content_stride
        decoder = (config.decoder_blocks * radius + 1) + 2 * stride
        movement = -(-self.converter.temporal_envelope.context_samples // hop)
        context = self.vocoder.context + CONTEXT + decoder + movement
        context = stride * -(-context // stride)
        details = self.converter.details(voice)
        noise = WhiteNoise(hop)
        tensor = self.converter._tensor
        log_f0, own_log_f0 = (tensor(interpolate_log_f0(track)) for track in (moved, f0))
        voiced = tensor((f0 > 0).astype(np.float32))

        enough = self.model.heard_frames or len(f0)
        first = min(len(f0), enough + context)  # frames before an end would be said otherwise
        beginning = self._tensor(content.read(0, -(-first // stride)))
        wanted = voice.speaker_embedding.to(self.converter.device)[None]
        model = self.model.tuned(voice.tuning)
        asked = model.rehearse(beginning, wanted, log_f0, voiced)
        whole = model.listen_to_source(self._log_mel(self.quiet, 0, first), own_log_f0[:, :first])
        if whole:
            said = model.decode(Latent(beginning, asked), log_f0[:, :first], voiced[:, :first])
            stretch = model.hear_vocal_tract(said[..., :enough])
            whole = whole._replace(said_stretch=stretch)
        cycles, low = 0.0, 0
        for span in _spans(len(f0), self.block_frames, context):
            cycles = (cycles + periods(log_f0[:, low : span.low + 1], self.features)) % 1.0
            low = span.low
            pitch, flags = log_f0[:, low : span.high], voiced[:, low : span.high]
            part = self._tensor(content.read(low // stride, -(-span.high // stride)))
            source = whole and whole.frames(
                self._log_mel(self.quiet, low, span.high),
                own_log_f0[:, low : span.high],
                self._log_mel(self.heard, low, span.high),
            )
            mel = model.say(part, asked, pitch, flags, details, source)
            white = noise.read(low, span.high).to(self.converter.device)
            spoken = self.vocoder(mel, pitch, flags, white, cycles, decoded=True)
            samples = spoken[0].float().cpu().numpy()
            quiet = self.quiet.read(low * hop, span.high * hop)
            samples = self.converter.follow(samples, quiet)
            self.converted.append(samples[(span.start - low) * hop : (span.stop - low) * hop])
            self._report(_ENCODE, _SYNTHESIZE, span.stop / len(f0))

    def _statistics(
        self,
        rows: Rows,
        function: Callable[[Tensor], Tensor],
        counted: Tensor,
        context: int = 0,
        stride: int = 1,
    ) -> Statistics:
        """`time_statistics` over the whole file, of what a function makes of it."""
        mean = square = torch.zeros((), device=self.converter.device)
        share = counted.double() / counted.sum()
        done = 0
        for y in self._computed(rows, function, context, stride):
            wide, shares = y.double(), share[..., done : done + y.shape[-1]]
            done += y.shape[-1]
            mean = mean + (shares * wide).sum(dim=-1, keepdim=True)
            square = square + (shares * wide.square()).sum(dim=-1, keepdim=True)
        return Statistics(mean.float(), (square - mean.square()).clamp(min=0).float())

    def _mapped(
        self,
        rows: Rows,
        function: Callable[[Tensor], Tensor],
        width: int,
        context: int = 0,
        stride: int = 1,
    ) -> Rows:
        """What a function makes of the whole file."""
        result = self._rows(width)
        for y in self._computed(rows, function, context, stride):
            result.append(_numpy(y))
        return result

    def _computed(
        self, rows: Rows, function: Callable[[Tensor], Tensor], context: int, stride: int = 1
    ) -> Iterator[Tensor]:
        """Blocks `(1, channels, frames)`; `function` sees `context` of its own frames around."""
        for span in _spans(-(-len(rows) // stride), self.block_frames // stride, context):
            y = function(self._tensor(rows.read(span.low * stride, span.high * stride)))
            yield y[..., span.start - span.low : span.stop - span.low]

    def _tensor(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(rows.T.copy())[None].to(self.converter.device)

    def _rows(self, width: int) -> Rows:
        return self._open.enter_context(Rows(self.folder, width))

    def _meter(self, rate: int) -> LevelMeter:
        return self._open.enter_context(closing(LevelMeter(rate, self.folder)))

    def _report(self, before: float, after: float, share: float) -> None:
        share_of(self.progress, before, after)(share)


def _numpy(y: Tensor) -> np.ndarray:
    """`(1, channels, frames)` -> rows `(frames, channels)`."""
    return y[0].T.float().cpu().numpy()
