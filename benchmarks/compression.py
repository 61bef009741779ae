"""Bits a second against quality: `vc compress` beside Opus and Codec 2.

    python -m benchmarks.compression CORPORA/test_pairs.tsv -o docs/compression.png

Sources of a table of pairs, the same number of each set. Opus needs `opusenc` and `opusdec`
(Debian: opus-tools), Codec 2 `c2enc` and `c2dec` (codec2, 8 kHz); what is not installed is left
out. Needs the extras `eval` and `compress`. Bits are those of the frames (Opus without its
container); whole files are given beside them.

Words are pocketsphinx's, against what it hears in the original, on the English sets only. After the
table, neighbours in rate are compared clip by clip. Ctrl-C ends it with the clips done so far.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from tqdm import tqdm

from vc.audio import Audio, Waveform, fit_length, normalize_level, read_audio, resample
from vc.compress import STAGES, compress, decompress
from vc.convert import Converter, load
from vc.evaluation.bootstrap import summarize_values
from vc.evaluation.judges import (
    JUDGE_RATE,
    Recognizer,
    SpeakerJudge,
    error_rate,
    f0_correlation,
    f0_track,
    naturalness,
    perceptual_quality,
    short_time_intelligibility,
)
from vc.evaluation.score import load_clip, read_pairs
from vc.units import UnitModel, decode_units, encode_units, load_unit_model

LONGEST_S = 5.0
ENGLISH = ("english", "five-references")  # names of sets that contain one of these
CODEC2_MODES = ("700C", "1300", "2400", "3200")
OPUS_KBPS = (6,)
NEIGHBOURS = (  # in bits a second, ours first
    ("ours, low", "Codec 2 700C"),
    ("ours, low", "Codec 2 3200"),
    ("ours, medium", "Codec 2 1300"),
    ("ours, high", "Codec 2 2400"),
)
MEASURES = ("CER", "P.808", "OVRL", "likeness", "log-F0 corr.", "STOI", "PESQ-WB")


class Coded(NamedTuple):
    """A clip that went through a codec, and what it cost."""

    waveform: Waveform
    bits_per_second: float
    file_bits_per_second: float = float("nan")


Codec = Callable[[Waveform], Coded]


def ours(converter: Converter, model: UnitModel, setting: str, clip: Waveform) -> Coded:
    """`vc compress`."""
    done = compress(converter, Audio(clip, JUDGE_RATE), setting, model)
    spoken = decompress(converter, done.data, model=model)
    return Coded(spoken.waveform, done.frame_bits_per_second, done.file_bits_per_second)


def as_text(converter: Converter, model: UnitModel, clip: Waveform) -> Coded:
    """`vc encode --units` and `vc decode` in the clip's own voice; bits are not counted."""
    audio = Audio(clip, JUDGE_RATE)
    units = encode_units(converter, audio, model=model)
    return Coded(decode_units(converter, units, audio, "keep", model).waveform, float("nan"))


def uncoded(converter: Converter, clip: Waveform) -> Coded:
    """The model without quantisation: what no setting can exceed."""
    audio = Audio(clip, JUDGE_RATE)
    return Coded(converter.convert(audio, audio, "keep").waveform, float("nan"))


def narrow(clip: Waveform) -> Coded:
    """What is below 4 kHz."""
    return Coded(resample(resample(clip, JUDGE_RATE, 8_000), 8_000, JUDGE_RATE), 8.0 * 2 * 8_000)


def codec2(mode: str, clip: Waveform) -> Coded:
    """Codec 2 by its command-line programs."""
    samples = (resample(clip, JUDGE_RATE, 8_000).clip(-1, 1) * 32767).astype("<i2")
    with tempfile.TemporaryDirectory() as folder:
        raw, bits, out = (Path(folder) / name for name in ("in.raw", "bits", "out.raw"))
        raw.write_bytes(samples.tobytes())
        run("c2enc", mode, str(raw), str(bits))
        run("c2dec", mode, str(bits), str(out))
        decoded = np.frombuffer(out.read_bytes(), "<i2").astype(np.float32) / 32768
        # by the mode's name: files hold whole bytes a frame
        return Coded(resample(decoded, 8_000, JUDGE_RATE), float(mode.removesuffix("C")))


