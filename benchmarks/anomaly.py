"""How well `vc check` tells what is not the speech that the model knows, beside a simple baseline.

    python benchmarks/anomaly.py CORPORA
    python benchmarks/anomaly.py CORPORA --music FOLDER    # recordings of music, too

Normal clips are the sources of the test pairs, whose speakers were never trained on. Anomalies are
made of these clips, or made up here: the music is synthesised (chords, strings, frequency
modulation, drums), since the corpora hold none. The baseline is a Gaussian over how much the level
varies and how flat the spectrum is, fitted to clips of training speakers. Columns: area under the
ROC curve of both; share of the clips that `vc check` says anything of, and that it names rightly.
Needs the `eval` extra.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import signal
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

import vc
from vc.audio import Audio, Waveform, find_audio, frame_levels_db, read_audio, resample
from vc.clip_check import STRANGE
from vc.convert import ClipReport
from vc.corpus import read_speakers
from vc.evaluation.score import read_pairs

RATE = 16_000
Maker = Callable[[np.random.Generator, float], Waveform]  # seconds -> a clip


def _unit(waveform: np.ndarray) -> Waveform:
    return (0.5 * waveform / max(np.abs(waveform).max(), 1e-9)).astype(np.float32)


def _notes(generator: np.random.Generator, seconds: float) -> list[tuple[float, float, float]]:
    """Start and length in seconds and F0 in Hz of the notes of a tune over chords of a key."""
    key = generator.uniform(55, 110)
    beat = generator.uniform(0.25, 0.6)
    scale = (0, 2, 4, 5, 7, 9, 11, 12) if generator.random() < 0.6 else (0, 2, 3, 5, 7, 8, 10, 12)
    notes = []
    for number, start in enumerate(np.arange(0, seconds, beat)):
        if number % 4 == 0:
            root = int(generator.choice((0, 3, 4, 5)))
            for step in (0, 2, 4):
                octave, degree = divmod(root + step, 7)
                pitch = key * 2 ** (octave + scale[degree] / 12 + 1)
                notes.append((float(start), 4 * beat, pitch))
        for _ in range(int(generator.integers(0, 3))):
            pitch = key * 2 ** (generator.integers(2, 4) + generator.choice(scale) / 12)
            offset = generator.choice((0, 0.5)) * beat
            notes.append((float(start + offset), beat * generator.choice((0.5, 1, 2)), pitch))
    return notes


def _play(
    notes: list[tuple[float, float, float]],
    seconds: float,
    instrument: Callable[[np.ndarray, float, float], np.ndarray],
) -> np.ndarray:
    """Sum of the notes, each played by `instrument(time, length, f0)`."""
    played = np.zeros(round(seconds * RATE))
    for start, length, f0 in notes:
        first = round(start * RATE)
        time = np.arange(min(len(played) - first, round(1.5 * length * RATE))) / RATE
        if len(time):
            played[first : first + len(time)] += instrument(time, length, f0)
    return played


def chords(generator: np.random.Generator, seconds: float) -> Waveform:
    """A tune and chords by harmonics that decay, the higher the faster: a kind of piano."""
    brightness, decay = generator.uniform(0.8, 2.0), generator.uniform(1, 4)

    def piano(time: np.ndarray, length: float, f0: float) -> np.ndarray:
        order = np.arange(1, 1 + min(20, int(7800 / f0)))[:, None]
        partials = np.sin(2 * np.pi * f0 * order * time) * order**-brightness
        partials *= np.exp(-decay * time * (0.7 + 0.3 * order))
        return partials.sum(axis=0) * np.minimum(time / 0.005, 1)

    return _unit(_play(_notes(generator, seconds), seconds, piano))


def strings(generator: np.random.Generator, seconds: float) -> Waveform:
    """Held notes with vibrato and many harmonics that swell and fade: bowed strings or an organ."""
    rate, depth = generator.uniform(4, 7), generator.uniform(0, 0.006)

    def bow(time: np.ndarray, length: float, f0: float) -> np.ndarray:
        order = np.arange(1, 1 + min(25, int(7500 / f0)))[:, None]
        phase = 2 * np.pi * f0 * (time + depth * np.sin(2 * np.pi * rate * time) / rate)
        swell = np.minimum(time / 0.08, 1) * np.clip((1.5 * length - time) / (0.5 * length), 0, 1)
        return (np.sin(order * phase) / order).sum(axis=0) * swell

    return _unit(_play(_notes(generator, seconds), seconds, bow))


def plucked(generator: np.random.Generator, seconds: float) -> Waveform:
    """Plucked strings (Karplus & Strong 1983)."""

    def pluck(time: np.ndarray, length: float, f0: float) -> np.ndarray:
        period = max(2, round(RATE / f0))
        burst = np.zeros(len(time))
        burst[:period] = generator.uniform(-1, 1, period)[: len(time)]
        feedback = np.zeros(period + 2)
        feedback[0], feedback[period], feedback[period + 1] = 1, -0.498, -0.498
        return signal.lfilter([1], feedback, burst)

    return _unit(_play(_notes(generator, seconds), seconds, pluck))


def fm(generator: np.random.Generator, seconds: float) -> Waveform:
    """Bells, brass and basses by frequency modulation (Chowning 1973)."""
    ratio = generator.choice((0.5, 1.0, 1.41, 2.0, 3.5))
    index, decay = generator.uniform(1, 5), generator.uniform(1, 5)

    def voice(time: np.ndarray, length: float, f0: float) -> np.ndarray:
        fading = np.exp(-decay * time)
        modulator = index * fading * np.sin(2 * np.pi * ratio * f0 * time)
        return fading * np.sin(2 * np.pi * f0 * time + modulator) * np.minimum(time / 0.01, 1)

    return _unit(_play(_notes(generator, seconds), seconds, voice))


def drums(generator: np.random.Generator, seconds: float) -> Waveform:
    """Bass drum, snare and hi-hat in a pattern that repeats."""
    beat = generator.uniform(0.1, 0.2)
    pattern = generator.random((3, 8)) < np.array([[0.4], [0.25], [0.7]])
    pattern[:2, 0] = True, False
    played = np.zeros(round(seconds * RATE))
    time = np.arange(round(0.3 * RATE)) / RATE
    kick = np.sin(2 * np.pi * (50 * time + 8 * (1 - np.exp(-30 * time)))) * np.exp(-12 * time)
    for step in range(int(seconds / beat)):
        first = round(step * beat * RATE)
        noise = generator.standard_normal(len(time))
        hits = (
            kick,
            0.5 * noise * np.exp(-20 * time) + 0.4 * np.sin(2 * np.pi * 190 * time - 20 * time),
            0.3 * np.diff(noise, prepend=0) * np.exp(-60 * time),
        )
        for which, hit in enumerate(hits):
            if pattern[which, step % 8]:
                end = min(len(played), first + len(hit))
                played[first:end] += (hit * np.exp(-3 * time))[: end - first]
    return _unit(played)


def band(generator: np.random.Generator, seconds: float) -> Waveform:
    """Several instruments together."""
    mixed = 0.7 * drums(generator, seconds)
    for play in generator.choice(np.array([chords, strings, plucked, fm]), 2, replace=False):
        mixed = mixed + play(generator, seconds)
    return _unit(mixed)


def coloured_noise(exponent: float) -> Maker:
    """Noise with a power of `1 / frequency ** exponent`: 0 is white, 1 pink, 2 brown."""

    def make(generator: np.random.Generator, seconds: float) -> Waveform:
        samples = round(seconds * RATE)
        spectrum = np.fft.rfft(generator.standard_normal(samples))
        frequency = np.maximum(np.fft.rfftfreq(samples, 1 / RATE), 20.0)
        return _unit(np.fft.irfft(spectrum / frequency ** (exponent / 2), samples))

    return make


def tone(generator: np.random.Generator, seconds: float) -> Waveform:
    """One to three steady tones, sines or square waves, perhaps switched on and off."""
    time = np.arange(round(seconds * RATE)) / RATE
    made = np.zeros(len(time))
    for _ in range(int(generator.integers(1, 4))):
        wave = np.sin(2 * np.pi * generator.uniform(100, 3000) * time)
        made += np.sign(wave) if generator.random() < 0.3 else wave
    if generator.random() < 0.4:
        made *= (time * generator.uniform(1, 5)) % 1 < 0.5
    return _unit(made)


def sweep(generator: np.random.Generator, seconds: float) -> Waveform:
    """A tone that rises or falls, once or again and again, such as a siren."""
    time = np.arange(round(seconds * RATE)) / RATE
    low, high = generator.uniform(80, 400), generator.uniform(1000, 7000)
    turns = generator.choice((0.5, 1, 3, 6)) * time / seconds
    share = np.abs((turns + 0.5 * generator.random()) % 1 * 2 - 1)
    return _unit(np.sin(2 * np.pi * np.cumsum(low * (high / low) ** share) / RATE))


MUSIC: dict[str, Maker] = {
    "chords": chords,
    "strings": strings,
    "plucked": plucked,
    "FM": fm,
    "drums": drums,
    "band": band,
}
NOISE = {name: coloured_noise(e) for name, e in (("white", 0.0), ("pink", 1.0), ("brown", 2.0))}
TONES: dict[str, Maker] = {"tone": tone, "sweep": sweep}


def clipped(waveform: Waveform, below_peak_db: float) -> Waveform:
    """Cut off at a level below the clip's peak."""
    limit = np.abs(waveform).max() * 10 ** (-below_peak_db / 20)
    return _unit(np.clip(waveform, -limit, limit))


