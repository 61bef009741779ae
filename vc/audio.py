"""Audio files and waveforms: read, write, resample, level, silence.

A waveform here is a NumPy float32 array of shape `(samples,)`, mono, full scale at 1.0. Files are
read and written through libsndfile (`soundfile`), resampled by `soxr`; what libsndfile cannot read
is left to ffmpeg, where it is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from vc.errors import AudioError
from vc.safe_write import check_output, written_beside

Waveform = npt.NDArray[np.float32]
Loudness = Literal["match", "keep"]  # the reference's, or the source's

MIN_SPEECH_S = 0.2  # about one syllable: less cannot be converted
MIN_REFERENCE_S = 0.5  # less says too little about a voice
SILENCE_DB = -70.0  # dBFS; a clip that never exceeds this is silent
GATES_DB = (50.0, 10.0)  # below the loudest frame, then below those frames' mean
TRIM_DB = 30.0  # this far below active speech, the edges of a clip are silence
PEAK_LIMIT = 0.99  # of full scale, so that lossy encoders do not clip either

LOUDEST = 1e10  # a sample beyond is no sound: full scale is 1, of integers in a float file 2**31

# bytes of sound that a header promises, and that are there
_SHORTER = re.compile(r"(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)")
_SLIPS = 4_096  # bytes: some writers count their headers, too
_STREAMED = 0x7FFF0000  # bytes: or more, by those who could not know how much would come
_FRAME_S, _FRAME_HOP_S = 0.02, 0.01
_USUAL_OFFSET = 0.1  # of a recording, in standard deviations
_COMFORTABLE_DB = (-30.0, -16.0)  # dBFS of active speech; podcasts are at -16
_FORMATS = {  # file suffix -> libsndfile (format, subtype)
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".aiff": ("AIFF", "PCM_16"),
}
AUDIO_SUFFIXES = {  # found in folders
    *(".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif"),
    *(".m4a", ".mp4", ".webm", ".mka"),  # as phones and browsers record, read by ffmpeg
}
WRITABLE_SUFFIXES = tuple(_FORMATS)
RATES = (4_000, 400_000)  # Hz; beyond lies no recording of speech
LONGEST_S = 1_800.0  # of a clip that is read as a whole; see `read_audio`
_READ_AT_ONCE = 1 << 21  # numbers, over all channels
_MAX_WAV_BYTES = 2**32 - 2**16
_RATES_OF = {  # the only ones that these have
    "OPUS": (8_000, 12_000, 16_000, 24_000, 48_000),
    "MPEG_LAYER_III": (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
}


class Audio(NamedTuple):
    """A mono clip: waveform `(samples,)` and its sample rate in Hz."""

    waveform: Waveform
    sample_rate: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.waveform) / self.sample_rate


def find_audio(folder: Path) -> list[Path]:
    """Every audio file below `folder`, sorted; hidden files and folders are passed over."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in AUDIO_SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def read_audio(path: str | os.PathLike[str], max_duration_s: float = LONGEST_S) -> Audio:
    """Read any file that libsndfile reads, or else ffmpeg where it is installed; mix to mono.

    Args:
        path: the file.
        max_duration_s: a longer file is refused before its samples fill the memory, whatever its
            header says.

    Raises:
        AudioError: the file is missing, empty, truncated, not audio, too long, or holds NaN or
            infinity, or its sample rate is none of speech.
    """
    blocks = list(read_blocks(path, max_duration_s=max_duration_s))
    return Audio(np.concatenate([block.waveform for block in blocks]), blocks[0].sample_rate)


def read_blocks(
    path: str | os.PathLike[str], block_s: float = 10.0, max_duration_s: float = np.inf
) -> Iterator[Audio]:
    """Read a file of any length in consecutive mono blocks of `block_s` seconds.

    Raises:
        AudioError: as `read_audio`; what is wrong with a later part is found when it is reached.
    """
    path = Path(path)
    _check_readable(path)
    try:
        yield from _blocks(path, path, block_s, max_duration_s)
    except PermissionError as error:
        raise AudioError(f"{path}: may not be read; check its permissions") from error
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        container = _foreign_container(path)
        if container is None:
            raise _unreadable(path) from error
        with _decoded_by_ffmpeg(path, container, max_duration_s) as decoded:
            yield from _blocks(decoded, path, block_s, max_duration_s)


