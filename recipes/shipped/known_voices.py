"""Write the demo's map of known voices: run it again whenever the shipped weights change.

Speakers of the training part of a prepared cache are embedded by the shipped autoencoder; only the
plane of two directions (from low to high voices, and the widest spread across it) and one nameless
point each are kept.

    python recipes/shipped/known_voices.py CACHE
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

import vc
from vc.checkpoint import weights_sha256
from vc.corpus import feature_file, read_manifest
from vc.model.speaker_encoder import average_embeddings, split_embedding
from vc.pitch import pitch_range

SPEAKERS, CLIPS = 200, 3
OUTPUT = Path(__file__).parents[2] / "demo" / "known_voices.safetensors"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("--checkpoint", type=Path, help="the shipped one by default")
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    model = vc.load(arguments.checkpoint).autoencoder
    clips = defaultdict(list)
    for utterance in read_manifest(arguments.cache):
        if utterance.split == "train" and 2 <= utterance.seconds <= 15:
            clips[utterance.speaker].append(utterance.name)
    speakers = random.Random(0).sample(sorted(clips), min(SPEAKERS, len(clips)))
    identities, medians = [], []
    for speaker in tqdm(speakers, "listening"):
        embeddings, f0 = [], []
        for name in clips[speaker][:CLIPS]:
            with safe_open(feature_file(arguments.cache, name), "pt") as stored:
                log_mel = stored.get_tensor("log_mel").float().T[None]
                f0.append(stored.get_tensor("f0").numpy())
            with torch.inference_mode():
                embeddings.append(model.encode_speaker(log_mel)[0])
        voice = average_embeddings(
            torch.stack(embeddings), torch.ones(len(embeddings)), model.config
        )
        found = pitch_range(np.concatenate(f0))
        if found is None:
            continue
        medians.append(found.median)
        identities.append(split_embedding(voice[None], model.config).identity[0].numpy())
    known = np.stack(identities)  # (speakers, speaker_dim)
    mean = known.mean(axis=0)
    components = plane(known - mean, np.array(medians))
    points = (known - mean) @ components.T
    points = np.random.default_rng(0).permutation(points)  # the order tells nothing either
    tensors = {"mean": mean, "components": components, "points": points}
    tensors = {name: np.ascontiguousarray(v, dtype=np.float32) for name, v in tensors.items()}
    save_file(tensors, arguments.output, {"model": weights_sha256(model)})
    print(f"{arguments.output}: {len(points)} voices")


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
