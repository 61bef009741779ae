"""What is known of the training speakers' voices: run it whenever the shipped autoencoder changes.

Speakers of the training part of a prepared cache are embedded by the autoencoder. Two files are
written: the Gaussian that new voices are drawn from, with details for them (see
`vc/voice_prior.py`), and the plane of the demo's map (from low to high voices, and the widest
spread across it) with one nameless point each of a few speakers. Of another `--checkpoint` than
the shipped one, the map is written only where `--map` says.

    python recipes/shipped/known_voices.py CACHE
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save
from tqdm import tqdm

import vc
from vc.config import SHIPPED
from vc.convert import Converter
from vc.corpus import feature_file, read_manifest
from vc.model.details import MAX_FRAMES, voiced_frames
from vc.model.speaker_encoder import average_embeddings
from vc.pitch import pitch_range
from vc.safe_write import write_bytes
from vc.voice import Voice
from vc.voice_prior import PRIOR_FILE, fit_prior, save_prior, voice_vector

SPEAKERS_ON_MAP, CLIPS = 200, 3
PRIOR_DIMS = 160
MAP = Path(__file__).parents[2] / "demo" / "known_voices.safetensors"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED)
    parser.add_argument("--map", type=Path, help="to write; of the shipped model the demo's own")
    arguments = parser.parse_args()
    place = arguments.map
    if place is None and arguments.checkpoint.resolve() == SHIPPED.resolve():
        place = MAP
    converter = vc.load(arguments.checkpoint)
    vectors, frames = listen(arguments.cache, converter)
    prior = fit_prior(vectors, PRIOR_DIMS, frames[:MAX_FRAMES])
    save_prior(arguments.checkpoint / PRIOR_FILE, prior, converter.model_sha256)
    share = float(np.sum(prior.deviation**2) / vectors.shape[1])
    print(f"{PRIOR_FILE}: {len(vectors)} voices, {share:.0%} of their variance")
    if place is not None:
        write_map(place, vectors, converter)


def listen(cache: Path, converter: Converter) -> tuple[np.ndarray, np.ndarray]:
    """The training speakers, in an order that tells nothing.

    Returns:
        Their voices, `(speakers, embedding_dim + 2)`, and a random voiced frame of each,
        `(speakers, n_mels)`.
    """
    generator = np.random.default_rng(0)
    model = converter.autoencoder
    clips = defaultdict(list)
    for utterance in read_manifest(cache):
        if utterance.split == "train" and 2 <= utterance.seconds <= 15:
            clips[utterance.speaker].append(utterance.name)
    vectors, frames = [], []
    for speaker in tqdm(sorted(clips), "listening"):
        embeddings, f0 = [], []
        for name in clips[speaker][:CLIPS]:
            with safe_open(feature_file(cache, name), "pt") as stored:
                log_mel = stored.get_tensor("log_mel").float().T[None]
                f0.append(stored.get_tensor("f0").numpy())
            with torch.inference_mode():
                embeddings.append(model.encode_speaker(log_mel)[0])
        weights = torch.ones(len(embeddings))
        embedding = average_embeddings(torch.stack(embeddings), weights, model.config)
        vector = voice_vector(Voice(embedding, pitch_range(np.concatenate(f0))))
        if vector is not None:
            vectors.append(vector)
            spoken = voiced_frames(log_mel[0], torch.from_numpy(f0[-1])).numpy()
            frames += [generator.choice(spoken)] if len(spoken) else []
    order = np.random.default_rng(0)
    return order.permutation(np.stack(vectors)), order.permutation(np.stack(frames))


def write_map(path: Path, vectors: np.ndarray, converter: Converter) -> None:
    """The demo's map, from the learnt part of the embeddings."""
    vectors = vectors[:SPEAKERS_ON_MAP]
    known = vectors[:, : converter.autoencoder.config.speaker_dim]
    mean = known.mean(axis=0)
    components = plane(known - mean, vectors[:, -2])
    tensors = {"mean": mean, "components": components, "points": (known - mean) @ components.T}
    tensors = {name: np.ascontiguousarray(v, dtype=np.float32) for name, v in tensors.items()}
    write_bytes(path, save(tensors, {"model": converter.model_sha256}))
    print(f"{path}: {len(known)} voices")


def plane(centred: np.ndarray, log_f0: np.ndarray) -> np.ndarray:
    """Two orthonormal directions `(2, speaker_dim)` through `(speakers, speaker_dim)`."""
    # ridge regression: there are hardly more speakers than dimensions
    covariance = centred.T @ centred / len(centred)
    ridge = 0.1 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    higher = np.linalg.solve(
        covariance + ridge, centred.T @ (log_f0 - log_f0.mean()) / len(centred)
    )
    higher /= np.linalg.norm(higher)
    rest = centred - np.outer(centred @ higher, higher)
    across = np.linalg.svd(rest, full_matrices=False)[2][0]
    return np.stack([higher, across])


if __name__ == "__main__":
    main()