def opus(kbps: int, clip: Waveform) -> Coded:
    """Opus by opus-tools, packets without the container."""
    with tempfile.TemporaryDirectory() as folder:
        wav, coded, out = (Path(folder) / name for name in ("in.wav", "c.opus", "out.wav"))
        soundfile.write(wav, clip, JUDGE_RATE)
        said = run(
            "opusenc", "--speech", "--bitrate", str(kbps), "--framesize", "60", str(wav), str(coded)
        )
        run("opusdec", "--rate", str(JUDGE_RATE), str(coded), str(out))
        decoded = read_audio(out)
        waveform = resample(decoded.waveform, decoded.sample_rate, JUDGE_RATE)
        found = re.search(r"([\d.]+) kbit/s \(without overhead", said) or re.search(
            r"([\d.]+) kbit/s", said
        )
        rate = 1000 * float(found[1]) if found else float("nan")
        return Coded(waveform, rate, 8 * coded.stat().st_size * JUDGE_RATE / len(clip))


def run(*command: str) -> str:
    """Run a program; what it says."""
    done = subprocess.run(command, check=True, capture_output=True)
    return (done.stdout + done.stderr).decode(errors="replace")


def codecs(converter: Converter) -> dict[str, Codec]:
    """All that are installed."""
    model = load_unit_model(converter)
    found: dict[str, Codec] = {"original": lambda clip: Coded(clip, 8.0 * 2 * JUDGE_RATE)}
    found["original at 8 kHz"] = narrow  # all that Codec 2 is given
    found["ours, not quantised"] = partial(uncoded, converter)
    found["ours, as text"] = partial(as_text, converter, model)
    for setting in STAGES:
        found[f"ours, {setting}"] = partial(ours, converter, model, setting)
    if shutil.which("c2enc"):
        found |= {f"Codec 2 {mode}": partial(codec2, mode) for mode in CODEC2_MODES}
    if shutil.which("opusenc"):
        found |= {f"Opus {kbps} kb/s": partial(opus, kbps) for kbps in OPUS_KBPS}
    return found


def choose(pairs: Path, clips: int) -> list[tuple[str, Path]]:
    """Set and source, the sets taking turns; each source once."""
    by_set: dict[str, list[Path]] = {}
    for pair in read_pairs(pairs, pairs.parent):
        sources = by_set.setdefault(pair.group, [])
        taken = [source for others in by_set.values() for source in others]
        if pair.source not in taken:
            sources.append(pair.source)
    rounds = zip_longest(*([(group, source) for source in by_set[group]] for group in by_set))
    return [pair for turn in rounds for pair in turn if pair is not None][:clips]


