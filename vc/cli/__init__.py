"""The command `vc`: the only part that prints, and where errors become one line and status 2.

One module a family of commands; each describes its arguments and runs them. Heavy modules are
imported by what needs them, so that `vc --help` is there at once.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence

import vc
from vc.cli.arguments import EXIT_INTERRUPTED, EXIT_USER_ERROR
from vc.cli.batch import add_batch
from vc.cli.check import add_check
from vc.cli.codes import add_compress, add_decode, add_decompress, add_encode
from vc.cli.convert import add_convert, add_denoise
from vc.cli.demo import add_demo
from vc.cli.embed import add_embed, add_map
from vc.cli.evaluate import add_evaluate, add_probe
from vc.cli.export import add_export
from vc.cli.info import add_info
from vc.cli.live import add_live
from vc.cli.train import add_prepare, add_train
from vc.cli.voices import add_adapt, add_new_voice, add_voice
from vc.errors import VCError

_IN_THE_ORDER_OF_HELP = (
    add_convert,
    add_denoise,
    add_check,
    add_live,
    add_demo,
    add_batch,
    add_voice,
    add_new_voice,
    add_adapt,
    add_map,
    add_embed,
    add_encode,
    add_decode,
    add_compress,
    add_decompress,
    add_info,
    add_export,
    add_prepare,
    add_train,
    add_evaluate,
    add_probe,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # a file's name may hold what cannot be printed
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return options.run(options) or 0
    except VCError as error:
        return _fail(options.command, str(error))
    except BrokenPipeError:  # whoever read our output has had enough
        sys.stdout = None
        return EXIT_USER_ERROR
    except OSError as error:  # a disk that is full, a folder that may not be written or read
        place = f"{error.filename}: " if error.filename else ""
        return _fail(options.command, f"{place}{error.strerror or error}")
    except KeyboardInterrupt:
        print(f"vc {options.command}: interrupted; nothing half-written is left", file=sys.stderr)
        return EXIT_INTERRUPTED


def _fail(command: str, message: str) -> int:
    print(f"vc {command}: {' '.join(message.splitlines())}", file=sys.stderr)
    return EXIT_USER_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vc", description="Voice conversion on an ordinary CPU.")
    parser.add_argument("--version", action="version", version=f"vc {vc.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in _IN_THE_ORDER_OF_HELP:
        add(commands)
    return parser
