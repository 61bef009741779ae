"""What is usual in the content encoder's instance norms: run it whenever the autoencoder changes.

Averages, over clips of the training part of a prepared cache, what each norm takes from a clip; a
stream begins with these (see `vc/streaming/statistics.py`).

    python recipes/shipped/stream_statistics.py CACHE
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from tqdm import tqdm

import vc
from vc.config import SHIPPED
from vc.corpus import feature_file, read_manifest
from vc.model.layers import Statistics
from vc.streaming.statistics import USUAL_FILE, clip_statistics, save_usual

CLIPS = 400


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED)
    arguments = parser.parse_args()
    converter = vc.load(arguments.checkpoint)
    names = [
        utterance.name
        for utterance in read_manifest(arguments.cache)
        if utterance.split == "train" and utterance.seconds >= 4
    ]
    chosen = np.random.default_rng(0).choice(len(names), min(CLIPS, len(names)), replace=False)
    found = []
    for number in tqdm(chosen, "listening"):
        with safe_open(feature_file(arguments.cache, names[number]), "pt") as stored:
            log_mel = stored.get_tensor("log_mel").float().T[None]
        with torch.inference_mode():
            found.append(clip_statistics(converter.autoencoder, log_mel))
    usual = [
        Statistics(
            torch.stack([s.mean for s in of_layer]).mean(dim=0),
            torch.stack([s.variance for s in of_layer]).mean(dim=0),
        )
        for of_layer in zip(*found, strict=True)
    ]
    save_usual(arguments.checkpoint / USUAL_FILE, usual, converter.model_sha256)
    print(f"{USUAL_FILE}: {len(usual)} norms over {len(found)} clips")


if __name__ == "__main__":
    main()
