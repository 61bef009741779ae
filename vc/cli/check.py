"""`vc check`: are these clips the kind of speech that the model knows?"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from vc.cli.arguments import (
    EXIT_SOME_FAILED,
    EXIT_USER_ERROR,
    Commands,
    add_checkpoint,
    audio_files,
)
from vc.errors import VCError


def add_check(commands: Commands) -> None:
    """Describe `vc check`."""
    check = commands.add_parser(
        "check",
        help="say what is wrong with clips before converting them",
        description="Exit status: 0 if all clips are fine, 1 if some are strange, 2 if some "
        "cannot be read.",
    )
    check.add_argument("clips", type=Path, nargs="+", help="clips, or folders of them")
    check.add_argument("--role", choices=["source", "reference"], default="source")
    check.add_argument("--json", action="store_true", help="a JSON object a line")
    add_checkpoint(check)
    check.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from vc.convert import load

    files = audio_files(options.clips)
    converter = load(options.checkpoint, vocoder="griffin-lim")  # nothing is spoken
    status = 0
    for file in files:
        try:
            report = converter.check(file, options.role)
        except VCError as error:
            status = EXIT_USER_ERROR
            if options.json:
                print(json.dumps({"file": str(file), "error": str(error)}, ensure_ascii=False))
            else:
                print(f"vc check: {error}", file=sys.stderr)
            continue
        if report.problems:
            status = max(status, EXIT_SOME_FAILED)
        messages = [problem.message for problem in report.problems]
        row: dict[str, Any] = {"file": str(file), "fine": not messages, "problems": messages}
        strangeness = report.strangeness
        if strangeness is not None:
            row |= {"kind": strangeness.kind, "aspect": strangeness.aspect, "p": strangeness.p}
        if options.json:
            print(json.dumps(row, ensure_ascii=False))
            continue
        text = " ".join(messages) or "fine."
        if strangeness is not None:
            share = f"{strangeness.p:.0%}" if strangeness.p >= 0.01 else "under 1 %"
            text += f" ({share} of real speech looks as strange)"
        print(f"{file}: {text}")
    return status
