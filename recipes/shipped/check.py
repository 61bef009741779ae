"""What normal speech looks like to the shipped model: run it whenever the autoencoder has changed.

Clips of training speakers (a few a speaker, so that each counts alike) are looked at by the
autoencoder; `vc check` measures strangeness from what is fitted here. See `vc/anomaly.py`.

    python recipes/shipped/check.py CACHE

It needs `voices.safetensors` (`known_voices.py`) and ends with how uniform the p-values of the
cache's validation speakers are.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from safetensors import safe_open
from tqdm import tqdm

import vc
from vc.anomaly import NORMALITY_FILE, Example, fit_normality, save_normality
from vc.audio import Waveform, resample
from vc.config import SHIPPED
from vc.convert import Converter
from vc.corpus import Utterance, feature_file, read_manifest
from vc.sight import Sight, look
from vc.voice_prior import PRIOR_FILE, VoicePrior, load_prior

CLIPS, FROM_LARGE_CORPORA = 2, 40  # a speaker; and of a speaker with more than 200 clips
SHORTEST_S = 1.5
SPEEDS = (0.55, 1.8)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED)
    parser.add_argument("--clips", type=int, default=1500, help="of real speech, at most")
    parser.add_argument("--altered", type=int, default=400, help="clips played at other speeds")
    options = parser.parse_args()
    converter = vc.load(options.checkpoint, vocoder="griffin-lim")
    prior = load_prior(options.checkpoint / PRIOR_FILE, converter.model_sha256)
    generator = np.random.default_rng(0)
    utterances = [u for u in read_manifest(options.cache) if u.seconds >= SHORTEST_S]
    chosen = choose([u for u in utterances if u.split == "train"], generator)[: options.clips]
    real, altered = [], []
    for number, utterance in enumerate(tqdm(chosen, "looking", mininterval=5)):
        waveform = read(options.cache, utterance)
        sight = see(converter, prior, waveform)
        if sight is None:
            continue
        real.append(Example(sight, utterance.speaker))
        if number < options.altered:
            log_speed = generator.uniform(*np.log(SPEEDS))
            rate = converter.features.sample_rate
            played = resample(waveform, round(rate * np.exp(log_speed)), rate)
            sight = see(converter, prior, played)
            if sight is not None:
                altered.append(Example(sight, utterance.speaker, log_speed))
    normality = fit_normality(real, altered)
    save_normality(options.checkpoint / NORMALITY_FILE, normality, converter.model_sha256)
    held_out = [u for u in utterances if u.split == "validation"]
    seen = [
        see(converter, prior, read(options.cache, u))
        for u in tqdm(held_out, "held out", mininterval=5)
    ]
    p = np.array([normality.judge(sight).p for sight in seen if sight is not None])
    print(f"{len(real)} clips; held out: {len(p)} clips")
    for limit in (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75):
        print(f"  p below {limit:4}: {np.mean(p < limit):.3f} of them")


def choose(utterances: list[Utterance], generator: np.random.Generator) -> list[Utterance]:
    """A few clips a speaker, shuffled."""
    clips = defaultdict(list)
    for utterance in sorted(utterances, key=lambda u: u.name):
        clips[utterance.speaker].append(utterance)
    chosen: list[Utterance] = []
    for own in clips.values():
        count = min(len(own), FROM_LARGE_CORPORA if len(own) > 200 else CLIPS)
        chosen += [own[i] for i in generator.choice(len(own), count, replace=False)]
    return [chosen[i] for i in generator.permutation(len(chosen))]


def read(cache: Path, utterance: Utterance) -> Waveform:
    """The samples of a prepared clip, `(samples,)`."""
    with safe_open(feature_file(cache, utterance.name), "np") as stored:
        waveform: Waveform = stored.get_tensor("waveform").astype(np.float32) / 32767
    return waveform


def see(converter: Converter, prior: VoicePrior, waveform: Waveform) -> Sight | None:
    """Look at a clip; None if too little of it is not silence."""
    return look(converter.autoencoder, converter.log_mel, prior, waveform)


if __name__ == "__main__":
    main()