def _blocks(file: Path, path: Path, block_s: float, max_duration_s: float) -> Iterator[Audio]:
    """Read `file`; call it `path` in messages."""
    done = 0
    with soundfile.SoundFile(os.fsencode(file)) as opened:
        sample_rate, promised = opened.samplerate, _promised_samples(opened)
        check_rate(str(path), sample_rate)
        limit = max_duration_s * sample_rate
        if promised is not None and promised > limit:
            raise AudioError(_too_long(path, max_duration_s))
        while True:
            try:
                waveform = _read_mono(opened, round(block_s * sample_rate))
            except soundfile.LibsndfileError as error:
                if done == 0:
                    raise
                raise _truncated(path, done, promised) from error
            if len(waveform) == 0:
                break
            if not np.isfinite(waveform).all():
                raise AudioError(f"{path}: holds NaN or infinite samples; export it again")
            if np.abs(waveform).max() > LOUDEST:
                raise AudioError(f"{path}: samples far beyond full scale; export it again")
            done += len(waveform)
            if done > limit:
                raise AudioError(_too_long(path, max_duration_s))
            yield Audio(waveform, sample_rate)
    if done == 0:
        raise AudioError(f"{path}: holds no samples; record or copy it again")
    if promised is not None and done < promised:
        raise _truncated(path, done, promised)


def _read_mono(file: soundfile.SoundFile, samples: int) -> Waveform:
    """Up to so many samples, mixed; of a file of very many channels never all at once."""
    pieces = [np.zeros(0, np.float32)]
    at_once = max(1, _READ_AT_ONCE // file.channels)
    while samples > 0:
        piece = file.read(min(samples, at_once), "float32", always_2d=True)  # (samples, channels)
        if len(piece) == 0:
            break
        pieces.append(mix_to_mono(piece))
        samples -= len(piece)
    return np.concatenate(pieces)


def check_rate(name: str, sample_rate: int) -> None:
    """Refuse a sample rate that no speech is recorded at.

    Raises:
        AudioError: too low or too high.
    """
    if not RATES[0] <= sample_rate <= RATES[1]:
        raise AudioError(
            f"{name}: a sample rate of {sample_rate} Hz; use {RATES[0]} to {RATES[1]}, "
            "or export it anew"
        )


def file_duration_s(path: str | os.PathLike[str]) -> float:
    """Length that a file's header promises, in seconds; infinite where it does not say.

    Raises:
        AudioError: the file is missing, empty or not audio.
    """
    path = Path(path)
    _check_readable(path)
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            promised = _promised_samples(file)
            return np.inf if promised is None else promised / file.samplerate
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        if _foreign_container(path) is None:
            raise _unreadable(path) from error
        return np.inf


def _check_readable(path: Path) -> None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AudioError(f"{path}: no such file; check the name") from error
    except (OSError, ValueError) as error:  # too long a name, no right to look there
        raise AudioError(f"{path}: cannot be read ({error}); check the name") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(f"{path}: is a folder, not an audio file; name one clip")
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(f"{path}: is a device or a pipe, not an audio file; name one clip")
    if status.st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes); record or copy it again")
    if not os.access(path, os.R_OK):
        raise AudioError(f"{path}: may not be read; check its permissions")


def _unreadable(path: Path) -> AudioError:
    return AudioError(f"{path}: not audio that can be read; use WAV, FLAC, MP3, Ogg or Opus")


def _truncated(path: Path, samples: int, promised: int | None) -> AudioError:
    whole = "an unknown number" if promised is None else promised
    return AudioError(f"{path}: truncated ({samples} of {whole} samples); copy the file again")


def _promised_samples(file: soundfile.SoundFile) -> int | None:
    if not 0 < file.frames < 2**62:
        return None
    # of WAV, AIFF and AU libsndfile counts what is there, and notes what should be
    if noted := _SHORTER.search(file.extra_info):
        promised, there = int(noted[1]), int(noted[2])
        if there and there + _SLIPS < promised < _STREAMED:
            return file.frames * promised // there
    return file.frames


def _too_long(path: Path, max_duration_s: float) -> str:
    return f"{path}: longer than {max_duration_s / 60:g} minutes; cut it into shorter clips"


def _foreign_container(path: Path) -> str | None:
    """The name by which ffmpeg calls a container that libsndfile cannot read, or None."""
    with path.open("rb") as file:
        start = file.read(12)
    if start.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    return "mov" if start[4:8] == b"ftyp" else None


