"""What the denoiser gains over the noisy clip, and over Wiener filtering, at several noise levels.

    python benchmarks/denoise.py CORPORA/test_pairs.tsv --noise CORPORA/noise/ambient

Clean sources of a table of pairs, noise mixed in; PESQ and STOI against the clean clip, DNSMOS
without. Needs the `eval` extra. The noise must not be what the denoiser was trained on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import librosa
import numpy as np
from tqdm import tqdm

from vc.audio import Audio, Waveform, find_audio, normalize_level
from vc.convert import load
from vc.evaluation.bootstrap import summarize_values
from vc.evaluation.judges import (
    JUDGE_RATE,
    naturalness,
    perceptual_quality,
    short_time_intelligibility,
)
from vc.evaluation.score import load_clip, read_pairs

LONGEST_S = 6.0
LEVELS_DB = (0.0, 5.0, 10.0)
MEASURES = ("PESQ-WB", "STOI", "P.808", "OVRL")


def wiener(noisy: Waveform) -> Waveform:
    """Wiener filtering; each bin's noise power is the mean of its quietest tenth of frames."""
    spectrum = librosa.stft(noisy, n_fft=512, hop_length=128)
    power = np.abs(spectrum) ** 2
    quiet = np.sort(power, axis=1)[:, : max(1, power.shape[1] // 10)]
    # the quietest tenth of an exponential distribution has 0.05 of its mean
    noise = quiet.mean(axis=1, keepdims=True) / 0.0518
    gain = np.maximum(1 - noise / np.maximum(power, 1e-12), 0.1)
    return librosa.istft(spectrum * gain, hop_length=128, length=len(noisy))


def mix(clean: Waveform, noise: Waveform, snr_db: float) -> Waveform:
    """Add noise at a ratio of mean powers."""
    gain = np.sqrt(np.mean(clean**2) / np.mean(noise**2) / 10 ** (snr_db / 10))
    return (clean + gain * noise).astype(np.float32)


def judge(clip: Waveform, clean: Waveform) -> tuple[float, ...]:
    """The measures of one clip."""
    opinion = naturalness(clip)
    quality = perceptual_quality(clean, clip), short_time_intelligibility(clean, clip)
    return *quality, opinion.p808, opinion.overall


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--noise", type=Path, required=True, help="folder of noise recordings")
    parser.add_argument("--set", default="read-english", help="of the table, whose sources")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--checkpoint", type=Path)
    options = parser.parse_args()
    converter = load(options.checkpoint)
    pairs = read_pairs(options.pairs, options.pairs.parent)
    sources = sorted({pair.source for pair in pairs if pair.group == options.set})[: options.clips]
    recordings = [load_clip(path) for path in find_audio(options.noise)]
    generator = np.random.default_rng(0)
    scores: dict[tuple[float, str], list[tuple[float, ...]]] = {}
    for number, source in enumerate(tqdm(sources)):
        clean = load_clip(source)[: round(LONGEST_S * JUDGE_RATE)]
        clean = normalize_level(clean, JUDGE_RATE, -26.0)
        noise = recordings[number % len(recordings)]
        noise = np.resize(noise[generator.integers(len(noise) // 2) :], len(clean))
        for snr_db in LEVELS_DB:
            noisy = mix(clean, noise, snr_db)
            systems = {
                "noisy": noisy,
                "Wiener": wiener(noisy),
                "ours": converter.denoise(Audio(noisy, JUDGE_RATE)).waveform,
            }
            for system, clip in systems.items():
                scores.setdefault((snr_db, system), []).append(judge(clip, clean))
    print(f"{len(sources)} clips; mean (95 % interval)")
    print(f"{'dB':>4} {'':8}" + "".join(f"{measure:>22}" for measure in MEASURES))
    for (snr_db, system), rows in scores.items():
        cells = ""
        for column in np.array(rows).T:
            figure = summarize_values(column)
            assert figure is not None
            cells += f"{figure.mean:>8.2f} ({figure.low:.2f}-{figure.high:.2f})"
        print(f"{snr_db:>4.0f} {system:8}{cells}")


if __name__ == "__main__":
    main()