def align(decoded: Waveform, original: Waveform, longest: int = 1600) -> Waveform:
    """Undo a codec's delay: where the envelopes of both correlate best, within 0.1 s."""
    step = 16
    a, b = (
        np.abs(fit_length(w, len(original)))[: len(original) // step * step]
        .reshape(-1, step)
        .mean(1)
        for w in (original, decoded)
    )
    lags = range(-longest // step, longest // step + 1)
    fits = [float((a * np.roll(b, -lag)).sum()) for lag in lags]
    delay = lags[int(np.argmax(fits))] * step
    moved = decoded[delay:] if delay >= 0 else np.pad(decoded, (-delay, 0))
    return fit_length(moved, len(original))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="PNG of rate and quality")
    options = parser.parse_args()
    systems = codecs(load(options.checkpoint))
    recognizer, listener = Recognizer(), SpeakerJudge()
    rows: dict[str, list[list[float]]] = {name: [] for name in systems}
    with suppress(KeyboardInterrupt):
        for group, source in tqdm(choose(options.pairs, options.clips)):
            measure(group, source, systems, recognizer, listener, rows)
    done = min(len(row) for row in rows.values())
    scores = {name: np.array(row[:done]) for name, row in rows.items()}
    show(scores)
    compare(scores)
    if options.output:
        plot(scores, options.output)


def measure(
    group: str,
    source: Path,
    systems: dict[str, Codec],
    recognizer: Recognizer,
    listener: SpeakerJudge,
    rows: dict[str, list[list[float]]],
) -> None:
    """One clip through all codecs; adds a row to each."""
    original = load_clip(source)[: round(LONGEST_S * JUDGE_RATE)]
    original = normalize_level(original, JUDGE_RATE, -26.0)
    english = any(part in group for part in ENGLISH)
    wanted = recognizer.text(original) if english else ""
    voice, melody = listener.embed(original), f0_track(original)
    for name, codec in systems.items():
        coded = codec(original)
        waveform = align(normalize_level(coded.waveform, JUDGE_RATE, -26.0), original)
        opinion = naturalness(waveform)
        rows[name].append(
            [
                coded.bits_per_second,
                coded.file_bits_per_second,
                error_rate(recognizer.text(waveform), wanted, "char") if wanted else np.nan,
                opinion.p808,
                opinion.overall,
                float(voice @ listener.embed(waveform)),
                f0_correlation(melody, f0_track(waveform)),
                short_time_intelligibility(original, waveform),
                perceptual_quality(original, waveform),
            ]
        )


def show(scores: dict[str, np.ndarray]) -> None:
    """The table, means with 95 % intervals for words and opinion."""
    count = len(next(iter(scores.values())))
    print(f"{count} clips of at most {LONGEST_S:g} s; mean (95 % interval)\n")
    print("| | frames, b/s | file, b/s | " + " | ".join(MEASURES) + " |")
    print("|---" * (3 + len(MEASURES)) + "|")
    for name, columns in scores.items():
        cells = []
        for number, column in enumerate(columns.T):
            figure = summarize_values(column)
            if figure is None:
                cells.append("")
            elif number < 2:
                cells.append(f"{figure.mean:,.0f}")
            elif number == 2:
                cells.append(f"{figure.mean:.0%} ({figure.low:.0%} to {figure.high:.0%})")
            elif number == 3:
                cells.append(f"{figure.mean:.2f} ({figure.low:.2f} to {figure.high:.2f})")
            else:
                cells.append(f"{figure.mean:.2f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


def compare(scores: dict[str, np.ndarray]) -> None:
    """Differences clip by clip of codecs that need about as many bits."""
    print()
    for mine, other in NEIGHBOURS:
        if other in scores:
            differences = (scores[mine] - scores[other]).T
            cells = []
            for column, unit in ((3, ""), (2, " points"), (5, "")):
                figure = summarize_values((100 if unit else 1) * differences[column])
                if figure is not None:
                    digits = 0 if unit else 2
                    cells.append(
                        f"{MEASURES[column - 2]} {figure.mean:+.{digits}f}{unit} "
                        f"({figure.low:+.{digits}f} to {figure.high:+.{digits}f})"
                    )
            print(f"{mine} against {other}: {', '.join(cells)}")


def plot(scores: dict[str, np.ndarray], path: Path) -> None:
    """Rate against opinion and against recognised characters."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), dpi=90)
    families = {"ours": "o-", "Codec 2": "s--", "Opus": "^"}
    for axis, column, label in (
        (axes[0], 3, "DNSMOS P.808"),
        (axes[1], 2, "character error in % (less is better)"),
    ):
        for family, style in families.items():
            means = [np.nanmean(v[:, [0, column]], axis=0) for k, v in scores.items()
                     if k.startswith(family) and np.isfinite(v[:, 0]).all()]  # fmt: skip
            if means:
                rates, values = np.array(sorted(map(tuple, means))).T
                axis.plot(rates, values * (100 if column == 2 else 1), style, label=family)
        axis.set_xscale("log")
        axis.set_xticks([500, 1000, 2000, 4000], ["500", "1000", "2000", "4000"])
        axis.minorticks_off()
        axis.set_xlabel("bits a second")
        axis.set_title(label, fontsize=10)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