@contextmanager
def _decoded_by_ffmpeg(path: Path, container: str, max_duration_s: float) -> Iterator[Path]:
    """WebM, M4A or MP4, as phones and browsers record, as a WAV made by the ffmpeg on the PATH.

    The demuxer is named, so that no file can pose as a playlist that opens other files.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise AudioError(
            f"{path}: WebM, M4A and MP4 can be read only where ffmpeg is installed; "
            "install it, or use WAV, FLAC, MP3, Ogg or Opus"
        )
    with tempfile.TemporaryDirectory(prefix="vc-") as folder:
        decoded = Path(folder) / "decoded.wav"
        command = [program, "-nostdin", "-v", "error", "-protocol_whitelist", "file"]
        command += ["-f", container, "-i", f"file:{path.resolve()}", "-vn", "-ac", "1"]
        if not np.isinf(max_duration_s):
            command += ["-t", str(max_duration_s + 1)]
        run = subprocess.run([*command, str(decoded)], capture_output=True, check=False)
        if run.returncode != 0 or not decoded.exists():
            raise AudioError(f"{path}: ffmpeg finds no sound in it; record or export it again")
        yield decoded


def write_audio(path: str | os.PathLike[str], audio: Audio, comment: str = "") -> None:
    """Write a clip in the format that the file name asks for, whole or not at all.

    The clip is turned down, never clipped, if it exceeds full scale.

    Args:
        path: its suffix chooses WAV, FLAC, Ogg Vorbis, Opus, MP3 or AIFF.
        audio: what to write.
        comment: goes into the file's metadata.

    Raises:
        AudioError: unknown suffix, missing or unwritable folder, disk full, or samples that are
            not finite, or not mono.
    """
    path = Path(path)
    check_writable(path)
    waveform, sample_rate = audio
    check_rate(str(path), sample_rate)
    if waveform.ndim != 1:
        raise AudioError(f"{path}: clips are mono; mix {waveform.shape} samples first")
    if not np.isfinite(waveform).all():
        raise AudioError(f"{path}: refusing to write NaN or infinite samples")
    waveform = resample(waveform, sample_rate, writable_rate(path, sample_rate))
    peak = float(np.abs(waveform).max(initial=0.0))
    if peak > PEAK_LIMIT:
        waveform = waveform * np.float32(PEAK_LIMIT / peak)
    write_blocks(path, [waveform], writable_rate(path, sample_rate), comment)


def writable_rate(path: Path, sample_rate: int) -> int:
    """The rate that a file of this name can have, in Hz: `sample_rate` itself, or else 48 kHz."""
    subtype = _FORMATS[path.suffix.lower()][1]
    if subtype in _RATES_OF:
        possible = sample_rate in _RATES_OF[subtype]
    elif subtype == "VORBIS":  # libsndfile crashes beyond
        possible = sample_rate <= 200_000
    else:  # headers of FLAC have no room for others
        possible = path.suffix.lower() != ".flac" or sample_rate < 2**16 or sample_rate % 10 == 0
    return sample_rate if possible else 48_000


def write_blocks(
    path: Path,
    blocks: Iterable[Waveform],
    sample_rate: int,
    comment: str = "",
    partial: Path | None = None,
    samples: int = 0,
) -> int:
    """Write consecutive blocks as one file, which appears under its name when it is whole.

    Args:
        path: a name that `check_writable` accepts.
        blocks: waveforms `(samples,)` within full scale.
        sample_rate: in Hz, one that `writable_rate` accepts.
        comment: goes into the file's metadata.
        partial: on Ctrl-C, end the file where it is and give it this name instead of dropping it;
            without a sample there is none.
        samples: how many will come, if known: a WAV beyond 4 GB needs another header (RF64).

    Returns:
        How many samples were written: all, unless it was interrupted and `partial` is set.

    Raises:
        AudioError: the folder cannot be written or the disk is full.
        KeyboardInterrupt: interrupted; `path` is as it was before.
    """
    file_format, subtype = _FORMATS[path.suffix.lower()]
    if file_format == "WAV" and 2 * samples > _MAX_WAV_BYTES:
        file_format = "RF64"
    written, interrupted, is_kept = 0, None, False
    try:
        with written_beside(path) as scratch:
            with (
                _Sink(scratch) as sink,
                soundfile.SoundFile(
                    sink, "w", sample_rate, channels=1, format=file_format, subtype=subtype
                ) as file,
            ):
                if comment:  # libsndfile refuses an empty one
                    file.comment = comment
                try:
                    for block in blocks:
                        # libsndfile's Ogg writers overflow their stack on very long single writes
                        for start in range(0, len(block), sample_rate):
                            piece = block[start : start + sample_rate]
                            file.write(piece)
                            written += len(piece)
                except KeyboardInterrupt as caught:
                    if partial is None or not written:
                        raise
                    interrupted = caught
            if partial is not None and interrupted is not None:
                os.replace(scratch, partial)
                is_kept = True
                raise interrupted
    except KeyboardInterrupt:
        if not is_kept:
            raise
    except OSError as error:
        raise AudioError(f"{path}: cannot be written ({error.strerror})") from error
    except RuntimeError as error:  # libsndfile's own kind too
        raise AudioError(f"{path}: writing failed ({error}); is the disk full?") from error
    return written


class _Sink:
    """A new file that libsndfile writes to, which remembers what went wrong.

    libsndfile passes over errors of the last writes, while it closes: on a full disk it would call
    a file whole that is not.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._error: BaseException | None = None

    def __enter__(self) -> _Sink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        """All bytes; after an error none any more."""
        written = 0
        try:
            while self._error is None and written < len(data):
                written += self._file.write(data[written:])
        except BaseException as error:  # noqa: BLE001 - nothing can pass through C; raised later
            self._error = error
        return written

    def readinto(self, buffer: Any) -> int:
        """As of a file."""
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of a file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As of a file."""
        return self._file.tell()


def check_writable(path: Path) -> None:
    """Refuse an output name before any work is done for it.

    Raises:
        AudioError: unknown suffix, or a folder that is missing or cannot be written.
    """
    check_output(path, WRITABLE_SUFFIXES, AudioError)


def mix_to_mono(samples: npt.NDArray[np.float32]) -> Waveform:
    """Average the channels of `(samples, channels)` into `(samples,)`."""
    if samples.shape[1] == 1:
        return np.ascontiguousarray(samples[:, 0])
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused elsewhere
        return np.ascontiguousarray(samples.mean(axis=1), dtype=np.float32)


def resample(waveform: Waveform, from_rate: int, to_rate: int) -> Waveform:
    """Resample `(samples,)` between rates in Hz with soxr's high-quality band-limited filter."""
    if from_rate == to_rate:
        return waveform
    return soxr.resample(waveform, from_rate, to_rate).astype(np.float32, copy=False)