def telephone(waveform: Waveform) -> Waveform:
    """What passes a telephone line: 300 to 3400 Hz."""
    sections = signal.butter(6, (300, 3400), "bandpass", fs=RATE, output="sos")
    return signal.sosfilt(sections, waveform).astype(np.float32)


def played_at(waveform: Waveform, speed: float) -> Waveform:
    """As a file whose header names a rate `speed` times its own: faster and higher, or slower."""
    return resample(waveform, round(RATE * speed), RATE)


ALTERED: dict[str, Callable[[Waveform], Waveform]] = {
    "clipped 6 dB": lambda w: clipped(w, 6),
    "clipped 12 dB": lambda w: clipped(w, 12),
    "clipped 20 dB": lambda w: clipped(w, 20),
    "speed x0.6": lambda w: played_at(w, 0.6),
    "speed x1.6": lambda w: played_at(w, 1.6),
    "reversed": lambda w: np.ascontiguousarray(w[::-1]),
    "telephone": telephone,
}

OVERLOADED = "overloaded"
RIGHT = {  # words of a right sentence
    **dict.fromkeys(MUSIC, STRANGE["music"]),
    **dict.fromkeys(NOISE, STRANGE["noise"]),
    **dict.fromkeys(TONES, STRANGE["tones"]),
    "speed x0.6": STRANGE["slow"],
    "speed x1.6": STRANGE["fast"],
    "reversed": STRANGE["reversed"],
    "telephone": STRANGE["telephone"],
    "music recordings": STRANGE["music"],
    "noise recordings": STRANGE["noise"],
}


