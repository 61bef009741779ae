"""Files that are written whole or not at all, also by two processes at once.

A file is written beside its place and then moved there. What is written beside is locked, so that
no two writers share it, and has a name that the next writer of the file uses again: of a killed
process nothing is left in the end. (Libraries that write safely pick a new name each time.)
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from vc.errors import DataError, VCError

_SCRATCH = re.compile(r"\.vc-[0-9a-f]{16}(-\d+)?\.new")


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of a text; file names in it that are not UTF-8 get backslashes."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, data: bytes, failure: type[VCError] = DataError) -> None:
    """Write a file beside its place, then move it there.

    Args:
        path: the file; replaced if it exists.
        data: all of it.
        failure: what to raise.

    Raises:
        VCError: it cannot be written; as `failure` says.
    """
    try:
        with written_beside(path) as scratch:
            scratch.write_bytes(data)
    except OSError as error:
        raise failure(f"{path}: cannot be written ({error.strerror})") from error


def check_parent(path: Path, failure: type[VCError] = VCError) -> None:
    """Refuse an output that cannot be written, before any work is done for it.

    Raises:
        VCError: its folder does not exist or may not be written to, or the name is none; as
            `failure` says.
    """
    parent = path.absolute().parent
    if not parent.is_dir():
        raise failure(f"{path}: folder {path.parent} does not exist; create it first")
    if not os.access(parent, os.W_OK):
        raise failure(f"{path}: folder {path.parent} cannot be written; choose another")
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise failure(f"{path}: cannot be written ({reason}); name another file") from error


def check_name(path: Path, suffixes: Sequence[str], failure: type[VCError] = VCError) -> None:
    """Refuse an output of another type, before a slip of the pen costs a recording.

    Args:
        path: of the output.
        suffixes: one of which its name has to end in.
        failure: what to raise.

    Raises:
        VCError: another suffix, or a folder; as `failure` says.
    """
    if path.suffix.lower() not in suffixes:
        raise failure(f"{path}: end the name in {' or '.join(suffixes)}")
    with contextlib.suppress(OSError):  # `check_parent` tells of a name that can be none
        if path.is_dir():
            raise failure(f"{path}: is a folder; name a file in it")


def check_output(
    path: Path,
    suffixes: Sequence[str],
    failure: type[VCError] = VCError,
    made: Path | None = None,
) -> None:
    """`check_name` and `check_parent`; the folder `made` will be made if it is missing.

    Raises:
        VCError: as these.
    """
    check_name(path, suffixes, failure)
    if made is None or path.absolute().parent != made.absolute():
        check_parent(path, failure)


def make_folder(path: Path, failure: type[VCError] = DataError) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        VCError: it cannot be made; as `failure` says.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise failure(f"{path}: cannot be made ({error.strerror}); name another folder") from error


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A file to write to, which takes the place of `path` if the block ends well.

    Of two writers at once, both write, and the last to end stays.

    Raises:
        OSError: there can be no file beside `path`, or it cannot be moved.
    """
    handle, scratch = _claim(path)
    try:
        yield scratch
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


def remove_abandoned(folder: Path) -> None:
    """Remove what killed writers left in a folder; what is being written now stays."""
    for scratch in [file for file in folder.iterdir() if _SCRATCH.fullmatch(file.name)]:
        with contextlib.suppress(OSError):
            handle = os.open(scratch, os.O_RDWR)
            try:
                if _lock(handle):
                    scratch.unlink(missing_ok=True)
            finally:
                os.close(handle)


def _claim(path: Path) -> tuple[int, Path]:
    """The first file beside `path` that no other writer has, open and locked."""
    name = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]  # never too long for a name
    for number in itertools.count():
        scratch = path.with_name(f".vc-{name}{f'-{number}' if number else ''}.new")
        handle = os.open(scratch, os.O_RDWR | os.O_CREAT, 0o666)
        # its writer may have moved it away between opening and locking
        if _lock(handle) and _is_at(handle, scratch):
            return handle, scratch
        os.close(handle)
    raise AssertionError("unreachable")


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks: one writer at a time, as far as can be told
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False
