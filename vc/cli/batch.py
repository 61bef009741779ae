"""`vc batch`: whole folders."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vc.cli.arguments import (
    DENOISE,
    EXIT_INTERRUPTED,
    EXIT_SOME_FAILED,
    Commands,
    add_checkpoint,
    add_loudness,
    add_quick,
    at_least,
    check_apart,
    pitch,
    sample_rate,
)


def add_batch(commands: Commands) -> None:
    """Describe `vc batch`."""
    batch = commands.add_parser("batch", help="convert whole folders, on all cores or a cluster")
    batch.add_argument(
        "sources", type=Path, nargs="+", help="folders, clips, or manifests (CSV, JSON Lines)"
    )
    batch.add_argument(
        "--reference",
        type=Path,
        nargs="+",
        required=True,
        help="a clip or a folder of clips for each voice; several make a subfolder each",
    )
    batch.add_argument("-o", "--output", type=Path, required=True, help="folder; resumes")
    batch.add_argument("--pitch", type=pitch, default="match", help="as in vc convert")
    add_loudness(batch)
    batch.add_argument("--denoise", action="store_true", help=DENOISE)
    add_quick(batch)
    batch.add_argument("--no-check", action="store_true", help="no warnings of strange sources")
    batch.add_argument(
        "--sample-rate", type=sample_rate, help="of the output in Hz; the source's own"
    )
    batch.add_argument("--vocoder", choices=["neural", "griffin-lim"], default="neural")
    batch.add_argument(
        "--format", choices=["wav", "flac", "ogg", "opus", "mp3", "aiff"], help="the source's own"
    )
    batch.add_argument("--workers", type=at_least(1), help="processes; all cores by default")
    batch.add_argument("--retries", type=at_least(0), default=2, help="after a crash; 2 by default")
    batch.add_argument("--overwrite", action="store_true", help="replace files of other origin")
    batch.add_argument("--report", type=Path, help="CSV or JSON; in the output folder by default")
    batch.add_argument("--engine", choices=["local", "ray"], default="local")
    batch.add_argument("--address", help="of a Ray cluster; none starts one on this machine")
    batch.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    add_checkpoint(batch)
    batch.set_defaults(run=_batch)


def _batch(options: argparse.Namespace) -> int:
    from vc.batch import REPORT, REPORT_SUFFIXES, Settings, run_batch
    from vc.safe_write import check_output

    path = options.report or options.output / REPORT
    check_output(path, REPORT_SUFFIXES, made=options.output)
    check_apart(path, [*options.sources, *options.reference])
    settings = Settings(
        options.pitch,
        options.sample_rate,
        options.vocoder,
        options.checkpoint,
        options.denoise,
        not options.quick,
        not options.no_check,
        options.loudness,
    )
    report = run_batch(
        options.sources,
        options.reference,
        options.output,
        settings,
        f".{options.format}" if options.format else None,
        options.workers,
        options.retries,
        options.overwrite,
        options.engine,
        options.address,
        options.quiet,
    )
    report.write(path)
    for outcome in report.outcomes:
        if outcome.status == "failed":
            reason, source = outcome.reason, outcome.source
            named = reason if source in reason else f"{source}: {reason}"
            print(f"failed: {named}", file=sys.stderr)
        if outcome.warning and not options.quiet:
            print(f"{outcome.source}: {outcome.warning}", file=sys.stderr)
    if not options.quiet:
        counts = ", ".join(
            f"{report.count(status)} {status}" for status in ("done", "skipped", "failed")
        )
        print(f"{options.output}: {counts}; report in {path}")
    if report.is_interrupted:
        print("vc batch: interrupted; run it again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_SOME_FAILED if report.count("failed") else 0