def fit_length(waveform: Waveform, samples: int) -> Waveform:
    """Cut or zero-pad the end of a waveform to exactly `samples`."""
    return np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))


def frame_levels_db(waveform: Waveform, sample_rate: int) -> npt.NDArray[np.float64]:
    """Level of overlapping 20 ms frames every 10 ms, `(frames,)`, in dBFS (RMS about the mean).

    A constant offset, as cheap sound cards have it, is not loud.
    """
    length, hop = level_frame(sample_rate)
    padded = np.pad(waveform.astype(np.float64), (0, max(0, length - len(waveform))))
    starts = np.arange(0, len(padded) - length + 1, hop)
    total, energy = (np.concatenate([[0.0], np.cumsum(x)]) for x in (padded, padded**2))
    mean, square = ((x[starts + length] - x[starts]) / length for x in (total, energy))
    return 10 * np.log10(np.maximum(square - mean**2, 1e-12))


def without_offset(waveform: Waveform) -> Waveform:
    """A clip `(samples,)` about its mean, if that is far from 0.

    Most recordings have some offset, those that models were trained on, too.
    """
    if not waveform.size:
        return waveform
    mean, deviation = waveform.mean(dtype=np.float64), waveform.std(dtype=np.float64)
    return subtract(waveform, unusual_offset(float(mean), float(deviation)))


def subtract(waveform: Waveform, offset: float) -> Waveform:
    """A waveform less a constant, rounded once: in blocks it is the same as whole."""
    return (waveform - np.float64(offset)).astype(np.float32)


def unusual_offset(mean: float, deviation: float) -> float:
    """What is to be taken off a waveform of this mean and standard deviation."""
    return mean if abs(mean) > _USUAL_OFFSET * deviation else 0.0


def level_frame(sample_rate: int) -> tuple[int, int]:
    """Samples in a frame of `frame_levels_db`, and between frames."""
    return round(_FRAME_S * sample_rate), round(_FRAME_HOP_S * sample_rate)


