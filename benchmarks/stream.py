"""What streaming costs: pairs converted whole, streamed, and streamed after the speaker was heard.

    python -m benchmarks.stream recipes/shipped/development_words.tsv --root CORPORA

The stream runs at 16 kHz in blocks of 32 ms. "Heard before" is the clip itself, said once more:
what a stream has when it knows the speaker. Means with 95 % intervals over pairs. Needs the `eval`
extra and resemblyzer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

from vc.audio import Audio
from vc.convert import load
from vc.evaluation.judges import JUDGE_RATE
from vc.evaluation.score import Judges, PairScore, load_clip, read_pairs, score_pair, summarize
from vc.streaming.stream import Stream, stream_clip

WAYS = ("whole", "streamed", "heard before")
MEASURES = {
    "to_reference": "likeness",
    "cer_own": "CER",
    "f0_correlation": "log-F0 corr.",
    "semitones_off": "semitones off",
    "p808": "P.808",
    "overall": "OVRL",
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("table", type=Path, help="pairs, as `vc evaluate` takes them")
    parser.add_argument("--root", type=Path, help="of the table's paths; its own folder by default")
    parser.add_argument("--every", type=int, default=2, help="only each n-th pair")
    options = parser.parse_args()
    torch.set_num_threads(1)
    converter, judges = load(), Judges()
    pairs = read_pairs(options.table, options.root or options.table.parent)[:: options.every]
    scores: dict[str, list[PairScore]] = {way: [] for way in WAYS}
    for pair in tqdm(pairs, "streaming", unit="pair"):
        voice = converter.voice([str(reference) for reference in pair.references])
        audio = Audio(load_clip(pair.source), JUDGE_RATE)
        for way in WAYS:
            if way == "whole":
                converted = converter.convert(audio, voice, loudness="keep")  # as streams do
            else:
                known = audio if way == "heard before" else None
                stream = Stream(converter, voice, sample_rate=JUDGE_RATE, source=known)
                converted = stream_clip(stream, audio)
            scores[way].append(score_pair(pair, converted.waveform, judges))
    print(f"{len(pairs)} pairs\n{'':14}" + "".join(f"{name:>26}" for name in MEASURES.values()))
    for way in WAYS:
        found = summarize(scores[way])
        cells = [found[measure] for measure in MEASURES]
        texts = [f"{cell.mean:.3f} ({cell.low:.3f} to {cell.high:.3f})" for cell in cells]
        print(f"{way:14}" + "".join(f"{text:>26}" for text in texts))


if __name__ == "__main__":
    main()
