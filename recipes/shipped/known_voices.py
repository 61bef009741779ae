"""Write the demo's map of known voices: run it again whenever the shipped weights change.

Speakers of the training part of a prepared cache are embedded by the shipped autoencoder; only the
plane of their two main directions and one nameless point each are kept.

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
    identities = []
    for speaker in tqdm(speakers, "listening"):
        embeddings = []
        for name in clips[speaker][:CLIPS]:
            with safe_open(feature_file(arguments.cache, name), "pt") as stored:
                log_mel = stored.get_tensor("log_mel").float().T[None]
            with torch.inference_mode():
                embeddings.append(model.encode_speaker(log_mel)[0])
        voice = average_embeddings(
            torch.stack(embeddings), torch.ones(len(embeddings)), model.config
        )
        identities.append(split_embedding(voice[None], model.config).identity[0].numpy())
    known = np.stack(identities)  # (speakers, speaker_dim)
    mean = known.mean(axis=0)
    components = np.linalg.svd(known - mean, full_matrices=False)[2][:2]
    points = (known - mean) @ components.T
    points = np.random.default_rng(0).permutation(points)  # the order tells nothing either
    tensors = {"mean": mean, "components": components, "points": points}
    tensors = {name: np.ascontiguousarray(v, dtype=np.float32) for name, v in tensors.items()}
    save_file(tensors, arguments.output, {"model": weights_sha256(model)})
    print(f"{arguments.output}: {len(points)} voices")


if __name__ == "__main__":
    main()
