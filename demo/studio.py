"""What the page can do, without the page: every tab and the API come through here."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import torch

import vc
from demo.clips import Clips, plain
from demo.figures import Heard
from demo.known_voices import load_known_voices
from demo.live_streams import LiveStreams
from demo.memory import give_back_memory
from demo.settings import DemoSettings
from demo.visits import Visits, safe_name
from vc.audio import Audio, check_speech, normalize_level, resample, write_audio
from vc.compress import compress, decompress, load_compressed, save_compressed
from vc.convert import COMMENT, Converter, Reference, voice_key
from vc.errors import VCError
from vc.model.speaker_encoder import split_embedding
from vc.pitch import Pitch, estimate_f0
from vc.units import (
    UnitModel,
    decode_units,
    encode_units,
    format_units,
    load_unit_model,
    parse_units,
)
from vc.voice import Voice, blend_voices, is_voice_file, save_voice

AT_ONCE = 2  # conversions; more would only make each slower
MAX_BATCH = 100  # files
EXAMPLES = Path(vc.__file__).parent / "examples"
_LOOKED_AT_S = 60  # of a clip, in the pictures


class BatchRow(NamedTuple):
    """One line of the batch's table."""

    file: str
    state: str
    note: str


class Studio:
    """A converter, the files of its visitors, and the limits.

    Args:
        converter: ready to convert.
        settings: the limits.
        folder: where all files of the demo lie.
    """

    def __init__(self, converter: Converter, settings: DemoSettings, folder: Path) -> None:
        self.converter = converter
        self.settings = settings
        self.clips = Clips(converter, settings)
        self.folder = folder
        self.visits = Visits(folder, settings.keep_uploads is not None, self._ended)
        self.known = load_known_voices(converter.model_sha256)
        self.streams = LiveStreams(converter, slot=self._slot)
        self._slots = threading.BoundedSemaphore(AT_ONCE)

    @contextlib.contextmanager
    def _slot(self) -> Iterator[None]:
        """Wait until there may be one more conversion."""
        try:
            with self._slots:
                yield
        finally:
            self._forget_voices()  # one may have been learnt for a visit that has ended meanwhile
        give_back_memory()

    def _ended(self, visit: str) -> None:
        self.streams.end(visit)
        self._forget_voices()

    def _forget_voices(self) -> None:
        """Forget the voices that only visits had learnt that have ended."""
        self.converter.forget_voices(but=self.visits.voices())

    def _references(self, visit: str | None, paths: list[str] | None) -> list[Reference]:
        """Read the clips and kept voices of one speaker; what is learnt of them is the visit's."""
        heard = self.clips.read_references(paths)
        key = voice_key([clip for clip in heard if isinstance(clip, Audio)])
        self.visits.add_voice(visit, key)
        return heard

    def examples(self, visit: str | None) -> tuple[str, list[str]]:
        """Copies of the example clips for a visit: source and references."""
        self.visits.add(visit)
        copies = []
        for role in ("source", "reference"):
            copy = partial(shutil.copyfile, EXAMPLES / f"{role}.flac")
            copies.append(str(self.visits.new_file(visit, f"example {role}.flac", copy)))
        return copies[0], copies[1:]

    def convert(
        self,
        visit: str | None,
        source: str | None,
        references: list[str] | None,
        pitch: Pitch,
        strength: float,
        denoise: bool,
        progress: Callable[[float], None],
    ) -> str:
        """Convert a file; return the path of the result.

        Raises:
            VCError: something cannot be used; the message is for the user.
        """
        self.visits.add(visit, [source, *(references or [])])
        original = self.clips.read_source(source)
        heard = self._references(visit, references)
        with self._slot():
            result = self.converter.convert(
                original,
                heard,
                pitch,
                progress=progress,
                strength=strength,
                denoise=denoise,
            )
        return self._write(visit, f"{Path(source or '').stem} converted", result)

    def convert_batch(
        self,
        visit: str | None,
        sources: list[str] | None,
        references: list[str] | None,
        pitch: Pitch,
        strength: float,
        denoise: bool,
    ) -> Iterator[tuple[list[BatchRow], str | None]]:
        """Convert many files into one voice; yields the table as it grows, at last with a zip.

        A file that fails says why in its row, and the others go on.

        Raises:
            VCError: no source, too many, or the references cannot be used.
        """
        self.visits.add(visit, [*(sources or []), *(references or [])])
        if not sources:
            raise VCError("Add the clips to convert first.")
        if len(sources) > MAX_BATCH:
            raise VCError(f"{len(sources)} clips; {MAX_BATCH} are the most at once.")
        heard = self._references(visit, references)
        with self._slot():
            voice = self.converter.voice(heard)
        rows = [BatchRow(Path(source).name, "waiting", "") for source in sources]
        with tempfile.TemporaryDirectory(
            prefix="batch-", dir=self.folder, ignore_cleanup_errors=True
        ) as folder:
            archive = Path(folder, "converted.zip")
            names: set[str] = set()
            for number, source in enumerate(sources):
                rows[number] = rows[number]._replace(state="converting")
                yield rows, None
                try:
                    original = self.clips.read_source(source)
                    with self._slot():
                        result = self.converter.convert(
                            original, voice, pitch, strength=strength, denoise=denoise
                        )
                except VCError as error:
                    note = plain(error).removeprefix(f"{Path(source).name}: ")
                    rows[number] = rows[number]._replace(state="failed", note=note)
                    continue
                name = _unused(f"{safe_name(Path(source).stem)} converted", names)
                one = archive.with_name(f"{name}.wav")
                write_audio(one, result, COMMENT)
                with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as opened:
                    opened.write(one, one.name)
                one.unlink()
                rows[number] = rows[number]._replace(
                    state="done", note=f"{result.duration_s:.1f} s, {one.name}"
                )
            made = self.visits.new_file(visit, archive.name, archive.replace) if names else None
        yield rows, str(made) if made else None

    def blend(
        self, visit: str | None, files: list[str] | None, weights: Sequence[float], name: str
    ) -> tuple[str, str]:
        """Mix voices; return the paths of the voice file and of a sentence spoken in it.

        Args:
            visit: whose.
            files: clips or voice files, each a voice of its own.
            weights: one for each.
            name: of the new voice.

        Raises:
            VCError: a file cannot be used, or all weights are 0.
        """
        if not files:
            raise VCError("Add at least one clip or voice first.")
        self.visits.add(visit, files)
        name = name.strip() or "My voice"
        heard = [self._references(visit, [file]) for file in files]
        with self._slot():
            voices = [self.converter.voice(references) for references in heard]
        voice = blend_voices(voices, weights, self.converter.autoencoder.config, name)
        return self._keep(visit, voice)

    def invent(self, visit: str | None, seed: int, name: str) -> tuple[str, str]:
        """Invent a voice; return the paths of the voice file and of a sentence spoken in it."""
        self.visits.add(visit)
        return self._keep(visit, self.converter.new_voice(seed, name=name.strip() or "My voice"))

    def _keep(self, visit: str | None, voice: Voice) -> tuple[str, str]:
        name = safe_name(voice.name)
        kept = self.visits.new_file(
            visit,
            f"{name}.voice",
            lambda path: save_voice(path, voice, self.converter.model_sha256),
        )
        with self._slot():
            spoken = self.converter.convert(EXAMPLES / "source.flac", voice)
        return str(kept), self._write(visit, f"{name} says", spoken)

    @cached_property
    def units(self) -> UnitModel:
        """The unit coder of the converter.

        Raises:
            CheckpointError: it has none.
        """
        return load_unit_model(self.converter)

    def write_units(self, visit: str | None, source: str | None) -> str:
        """A clip as text that `speak_units` can say.

        Raises:
            VCError: the clip cannot be used.
        """
        self.visits.add(visit, [source])
        original = self.clips.read_source(source)
        with self._slot():
            units = encode_units(self.converter, original, model=self.units)
        return format_units(units, self.units)

    def speak_units(self, visit: str | None, text: str, references: list[str] | None) -> str:
        """Say units; return the path of the result.

        Raises:
            VCError: the text has no units, or wrong ones, or a reference cannot be used.
        """
        self.visits.add(visit, references or [])
        heard = self._references(visit, references)
        units = parse_units(text, self.units, "text")
        with self._slot():
            spoken = decode_units(self.converter, units, heard, model=self.units)
        return self._write(visit, "said from units", spoken)

    def compress(self, visit: str | None, source: str | None, setting: str) -> tuple[str, str]:
        """Compress a clip; return the path of the file and how large it is.

        Raises:
            VCError: the clip cannot be used.
        """
        self.visits.add(visit, [source])
        original = self.clips.read_source(source)
        with self._slot():
            done = compress(self.converter, original, setting, self.units)
        path = self.visits.new_file(
            visit,
            f"{safe_name(Path(source or '').stem)}.vcz",
            lambda path: save_compressed(path, done.data),
        )
        size = (
            f"{len(done.data)} bytes for {done.duration_s:.1f} s: "
            f"{done.file_bits_per_second:.0f} bits a second, the voice included."
        )
        return str(path), size

    def decompress(self, visit: str | None, file: str | None, references: list[str] | None) -> str:
        """Say a compressed clip in its own voice, or the references'; return the result's path.

        Raises:
            VCError: no file, one that cannot be used, or a reference that cannot.
        """
        if not file:
            raise VCError("Compress a clip or upload a .vcz file first.")
        self.visits.add(visit, [file, *(references or [])])
        heard = self._references(visit, references) if references else None
        data = load_compressed(file)
        with self._slot():
            spoken = decompress(self.converter, data, heard, file, self.units)
        return self._write(visit, f"{safe_name(Path(file).stem)} said again", spoken)

    def _write(self, visit: str | None, name: str, audio: Audio) -> str:
        return str(
            self.visits.new_file(
                visit, f"{name}.wav", lambda path: write_audio(path, audio, COMMENT)
            )
        )

    def open_stream(
        self,
        visit: str | None,
        references: list[str] | None,
        pitch: Pitch,
        sample_rate: int,
        denoise: bool,
    ) -> tuple[str, float]:
        """Begin to convert live; see `LiveStreams.open`."""
        self.visits.add(visit, references or [])
        heard = self._references(visit, references)
        return self.streams.open(visit, heard, pitch, sample_rate, denoise)

    def heard(
        self,
        visit: str | None,
        source: str | None,
        references: list[str] | None,
        result: str | None,
    ) -> dict[str, Heard]:
        """What can be drawn of each clip, by role; a kept voice has no clip to draw.

        Raises:
            VCError: a clip cannot be used.
        """
        self.visits.add(visit, [source, *(references or []), result])
        paths = {"source": source, "reference": first_clip(references), "result": result}
        return {
            role: self._hear(self.clips.read(path), role) for role, path in paths.items() if path
        }

    def _hear(self, audio: Audio, role: str) -> Heard:
        converter, features = self.converter, self.converter.features
        drawn = audio._replace(waveform=audio.waveform[: _LOOKED_AT_S * audio.sample_rate])
        check_speech(drawn, role)  # what can be converted can be drawn, though it is no reference
        waveform = resample(*drawn, features.sample_rate)
        waveform = normalize_level(waveform, features.sample_rate, features.level_db)
        with torch.inference_mode():
            log_mel = converter.log_mel(torch.from_numpy(waveform)[None])[0]
            listened = torch.from_numpy(converter.reference_waveform(drawn))[None]
            embedding = converter.autoencoder.encode_speaker(converter.log_mel(listened)).cpu()
        return Heard(
            log_mel.cpu().numpy(),
            estimate_f0(waveform, features),
            len(waveform) / features.sample_rate,
            split_embedding(embedding, converter.autoencoder.config).identity[0].numpy(),
            cut=len(drawn.waveform) < len(audio.waveform),
        )


def first_clip(references: list[str] | None) -> str | None:
    """The first reference that can be listened to."""
    return next((path for path in references or [] if not is_voice_file(path)), None)


def _unused(name: str, names: set[str]) -> str:
    number, unused = 1, name
    while unused in names:
        number += 1
        unused = f"{name} {number}"
    names.add(unused)
    return unused
