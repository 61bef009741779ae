"""Prepared speech in memory, and the batches that are cut from it.

All cached features are held in flat tensors (an hour takes 37 MB, with its waveform 151 MB), so
that drawing a batch costs nothing beside a training step. Everything random is drawn from a
generator that the caller seeds by the step number: a resumed run sees the same batches.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from vc.config import DataConfig, FeatureConfig
from vc.corpus import Split, check_features, feature_file, read_manifest
from vc.errors import DataError
from vc.pitch import interpolate_log_f0

_FARTHEST_SHIFT = 1.2  # of log-F0 in a swap: 21 semitones


class Segments(NamedTuple):
    """A batch of equally long pieces of speech."""

    log_mel: Tensor  # (batch, n_mels, frames)
    log_f0: Tensor  # (batch, frames), natural log of Hz, interpolated
    voiced: Tensor  # (batch, frames), 1.0 where voiced
    clips: Tensor  # (batch,), index of the utterance each was cut from

    def to(self, device: torch.device) -> Segments:
        """The same on another device."""
        return Segments(*(x.to(device) for x in self))

    def median_log_f0(self) -> Tensor:
        """Median log-F0 of the voiced frames of each segment, `(batch,)`."""
        masked = self.log_f0.masked_fill(self.voiced == 0, float("nan"))
        median = masked.nanmedian(dim=-1).values
        return torch.where(median.isnan(), self.log_f0.mean(-1), median)

    def log_f0_about(self, median: Tensor) -> Tensor:
        """The tracks `(batch, frames)` moved to other medians `(batch,)`, but not absurdly far."""
        shift = median - self.median_log_f0()
        return self.log_f0 + shift.clamp(-_FARTHEST_SHIFT, _FARTHEST_SHIFT)[:, None]


def _features(file: Path) -> dict[str, Tensor]:
    try:
        stored = load_file(file)
        if {"waveform", "log_mel", "f0"} <= stored.keys():
            return stored
    except (OSError, SafetensorError) as error:
        raise DataError(f"{file}: missing or damaged; run `vc prepare` again") from error
    raise DataError(f"{file}: not features of a clip; run `vc prepare` again")


class SpeechData:
    """All utterances of one split of a prepared cache.

    Args:
        cache: folder that `vc prepare` wrote.
        split: "train", "validation" or "noise".
        features: configuration; must be the cache's own.
        config: batch sizes and corpus weights.
        waveforms: also keep samples (vocoders and rooms need them).

    Raises:
        DataError: the cache has no such clips, is damaged, or holds other features.
    """

    def __init__(
        self,
        cache: Path,
        split: Split,
        features: FeatureConfig,
        config: DataConfig,
        waveforms: bool = False,
    ) -> None:
        check_features(cache, features)
        self.features = features
        self.config = config
        rows = read_manifest(cache)
        self.utterances = [
            u
            for u in rows
            if u.split == split and (u.seconds >= config.min_clip_s or split == "noise")
        ]
        if not any(u.split == split for u in rows):
            raise DataError(
                f"{cache}: no {split} clips at all; prepare a corpus of two or more speakers, "
                "one to validate with, or learn the voice of one by `vc adapt`"
            )
        if not self.utterances:
            raise DataError(
                f"{cache}: no {split} clips of at least {config.min_clip_s:g} s; "
                "lower data.min_clip_s or data.segment_frames"
            )
        mels, log_f0s, voiced, samples = [], [], [], []
        for utterance in tqdm(self.utterances, f"loading {split}", unit="clip", leave=False):
            stored = _features(feature_file(cache, utterance.name))
            f0 = stored["f0"].numpy()
            mels.append(stored["log_mel"])
            log_f0s.append(torch.from_numpy(interpolate_log_f0(f0)))
            voiced.append(torch.from_numpy(f0 > 0))
            if waveforms:
                samples.append(stored["waveform"])
        self.frames = np.array([len(mel) for mel in mels])
        self.starts = np.concatenate([[0], np.cumsum(self.frames)[:-1]])
        self.log_mel = torch.cat(mels)  # (all frames, n_mels), half precision
        self.log_f0 = torch.cat(log_f0s)
        self.voiced = torch.cat(voiced)
        self.waveform = torch.cat(samples) if waveforms else None
        lengths = np.array([len(s) for s in samples]) if waveforms else np.zeros(0, int)
        self.sample_starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        self.speakers = sorted({u.speaker for u in self.utterances})
        index = {speaker: i for i, speaker in enumerate(self.speakers)}
        self.speaker_of = np.array([index[u.speaker] for u in self.utterances])
        self.clips_of = [np.flatnonzero(self.speaker_of == i) for i in range(len(self.speakers))]
        self._cumulative = np.cumsum(self._clip_weights())

    @property
    def hours(self) -> float:
        """Hours of speech held."""
        return float(self.frames.sum() / self.features.frame_rate / 3600)

    def mel_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each mel band over some of the frames, `(n_mels,)`."""
        mels = self.log_mel[:: max(1, len(self.log_mel) // 200_000)].float()
        return mels.mean(0), mels.std(0)

    def _clip_weights(self) -> np.ndarray:
        """A speaker counts as the square root of its length; its clips share that by length."""
        speaker_frames = np.bincount(self.speaker_of, self.frames)
        corpus = [self.config.corpus_weights.get(u.corpus, 1.0) for u in self.utterances]
        weights = self.frames / np.sqrt(speaker_frames[self.speaker_of]) * np.array(corpus)
        return weights / weights.sum()

    def draw_clips(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """Indices of `count` random utterances, speakers balanced."""
        picks = np.searchsorted(self._cumulative, generator.random(count))
        return np.minimum(picks, len(self.utterances) - 1)

    def first_clips(self, count: int) -> np.ndarray:
        """Indices of at most `count` utterances, always the same: of each speaker in turn."""
        turns = np.concatenate([np.arange(len(clips)) for clips in self.clips_of])
        return np.concatenate(self.clips_of)[np.argsort(turns, kind="stable")][:count]

    def other_speakers(self, clips: np.ndarray) -> np.ndarray:
        """For each of `clips` the place, among them, of the last one before it by somebody else.

        Before the first comes the last. If one speaker said all, it is the one before.
        """
        speakers, places = self.speaker_of[clips], np.arange(len(clips))
        before = (places[:, None] - 1 - places) % len(clips)  # (clips, clips), the nearest first
        is_other = speakers[before] != speakers[:, None]
        return before[places, is_other.argmax(axis=1)]

    def draw_partner(self, generator: np.random.Generator, clip: int) -> int:
        """Another clip of the same speaker, or the clip itself if it is the only one."""
        others = self.clips_of[self.speaker_of[clip]]
        others = others[others != clip]
        return int(generator.choice(others)) if len(others) else clip

    def cut(self, generator: np.random.Generator, clips: np.ndarray, frames: int) -> Segments:
        """Random segments of `frames` frames; a shorter clip is repeated until it fills them."""
        places = _places(generator, self.frames[clips], frames)
        return self._segments(clips, self.starts[clips, None] + places)

    def cut_with_waveform(
        self, generator: np.random.Generator, clips: np.ndarray, frames: int
    ) -> tuple[Segments, Tensor]:
        """As `cut`, with the samples that the frames begin at, `(batch, frames * hop_length)`."""
        assert self.waveform is not None
        hop = self.features.hop_length
        # of frames that have a whole hop
        places = _places(generator, self.frames[clips] - 1, frames)
        segments = self._segments(clips, self.starts[clips, None] + places)
        begins = torch.from_numpy(self.sample_starts[clips, None] + places * hop)  # (B, T)
        waveform = self.waveform[(begins[..., None] + torch.arange(hop)).flatten(1)]
        return segments, waveform.float() / 32767

    def _segments(self, clips: np.ndarray, places: np.ndarray) -> Segments:
        """The frames, of all that are held, at `places` `(batch, frames)`."""
        index = torch.from_numpy(places)
        return Segments(
            self.log_mel[index].float().transpose(1, 2),  # (B, T, M) -> (B, M, T)
            self.log_f0[index],
            self.voiced[index].float(),
            torch.from_numpy(np.asarray(clips)),
        )

    def whole(self, clip: int) -> Segments:
        """One utterance from beginning to end, as a batch of one."""
        part = slice(self.starts[clip], self.starts[clip] + self.frames[clip])
        return Segments(
            self.log_mel[part].float().T[None],
            self.log_f0[part][None],
            self.voiced[part].float()[None],
            torch.tensor([clip]),
        )


def _places(generator: np.random.Generator, lengths: np.ndarray, frames: int) -> np.ndarray:
    """`(clips, frames)`: which frames of clips of `lengths` random segments are made of."""
    first = generator.integers(np.maximum(1, lengths - frames + 1))
    return (first[:, None] + np.arange(frames)) % lengths[:, None]


def load_noise(cache: Path, features: FeatureConfig, config: DataConfig) -> SpeechData | None:
    """The noise recordings of a prepared cache; None if it has none.

    Raises:
        DataError: it has some, but they are damaged.
    """
    if not any(u.split == "noise" for u in read_manifest(cache)):
        return None
    return SpeechData(cache, "noise", features, config)


def cut_noise(
    noise: SpeechData | None, generator: np.random.Generator, like: Tensor
) -> Tensor | None:
    """Pieces of random noise recordings, as many and as long as the mels `like`; None without."""
    if noise is None:
        return None
    clips = noise.draw_clips(generator, len(like))
    return noise.cut(generator, clips, like.shape[-1]).log_mel.to(like.device)
