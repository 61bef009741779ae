"""Files that are written whole or not at all.

What a killed process leaves beside a file has a name that the next writer of the file uses again,
so nothing is left in the end. (Libraries that write safely pick a new name each time.)
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from vc.errors import DataError, VCError


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of a text."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes, failure: type[VCError] = DataError) -> None:
    """Write a file beside its place, then move it there.

    Args:
        path: the file; replaced if it exists.
        data: all of it.
        failure: what to raise.

    Raises:
        VCError: it cannot be written; as `failure` says.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    except OSError as error:
        raise failure(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
