"""`vc export`: the model for programs without PyTorch."""

from __future__ import annotations

import argparse
from pathlib import Path

from vc.cli.arguments import Commands, add_checkpoint, progress_bar


def add_export(commands: Commands) -> None:
    """Describe `vc export`."""
    export = commands.add_parser("export", help="write the model as ONNX graphs")
    export.add_argument("--format", choices=["onnx"], default="onnx")
    export.add_argument("-o", "--output", type=Path, required=True, help="folder")
    export.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    add_checkpoint(export)
    export.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> None:
    from vc.convert import load
    from vc.export import check_exportable_to, export_onnx

    check_exportable_to(options.output)
    with progress_bar("exporting", options.quiet) as show:
        files = export_onnx(load(options.checkpoint), options.output, show)
    for file in files:
        if not options.quiet:
            print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