def active_level_db(waveform: Waveform, sample_rate: int) -> float:
    """Level of the active parts of a clip in dBFS, pauses left out.

    Two gates, after ITU-R BS.1770-4 (without its frequency weighting): frames within 50 dB of the
    loudest are averaged, then those above 10 dB below that average. -inf for silence.
    """
    return gated_level_db(frame_levels_db(waveform, sample_rate))


def gated_level_db(levels: npt.NDArray[np.float64]) -> float:
    """The gates of `active_level_db` over the levels of frames, `(frames,)` in dBFS."""
    loudest = levels.max()
    if loudest < SILENCE_DB:
        return -np.inf
    levels = levels[levels > loudest - GATES_DB[0]]
    return _mean_level_db(levels[levels > _mean_level_db(levels) - GATES_DB[1]])


def _mean_level_db(levels: npt.NDArray[np.float64]) -> float:
    return float(10 * np.log10(np.mean(10 ** (levels / 10))))


def normalize_level(waveform: Waveform, sample_rate: int, level_db: float) -> Waveform:
    """Bring active speech to `level_db` dBFS; silence is returned unchanged."""
    gain_db = level_db - active_level_db(waveform, sample_rate)
    if not np.isfinite(gain_db):
        return waveform
    return (waveform * 10 ** (gain_db / 20)).astype(np.float32)


def wanted_level_db(own_db: float, voice_db: float | None, loudness: Loudness) -> float:
    """How loud a conversion is to be, in dBFS of active speech.

    Args:
        own_db: level of the source.
        voice_db: of the references; None if the voice has none.
        loudness: "match" for the references' (within bounds, as a recording may be far too quiet
            or too loud to be listened to), "keep" for the source's.
    """
    if loudness == "keep" or voice_db is None:
        return own_db
    return float(np.clip(voice_db, *_COMFORTABLE_DB))


def trim_silence(waveform: Waveform, sample_rate: int, margin_s: float = 0.05) -> Waveform:
    """Cut leading and trailing parts more than `TRIM_DB` below active speech, but for a margin."""
    return waveform[speech_span(waveform, sample_rate, margin_s)]


def speech_span(waveform: Waveform, sample_rate: int, margin_s: float = 0.05) -> slice:
    """The samples that `trim_silence` leaves."""
    levels = frame_levels_db(waveform, sample_rate)
    active = np.flatnonzero(levels > active_level_db(waveform, sample_rate) - TRIM_DB)
    if active.size == 0:
        return slice(len(waveform))
    length, hop = level_frame(sample_rate)
    margin = round(margin_s * sample_rate)
    first = int(active[0]) * hop - margin
    last = int(active[-1]) * hop + length + margin
    return slice(max(0, first), last)


def speech_s(audio: Audio) -> float:
    """Seconds of a clip between leading and trailing silence."""
    return len(trim_silence(audio.waveform, audio.sample_rate, margin_s=0.0)) / audio.sample_rate


def check_speech(audio: Audio, name: str, min_duration_s: float = MIN_SPEECH_S) -> None:
    """Refuse what cannot be converted or imitated.

    Args:
        audio: the clip.
        name: what the user calls it, for the message.
        min_duration_s: seconds that are needed between leading and trailing silence.

    Raises:
        AudioError: wrong shape or sample rate, NaN, beyond any level, silence, or too short.
    """
    waveform = audio.waveform
    check_rate(name, audio.sample_rate)
    if waveform.ndim != 1:
        raise AudioError(f"{name}: expected mono samples of shape (samples,), got {waveform.shape}")
    if not np.isfinite(waveform).all():
        raise AudioError(f"{name}: holds NaN or infinite samples; export it again")
    if np.abs(waveform).max(initial=0.0) > LOUDEST:
        raise AudioError(f"{name}: samples far beyond full scale; export it again")
    if audio.duration_s < min_duration_s:
        raise AudioError(
            f"{name}: only {audio.duration_s:.2f} s long; at least {min_duration_s} s is needed"
        )
    level_db = active_level_db(waveform, audio.sample_rate)
    check_activity(name, level_db, speech_s(audio), min_duration_s)


def check_activity(name: str, level_db: float, speech_s: float, min_duration_s: float) -> None:
    """The part of `check_speech` that rests on the clip's active level and speech duration."""
    if not np.isfinite(level_db):
        raise AudioError(f"{name}: is silent; check the microphone or choose another clip")
    if speech_s < min_duration_s:
        raise AudioError(
            f"{name}: only {speech_s:.2f} s of it is not silence; "
            f"at least {min_duration_s} s is needed"
        )
