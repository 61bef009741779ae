"""`vc prepare` and `vc train`: from a corpus to a network."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vc.cli.arguments import EXIT_INTERRUPTED, Commands, at_least
from vc.errors import VCError

if TYPE_CHECKING:
    from vc.corpus import PreparationReport


def add_prepare(commands: Commands) -> None:
    """Describe `vc prepare`."""
    prepare = commands.add_parser("prepare", help="turn a corpus folder into cached features")
    prepare.add_argument(
        "corpus",
        type=Path,
        help="folder of speaker/utterance files, of LibriSpeech, LibriTTS, VCTK, CMU Arctic or "
        "Common Voice, or a CSV with the columns path and speaker",
    )
    prepare.add_argument("-o", "--output", type=Path, required=True, help="cache folder")
    prepare.add_argument("--exclude", type=Path, help="TSV of corpus, speaker to leave out")
    prepare.add_argument("--hold-out", type=Path, help="TSV of corpus, speaker for validation only")
    prepare.add_argument("--skip", action="append", default=[], help="corpus folder to pass over")
    prepare.add_argument(
        "--test-share", type=float, default=0.0, help="of the speakers, for a test part (0)"
    )
    prepare.add_argument("--workers", type=at_least(1), help="processes; all cores by default")
    prepare.set_defaults(run=_prepare)


def _prepare(options: argparse.Namespace) -> None:
    from vc.config import FeatureConfig
    from vc.corpus import prepare, read_speakers

    if not 0 <= options.test_share < 1:
        raise VCError("--test-share must be at least 0 and below 1")
    exclude, hold_out = (
        read_speakers(table) if table else frozenset()
        for table in (options.exclude, options.hold_out)
    )
    report = prepare(
        options.corpus,
        options.output,
        FeatureConfig(),
        exclude,
        hold_out,
        frozenset(options.skip),
        options.workers,
        options.test_share,
    )
    _tell_of_corpus(report, options.output)


def _tell_of_corpus(report: PreparationReport, cache: Path) -> None:
    from vc.corpus_report import format_summary, write_page

    page = cache / "report.html"
    write_page(report, page)
    for other in report.left_out:
        print(f"left out: {other}", file=sys.stderr)
    if unknown := report.unknown:  # perhaps a test speaker, who would be trained on
        names = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        print(
            f"vc prepare: no clips of {len(unknown)} that were named to leave out, hold out or "
            f"skip ({names}); check the names of corpora and speakers",
            file=sys.stderr,
        )
    parts = {utterance.split for utterance in report.utterances}
    state = "ready to train on"
    if not {"train", "validation"} <= parts:
        state = "a training needs a second speaker, to validate with (`vc adapt` learns from one)"
    print(f"{format_summary(report)}\n{cache}: {state}; plots in {page}")


def add_train(commands: Commands) -> None:
    """Describe `vc train`."""
    train = commands.add_parser("train", help="train the network that a recipe describes")
    train.add_argument(
        "recipe", type=Path, help="tiny, small, default, large or vocoder, or a TOML file"
    )
    speech = train.add_mutually_exclusive_group(required=True)
    speech.add_argument("--cache", type=Path, help="folder that `vc prepare` wrote")
    speech.add_argument("--corpus", type=Path, help="folder to prepare first, into OUTPUT/cache")
    train.add_argument("-o", "--output", type=Path, required=True, help="run folder; resumes")
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change a setting of the recipe; may come again",
    )
    train.add_argument(
        "--minutes", type=float, help="plan to end in this time instead of the recipe's steps"
    )
    train.add_argument("--device", default="auto", help="auto (default), cpu, cuda, mps")
    train.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    from vc.training.loop import validations
    from vc.training.processes import joined
    from vc.training.run import (
        Interrupted,
        check_minutes,
        find_recipe,
        pick_device,
        read_training,
        train,
    )

    recipe = find_recipe(options.recipe)
    _, settings = read_training(recipe, options.set)
    cache, minutes = options.cache, options.minutes
    check_minutes(minutes)
    with joined(pick_device(options.device)) as processes:
        if options.corpus:
            from vc.corpus import prepare

            started = time.monotonic()
            cache = options.output / "cache"
            if processes.is_first:
                _tell_of_corpus(prepare(options.corpus, cache, settings.features), cache)
            processes.wait()
            if minutes is not None:
                minutes -= processes.largest(time.monotonic() - started) / 60
                if minutes <= 0:
                    raise VCError(
                        f"preparing {options.corpus} took all of --minutes {options.minutes:g}; "
                        "run the same command again: it is prepared now"
                    )
        try:
            metrics = train(
                recipe,
                cache,
                options.output,
                options.set,
                processes.device,
                print,
                minutes,
                processes,
            )
        except Interrupted as error:
            if processes.is_first:
                print(f"vc train: {error}", file=sys.stderr)
            return EXIT_INTERRUPTED
    if not processes.is_first:
        return 0
    before = dict(validations(options.output)).get(0, {})
    print("on held-out speech, before training -> after:")
    for name, value in metrics.items():
        print(f"  {name}: {before.get(name, float('nan')):.4f} -> {value:.4f}")
    return 0
