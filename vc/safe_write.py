"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from vc.errors import DataError


def write_text(path: Path, text: str) -> None:
    """Write a text file beside its place, then move it there.

    Raises:
        DataError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_text(text, "utf-8")
        os.replace(beside, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