def pieces(folder: Path, most: int) -> list[Waveform]:
    """Up to `most` pieces of five seconds from the middle of each recording of a folder."""
    found = []
    for path in find_audio(folder):
        audio = read_audio(path)
        waveform = resample(audio.waveform, audio.sample_rate, RATE)
        count = min(most, max(1, len(waveform) // (5 * RATE)))
        first = (len(waveform) - count * 5 * RATE) // 2 if len(waveform) > 5 * RATE else 0
        for number in range(count):
            found.append(waveform[first + number * 5 * RATE :][: 5 * RATE])
    return [piece for piece in found if np.abs(piece).max(initial=0) > 0.001]


def simple_numbers(waveform: Waveform) -> np.ndarray:
    """How much the level varies, in dB, and the log of the spectral flatness: the baseline's."""
    levels = frame_levels_db(waveform, RATE)
    loud = levels > levels.max() - 40
    power = np.abs(signal.stft(waveform, RATE, nperseg=512)[2]) ** 2 + 1e-12
    flatness = np.log(power).mean(axis=0) - np.log(power.mean(axis=0))
    level = power.sum(axis=0)
    return np.array([levels[loud].std(), flatness[level > 0.01 * level.max()].mean()])


def baseline(corpora: Path) -> Callable[[Waveform], float]:
    """The Mahalanobis distance of the two numbers, fitted to clips of training speakers."""
    test = read_speakers(corpora / "test_speakers.tsv")
    clips = []
    for corpus in ("librispeech_resemblyzer", "commonvoice_omnilingo", "speechocean762"):
        speakers = sorted((corpora / corpus).iterdir())
        speakers = [s for s in speakers if s.is_dir() and (corpus, s.name) not in test]
        clips += [find_audio(speaker)[0] for speaker in speakers[:: max(1, len(speakers) // 100)]]
    rows = np.stack([simple_numbers(read_audio(clip).waveform) for clip in clips])
    centre, precision = rows.mean(axis=0), np.linalg.inv(np.cov(rows.T))

    def score(waveform: Waveform) -> float:
        away = simple_numbers(waveform) - centre
        return float(away @ precision @ away)

    return score


def named(report: ClipReport, kind: str) -> bool:
    """Whether one of the sentences is the right one."""
    right = OVERLOADED if kind.startswith("clipped") else RIGHT[kind]
    return any(right in problem.message for problem in report.problems)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--music", type=Path, help="folder of recordings of music")
    parser.add_argument("--made", type=int, default=25, help="clips of each kind that is made up")
    parser.add_argument("--altered", type=int, default=50, help="clips of each kind of alteration")
    options = parser.parse_args()
    converter = vc.load(vocoder="griffin-lim")
    pairs = read_pairs(options.corpora / "test_pairs.tsv", options.corpora)
    sources = sorted({pair.source for pair in pairs})
    normal = [resample(*read_audio(source), RATE) for source in sources]
    kinds: dict[str, list[Waveform]] = {}
    generator = np.random.default_rng(100)
    for kind, make in {**MUSIC, **NOISE, **TONES}.items():
        kinds[kind] = [make(generator, generator.uniform(2, 10)) for _ in range(options.made)]
    kinds["noise recordings"] = pieces(options.corpora / "noise" / "ambient", 3)
    if options.music:
        kinds["music recordings"] = pieces(options.music, 15)
    chosen = normal[:: max(1, len(normal) // options.altered)]
    for kind, alter in ALTERED.items():
        kinds[kind] = [alter(waveform) for waveform in chosen]
    simple = baseline(options.corpora)

    def look(clips: list[Waveform]) -> tuple[list[ClipReport], np.ndarray, np.ndarray]:
        reports = [converter.check(Audio(clip, RATE)) for clip in tqdm(clips, mininterval=5)]
        scores = [np.inf if r.strangeness is None else r.strangeness.score for r in reports]
        finite = np.nan_to_num(np.array(scores), posinf=1e9)
        return reports, finite, np.array([simple(clip) for clip in clips])

    reports, scores, simple_scores = look(normal)
    p = np.array([r.strangeness.p for r in reports if r.strangeness is not None])
    print(f"normal: {len(normal)} clips; something is said of {said(reports):.1%}")
    shares = ", ".join(
        f"{np.mean(p < limit):.3f} below {limit}" for limit in (0.01, 0.05, 0.1, 0.5)
    )
    print(f"p of normal clips: {shares}")
    print(f"{'':18}{'clips':>6}{'AUC':>8}{'simple':>8}{'strange':>9}{'told':>7}{'named':>7}")
    for kind, clips in kinds.items():
        own_reports, own, own_simple = look(clips)
        truth = np.repeat([0, 1], [len(normal), len(clips)])
        auc = roc_auc_score(truth, np.concatenate([scores, own]))
        auc_simple = roc_auc_score(truth, np.concatenate([simple_scores, own_simple]))
        strange = np.mean(
            [r.strangeness is None or r.strangeness.kind is not None for r in own_reports]
        )
        right = np.mean([named(report, kind) for report in own_reports])
        print(
            f"{kind:18}{len(clips):>6}{auc:>8.3f}{auc_simple:>8.3f}{strange:>9.0%}"
            f"{said(own_reports):>7.0%}{right:>7.0%}"
        )


def said(reports: list[ClipReport]) -> float:
    """Share of clips of which anything is said."""
    return float(np.mean([bool(report.problems) for report in reports]))


if __name__ == "__main__":
    main()
