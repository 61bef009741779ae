"""`vc demo`: the page in the browser."""

from __future__ import annotations

import argparse
from pathlib import Path

from vc.cli.arguments import Commands, above_zero, add_checkpoint, port
from vc.errors import VCError


def add_demo(commands: Commands) -> None:
    """Describe `vc demo`."""
    demo = commands.add_parser(
        "demo",
        help="open the page in the browser",
        description="Open the page in the browser. Whatever the options, a voice may have 20 "
        "reference clips; there may be 100 clips in a batch, and 10 minutes live at a time.",
    )
    demo.add_argument("--host", default="127.0.0.1", help="this computer only, by default")
    demo.add_argument("--port", type=port, help="the first free one from 7860 by default")
    demo.add_argument("--user", help="ask for this name and a password")
    demo.add_argument("--password", help="or set the environment variable VC_DEMO_PASSWORD")
    demo.add_argument(
        "--keep-uploads",
        type=Path,
        metavar="FOLDER",
        help="keep what people upload and convert, in a new folder there at each start; by "
        "default nothing stays",
    )
    demo.add_argument(
        "--max-minutes",
        type=above_zero,
        default=5.0,
        help="length of a clip; %(default)g minutes by default",
    )
    demo.add_argument(
        "--max-mb",
        type=above_zero,
        default=100.0,
        help="size of a file; %(default)g MB by default",
    )
    demo.add_argument("--no-browser", action="store_true", help="only print the address")
    add_checkpoint(demo)
    demo.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> None:
    from importlib import import_module
    from importlib.util import find_spec

    if find_spec("gradio") is None:
        raise VCError("the demo needs Gradio; install it with: pip install 'vc[demo]'")
    # by name, since the package never depends on its demo
    server = import_module("demo.server")
    settings = server.DemoSettings(
        host=options.host,
        port=options.port,
        user=options.user,
        password=options.password,
        keep_uploads=options.keep_uploads,
        max_minutes=options.max_minutes,
        max_mb=options.max_mb,
        open_browser=not options.no_browser,
    )
    server.serve(options.checkpoint, settings, print)
