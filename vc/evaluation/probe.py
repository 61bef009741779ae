"""How well can the speaker be read from each latent? Freshly trained linear probes tell."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from vc.config import DataConfig
from vc.convert import load
from vc.errors import DataError
from vc.model.speaker_encoder import split_embedding
from vc.training.data import SpeechData

_PROBE_STEPS = 400


class ProbeResult(NamedTuple):
    """Share of held-out clips whose speaker a probe names, by what it was shown."""

    accuracy: dict[str, float]
    chance: float
    speakers: int
    clips: int


@torch.inference_mode()
def probe_speakers(
    cache: Path, checkpoint: Path | None, speakers: int = 100, clips_each: int = 8
) -> ProbeResult:
    """Train linear probes for the speaker on half of the clips of some, test on the other half.

    Content is shown in two ways: pooled to its mean over the clip, as is usual (instance
    normalisation makes that nearly nothing), and by its covariance over the clip, which is the
    most that a linear probe of pooled content could use.

    Args:
        cache: prepared corpus.
        checkpoint: model; the shipped one if None.
        speakers: how many; those with most clips.
        clips_each: of each speaker.

    Raises:
        DataError: too few speakers have that many clips.
    """
    converter = load(checkpoint)
    model = converter.autoencoder
    data = SpeechData(cache, "train", converter.features, DataConfig())
    chosen = [clips for clips in data.clips_of if len(clips) >= clips_each][:speakers]
    if len(chosen) < 2:
        raise DataError(f"{cache}: too few speakers have {clips_each} clips for a probe")
    generator = np.random.default_rng(0)
    shown: dict[str, list[Tensor]] = {}
    for clips in tqdm(chosen, "encoding", unit="speaker"):
        for clip in generator.permutation(clips)[:clips_each]:
            latent = model.encode(data.whole(int(clip)).log_mel)
            content = latent.content[0]
            embedding = split_embedding(latent.speaker_embedding, model.config)
            rows = {
                "content, mean": content.mean(-1),
                "content, covariance": torch.cov(content).flatten(),
                "speaker, learnt part": embedding.identity[0],
                "speaker, whole": latent.speaker_embedding[0],
            }
            for name, row in rows.items():
                shown.setdefault(name, []).append(row)
    labels = torch.arange(len(chosen)).repeat_interleave(clips_each)
    training = torch.arange(len(labels)) % clips_each < clips_each // 2
    accuracy = {
        name: _linear_probe(torch.stack(rows), labels, training) for name, rows in shown.items()
    }
    return ProbeResult(accuracy, 1 / len(chosen), len(chosen), len(labels))


def _linear_probe(inputs: Tensor, labels: Tensor, training: Tensor) -> float:
    """Accuracy on the clips not in `training` of softmax regression on standardised inputs."""
    inputs = (inputs - inputs[training].mean(0)) / inputs[training].std(0).clamp(min=1e-6)
    with torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(0)
        inputs = inputs.clone()
        probe = nn.Linear(inputs.shape[1], int(labels.max()) + 1)
        optimizer = torch.optim.AdamW(probe.parameters(), lr=0.01, weight_decay=0.1)
        for _ in range(_PROBE_STEPS):
            optimizer.zero_grad()
            functional.cross_entropy(probe(inputs[training]), labels[training]).backward()
            optimizer.step()
        guesses = probe(inputs[~training]).argmax(-1)
    return float((guesses == labels[~training]).float().mean())
