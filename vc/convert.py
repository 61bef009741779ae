"""Conversion: the words of a source clip in the voice of reference clips.

This is the one path from audio to converted audio; the command line, the recipes and the demo all
come through here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vc.audio import (
    MIN_REFERENCE_S,
    Audio,
    Waveform,
    active_level_db,
    check_speech,
    fit_length,
    normalize_level,
    read_audio,
    resample,
    trim_silence,
)
from vc.checkpoint import load_autoencoder, load_vocoder
from vc.errors import CheckpointError, VCError
from vc.features import LogMel
from vc.model.autoencoder import Autoencoder, Latent
from vc.model.speaker_encoder import average_embeddings
from vc.pitch import (
    PitchRange,
    estimate_f0,
    interpolate_log_f0,
    match_range,
    pitch_range,
    shift_semitones,
)
from vc.vocoder.griffin_lim import griffin_lim
from vc.vocoder.source_filter import SourceFilterVocoder

COMMENT = "Converted speech: synthetic, not a recording of the person it sounds like (vc)"
LONG_S = 60.0  # longer clips are converted in blocks, to the same result in constant memory
SHIPPED = Path(__file__).parent / "weights" / "default"

Pitch = Literal["match", "keep"] | float
Clip = Audio | str | os.PathLike[str]
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Voice:
    """What conversion needs to know of whose voice it imitates."""

    speaker_embedding: Tensor  # (embedding_dim,)
    pitch: PitchRange | None  # None: no voiced speech was found


class Converter:
    """A ready model: encoders, decoder and vocoder.

    Args:
        autoencoder: in evaluation mode.
        vocoder: made for the same features; None for Griffin-Lim.
    """

    def __init__(self, autoencoder: Autoencoder, vocoder: SourceFilterVocoder | None) -> None:
        if vocoder is not None and vocoder.features != autoencoder.features:
            raise CheckpointError("vocoder and autoencoder were trained on different features")
        self.autoencoder = autoencoder
        self.vocoder = vocoder
        self.features = autoencoder.features
        self.device = autoencoder.get_buffer("mel_mean").device
        self.log_mel = LogMel(self.features).to(self.device)

    def convert(
        self,
        source: Clip,
        references: Clip | Voice | Sequence[Clip],
        pitch: Pitch = "match",
        sample_rate: int | None = None,
        progress: Progress | None = None,
    ) -> Audio:
        """Say the source's words in the references' voice.

        Args:
            source: a file or `Audio`.
            references: one or more clips of one speaker, or a `Voice` made from such.
            pitch: "match" moves the source's median F0 to the references', "keep" leaves it, a
                number shifts it by so many semitones.
            sample_rate: of the result in Hz; the source's own by default.
            progress: called with the share done, 0 to 1.

        Returns:
            As long as the source (to the sample, at the source's rate) and as loud.

        Raises:
            AudioError: a clip cannot be read, is silent or too short.
        """
        progress = progress or (lambda share: None)
        original = self._load(source, "source")
        check_speech(original, _name(source, "source"))
        voice = references if isinstance(references, Voice) else self.voice(references)
        if original.duration_s > LONG_S and self.vocoder is not None:
            from vc.blockwise import convert_waveform

            target_rate = sample_rate or original.sample_rate
            return convert_waveform(self, original, voice, pitch, target_rate, progress)
        progress(0.1)
        rate = self.features.sample_rate
        waveform = self._level(resample(original.waveform, original.sample_rate, rate))
        with torch.inference_mode():
            converted = self._convert(waveform, voice, pitch, progress)
        target_rate = sample_rate or original.sample_rate
        converted = resample(converted, rate, target_rate)
        converted = fit_length(
            converted, round(len(original.waveform) * target_rate / original.sample_rate)
        )
        level_db = active_level_db(original.waveform, original.sample_rate)
        converted = normalize_level(converted, target_rate, level_db)
        progress(1.0)
        return Audio(converted, target_rate)

    def voice(self, references: Clip | Sequence[Clip]) -> Voice:
        """Listen to one or more clips of a speaker.

        Silence at their edges is left out; longer clips count for more.

        Raises:
            AudioError: a clip cannot be read, is silent or too short.
        """
        clips = [references] if isinstance(references, (str, os.PathLike, Audio)) else references
        if not clips:
            raise VCError("no reference clip given; name at least one")
        embeddings, weights, f0 = [], [], []
        for number, clip in enumerate(clips, 1):
            name = _name(clip, f"reference {number}")
            audio = self._load(clip, name)
            check_speech(audio, name, MIN_REFERENCE_S)
            waveform = resample(audio.waveform, audio.sample_rate, self.features.sample_rate)
            waveform = trim_silence(self._level(waveform), self.features.sample_rate)
            with torch.inference_mode():
                log_mel = self.log_mel(self._tensor(waveform))
                embeddings.append(self.autoencoder.encode_speaker(log_mel)[0])
            weights.append(len(waveform))
            f0.append(estimate_f0(waveform, self.features))
        embedding = average_embeddings(
            torch.stack(embeddings).cpu(), torch.tensor(weights), self.autoencoder.config
        )
        return Voice(embedding, pitch_range(np.concatenate(f0)))

    def _convert(
        self, waveform: Waveform, voice: Voice, pitch: Pitch, progress: Progress
    ) -> Waveform:
        """Convert `(samples,)` at the model's rate."""
        f0 = estimate_f0(waveform, self.features)
        voiced = self._tensor((f0 > 0).astype(np.float32))
        if pitch == "match":
            f0 = match_range(f0, pitch_range(f0), voice.pitch)
        elif pitch != "keep":
            f0 = shift_semitones(f0, float(pitch))
        log_f0 = self._tensor(interpolate_log_f0(f0))
        progress(0.3)
        log_mel = self.log_mel(self._tensor(waveform))
        speaker = voice.speaker_embedding.to(self.device)[None]
        latent = Latent(self.autoencoder.encode_content(log_mel), speaker)
        decoded = self.autoencoder.decode(latent, log_f0, voiced)
        progress(0.6)
        return fit_length(self.synthesize(decoded, log_f0, voiced), len(waveform))

    def synthesize(self, log_mel: Tensor, log_f0: Tensor, voiced: Tensor) -> Waveform:
        """Vocoder stage: `(1, n_mels, frames)` and pitch `(1, frames)` -> `(samples,)`."""
        if self.vocoder is None:
            return griffin_lim(log_mel, self.features)[0].cpu().numpy()
        samples = log_mel.shape[-1] * self.features.hop_length
        # the same noise for the same length: converting twice gives the same file
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(1, samples, generator=generator).to(self.device)
        return self.vocoder(log_mel, log_f0, voiced, noise)[0].float().cpu().numpy()

    def _load(self, clip: Clip, name: str) -> Audio:
        return clip if isinstance(clip, Audio) else read_audio(clip)

    def _level(self, waveform: Waveform) -> Waveform:
        return normalize_level(waveform, self.features.sample_rate, self.features.level_db)

    def _tensor(self, values: Waveform) -> Tensor:
        return torch.from_numpy(values)[None].to(self.device)


def load(
    checkpoint: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    vocoder: Literal["neural", "griffin-lim"] = "neural",
) -> Converter:
    """Load a converter; the one that ships with the package by default.

    Args:
        checkpoint: folder with `autoencoder/` and `vocoder/` in it.
        device: a torch device name.
        vocoder: the checkpoint's own, or Griffin-Lim, which needs no weights.

    Raises:
        CheckpointError: the folder is missing, damaged or foreign.
    """
    folder = Path(checkpoint) if checkpoint is not None else SHIPPED
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such checkpoint folder; check the name")
    autoencoder = load_autoencoder(folder / "autoencoder").to(device)
    neural = load_vocoder(folder / "vocoder").to(device) if vocoder == "neural" else None
    return Converter(autoencoder, neural)


def _name(clip: Clip, role: str) -> str:
    return role if isinstance(clip, Audio) else f"{role} {Path(clip)}"
