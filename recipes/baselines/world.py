"""Convert a table of pairs by signal processing alone: the WORLD baseline, without any training.

WORLD (Morise, Yokomori & Ozawa 2016) takes speech apart into F0, spectral envelope and
aperiodicity. F0 is shifted so that its median is the reference's. The envelope is warped along
frequency by one factor, as if the vocal tract had another length (the factor that brings the mean
log envelopes of the two speakers closest together), and then gets the smooth part of the
reference's mean log envelope. Aperiodicity stays the source's. All means are over voiced frames.

    python recipes/baselines/world.py PAIRS --root CORPORA -o clips
    vc evaluate PAIRS --root CORPORA --converted clips --name WORLD -o scores
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyworld
from scipy.fft import dct, idct
from tqdm import tqdm

from vc.audio import Audio, Waveform, fit_length, normalize_level, write_audio
from vc.convert import COMMENT
from vc.evaluation.judges import JUDGE_RATE
from vc.evaluation.score import Pair, load_clip, read_pairs
from vc.pitch import match_range, pitch_range

FloatArray = npt.NDArray[np.float64]

F0_FLOOR, F0_CEILING = 60.0, 600.0  # Hz
LEVEL_DB = -26.0  # dBFS of active speech
WARPS = np.linspace(0.75, 1.33, 59)  # frequency factors that are tried
SMOOTH = 20  # cepstral coefficients of what is "smooth": about 400 Hz


class Speech(NamedTuple):
    """A clip as WORLD sees it, a row every 5 ms."""

    f0: FloatArray  # (frames,), Hz, 0 where unvoiced
    log_envelope: FloatArray  # (frames, bins), natural log of power
    aperiodicity: FloatArray  # (frames, bins), 0 to 1

    @property
    def mean_log_envelope(self) -> FloatArray:
        """Over voiced frames, or over all if there are none; `(bins,)`."""
        voiced = self.f0 > 0
        return self.log_envelope[voiced if voiced.any() else slice(None)].mean(axis=0)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path, help="TSV: set, source, reference")
    parser.add_argument("--root", type=Path, required=True, help="folder its paths start from")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of clips")
    parser.add_argument("--every", type=int, default=1, help="only each n-th pair")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    pairs = read_pairs(arguments.pairs, arguments.root)[:: arguments.every]
    targets = [arguments.output / f"{pair.name}.wav" for pair in pairs]
    jobs = [(p, t) for p, t in zip(pairs, targets, strict=True) if not t.exists()]
    with ProcessPoolExecutor(arguments.workers) as pool:
        list(tqdm(pool.map(convert_pair, jobs), "converting", total=len(jobs), unit="pair"))
    print(f"{arguments.output}: {len(pairs)} clips")


def convert_pair(job: tuple[Pair, Path]) -> None:
    """Convert one pair into a file."""
    pair, target = job
    references = np.concatenate([load_clip(path) for path in pair.references])
    converted = convert(load_clip(pair.source), references)
    write_audio(target, Audio(converted, JUDGE_RATE), COMMENT)


def convert(source: Waveform, reference: Waveform) -> Waveform:
    """`(samples,)` and `(samples,)`, both at 16 kHz -> `(samples,)`, as long as the source."""
    spoken, wanted = analyze(source), analyze(reference)
    f0 = match_range(
        spoken.f0.astype(np.float32),
        pitch_range(spoken.f0.astype(np.float32)),
        pitch_range(wanted.f0.astype(np.float32)),
    ).astype(np.float64)
    target = wanted.mean_log_envelope
    factor = best_warp(spoken.mean_log_envelope, target)
    log_envelope = warp(spoken.log_envelope, factor)
    change = smooth(target - warp(spoken.mean_log_envelope[None], factor)[0])
    envelope = np.exp(log_envelope + change)
    waveform = pyworld.synthesize(f0, envelope, spoken.aperiodicity, JUDGE_RATE)
    waveform = fit_length(waveform.astype(np.float32), len(source))
    return normalize_level(waveform, JUDGE_RATE, LEVEL_DB)


def analyze(waveform: Waveform) -> Speech:
    """Take `(samples,)` at 16 kHz apart."""
    samples = normalize_level(waveform, JUDGE_RATE, LEVEL_DB).astype(np.float64)
    f0, times = pyworld.harvest(samples, JUDGE_RATE, F0_FLOOR, F0_CEILING)
    envelope = pyworld.cheaptrick(samples, f0, times, JUDGE_RATE)
    aperiodicity = pyworld.d4c(samples, f0, times, JUDGE_RATE, threshold=0.85)
    f0 = np.where(aperiodicity.mean(axis=1) > 0.999, 0.0, f0)  # D4C's own voicing decision
    return Speech(f0, np.log(np.maximum(envelope, 1e-16)), aperiodicity)


def best_warp(source: FloatArray, target: FloatArray) -> float:
    """The factor after which two mean log envelopes `(bins,)` correlate best below 5 kHz."""
    heard = slice(0, round(len(source) * 5_000 / (JUDGE_RATE / 2)))
    wanted = smooth(target)[heard]
    fits = [np.corrcoef(smooth(warp(source[None], f)[0])[heard], wanted)[0, 1] for f in WARPS]
    return float(WARPS[int(np.argmax(fits))])


def warp(log_envelope: FloatArray, factor: float) -> FloatArray:
    """Move what is at frequency f of `(frames, bins)` to `factor * f`."""
    bins = np.arange(log_envelope.shape[1])
    return np.stack([np.interp(bins / factor, bins, row) for row in log_envelope])


def smooth(log_envelope: FloatArray) -> FloatArray:
    """Keep the slow part over frequency of `(bins,)`."""
    cepstrum = dct(log_envelope, norm="ortho")
    cepstrum[SMOOTH:] = 0
    return idct(cepstrum, norm="ortho")


if __name__ == "__main__":
    main()
