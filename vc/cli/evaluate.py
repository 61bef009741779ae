"""`vc evaluate` and `vc probe`: how good a model is, and what its latents tell."""

from __future__ import annotations

import argparse
from pathlib import Path

from vc.cli.arguments import Commands, add_checkpoint, at_least
from vc.errors import VCError


def add_evaluate(commands: Commands) -> None:
    """Describe `vc evaluate`."""
    evaluate = commands.add_parser(
        "evaluate",
        help="score conversions of a table of pairs",
        description="Convert a table of pairs and score the results; or score another system's "
        "clips (--converted), the vocoder alone (--copy), or lay scores side by side (--compare).",
    )
    evaluate.add_argument("pairs", type=Path, nargs="?", help="TSV: set, source, reference, ...")
    evaluate.add_argument("--root", type=Path, help="folder its paths start from; the table's")
    evaluate.add_argument(
        "-o", "--output", type=Path, help="folder for clips, scores.json, report.html; resumes"
    )
    evaluate.add_argument("--report", type=Path, help="where else to write the HTML report")
    evaluate.add_argument(
        "--shown", type=int, default=9, help="pairs with players and pictures in the report (9)"
    )
    evaluate.add_argument("--name", default="", help="what to call the system in tables")
    evaluate.add_argument("--every", type=int, default=1, help="only each n-th pair, for a look")
    evaluate.add_argument("--workers", type=at_least(1), help="processes; all cores by default")
    instead = evaluate.add_mutually_exclusive_group()
    instead.add_argument(
        "--converted",
        type=Path,
        metavar="FOLDER",
        help="score its clips <set>--<source>--<reference>.wav instead of converting",
    )
    instead.add_argument(
        "--copy", action="store_true", help="score the vocoder's copies of the sources instead"
    )
    instead.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        metavar="SCORES",
        help="lay two or more scores.json side by side instead; differences are to the first",
    )
    add_checkpoint(evaluate)
    evaluate.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    from vc.evaluation.results import compare, format_results

    if options.compare:
        if options.pairs:
            raise VCError("--compare takes scores.json files only, without a table of pairs")
        print(compare(options.compare))
        return
    if options.pairs is None:
        raise VCError("name a table of pairs (TSV: set, source, reference, transcript)")
    if options.every < 1 or options.shown < 0:
        raise VCError("--every must be at least 1 and --shown must not be negative")
    root = options.root or options.pairs.parent
    if options.copy:
        from vc.evaluation.copy_synthesis import evaluate_copies

        print(
            evaluate_copies(
                options.pairs,
                root,
                options.checkpoint,
                options.output,
                every=options.every,
                workers=options.workers,
            )
        )
        return
    from vc.evaluation.run import evaluate

    results = evaluate(
        options.pairs,
        root,
        options.checkpoint,
        options.output,
        options.converted,
        every=options.every,
        workers=options.workers,
        report=options.report,
        shown=options.shown,
        name=options.name,
    )
    print(format_results(results))


def add_probe(commands: Commands) -> None:
    """Describe `vc probe`."""
    probe = commands.add_parser("probe", help="how well the latents tell speaker and phone")
    probe.add_argument("--cache", type=Path, required=True, help="folder that `vc prepare` wrote")
    probe.add_argument("-o", "--output", type=Path, help="HTML report with plots")
    probe.add_argument("--speakers", type=at_least(2), default=100, help="how many (100)")
    probe.add_argument("--clips", type=int, default=8, help="of each speaker (8)")
    probe.add_argument(
        "--phone-clips", type=at_least(0), default=200, help="English clips (200); 0: none"
    )
    add_checkpoint(probe)
    probe.set_defaults(run=_probe)


def _probe(options: argparse.Namespace) -> None:
    from vc.evaluation.html import HTML_SUFFIXES
    from vc.evaluation.probe import format_report, probe
    from vc.safe_write import check_output

    if options.output:
        check_output(options.output, HTML_SUFFIXES)
    report = probe(
        options.cache, options.checkpoint, options.speakers, options.clips, options.phone_clips
    )
    print(format_report(report.tasks))
    if options.output:
        from vc.evaluation.probe_report import write_probe_report

        write_probe_report(options.output, report)
