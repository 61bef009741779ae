"""New voices that belong to nobody, drawn from how the voices of many speakers are distributed.

A Gaussian over speaker embeddings and pitch ranges together, along their principal components: the
probabilistic principal component analysis of Tipping & Bishop (1999), to which a variational
autoencoder with linear networks converges (Lucas et al. 2019, arXiv:1911.02469). It is fitted to
the speakers that the model was trained on; no speaker's own point is kept. Beside it lie details
(see `vc.model.details`) for voices that have none of their own: one frame each of many speakers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vc.config import AutoencoderConfig
from vc.errors import CheckpointError, VoiceError
from vc.model.speaker_encoder import with_unit_identity
from vc.pitch import PitchRange
from vc.safe_write import write_bytes
from vc.voice import Voice

PRIOR_FILE = "voices.safetensors"
SPREAD = 1.15  # of draws beside that of speakers: what is decoded differs less than its embeddings
LIKENESS = 0.8  # correlation of a voice's coordinates with those of the voice it is to be like

FloatArray = npt.NDArray[np.float32]
_HALF = ("components", "details")  # what is kept in half precision, as weights are


@dataclass(frozen=True)
class VoicePrior:
    """A voice as a vector is its speaker embedding, then median and spread of its log-F0."""

    mean: FloatArray  # (embedding_dim + 2,)
    scale: FloatArray  # (embedding_dim + 2,), standard deviations
    components: FloatArray  # (dims, embedding_dim + 2), orthonormal
    deviation: FloatArray  # (dims,), along the components, of standardised vectors
    details: FloatArray  # (kept, n_mels), voiced frames of as many speakers

    def coordinates(self, voice: Voice) -> FloatArray:
        """Where a voice lies, `(dims,)`; a speaker of the training part has unit variance there."""
        vector = voice_vector(voice)
        if vector is None:
            raise VoiceError("no voiced speech was found to make a new voice like this one")
        place = self.components @ ((vector - self.mean) / self.scale) / self.deviation
        return place.astype(np.float32)

    def voice(self, coordinates: FloatArray, config: AutoencoderConfig, name: str = "") -> Voice:
        """The voice that lies there."""
        vector = self.mean + self.scale * ((self.deviation * coordinates) @ self.components)
        embedding = torch.from_numpy(vector[:-2].astype(np.float32))
        embedding = with_unit_identity(embedding, config)
        return Voice(embedding, PitchRange(float(vector[-2]), max(0.0, float(vector[-1]))), name)

    def sample(
        self, seed: int, config: AutoencoderConfig, like: Voice | None = None, name: str = ""
    ) -> Voice:
        """A new voice; the same for the same seed.

        Args:
            seed: not negative.
            config: of the autoencoder that the prior belongs to.
            like: a voice that the new one shall resemble.
            name: of the new voice.

        Raises:
            VoiceError: a negative seed, or nothing voiced in `like`.
        """
        if seed < 0:
            raise VoiceError(f"seed {seed}: must not be negative")
        drawn = np.random.default_rng(seed).standard_normal(len(self.deviation)).astype(np.float32)
        drawn *= SPREAD
        if like is not None:
            drawn = LIKENESS * self.coordinates(like) + (1 - LIKENESS**2) ** 0.5 * drawn
        return self.voice(drawn, config, name)


def voice_vector(voice: Voice) -> FloatArray | None:
    """Speaker embedding and pitch range in one `(embedding_dim + 2,)`; None without a pitch."""
    if voice.pitch is None:
        return None
    return np.concatenate([voice.speaker_embedding.numpy(), voice.pitch]).astype(np.float32)


def fit_prior(vectors: FloatArray, dims: int, details: FloatArray) -> VoicePrior:
    """Fit to `(voices, embedding_dim + 2)`, one vector a speaker, keeping `dims` components.

    `details`, voiced frames of log-mels `(kept, n_mels)`, are kept as they are.
    """
    mean, scale = vectors.mean(axis=0), vectors.std(axis=0) + 1e-6
    _, singular, components = np.linalg.svd((vectors - mean) / scale, full_matrices=False)
    deviation = singular[:dims] / len(vectors) ** 0.5
    return VoicePrior(mean, scale, components[:dims], deviation, details)


def save_prior(path: Path, prior: VoicePrior, model_sha256: str) -> None:
    """Write a prior beside the model it belongs to, whole or not at all."""
    tensors = {
        name: np.ascontiguousarray(value, np.float16 if name in _HALF else np.float32)
        for name, value in vars(prior).items()
    }
    write_bytes(path, save(tensors, {"model": model_sha256}))


def load_prior(path: Path, model_sha256: str) -> VoicePrior:
    """Read the prior of a model.

    Raises:
        CheckpointError: missing, damaged or of another model.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: this model cannot make new voices; the file is missing")
    try:
        with safe_open(path, "np") as file:
            model = (file.metadata() or {}).get("model")
            tensors = {
                name: file.get_tensor(name).astype(np.float32)
                for name in file.keys()  # noqa: SIM118
            }
        prior = VoicePrior(**tensors)
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged; copy the model again") from error
    dims, size = prior.components.shape if prior.components.ndim == 2 else (0, 0)
    shapes = [(size,), (size,), (dims, size), (dims,), prior.details.shape]
    found = [value.shape for value in vars(prior).values()]
    if size <= 2 or prior.details.ndim != 2 or found != shapes:
        raise CheckpointError(f"{path}: damaged; copy the model again")
    if model != model_sha256:
        raise CheckpointError(f"{path}: belongs to another model; fit it again to this one")
    return prior
