"""Whose files are whose: what a visit brought and made is removed when the visit ends.

Gradio stores an upload under the hash of its bytes, so that two visitors with the same clip share
one file; it goes when the last of them does.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

MAX_NAME = 60


class Visits:
    """The files of every open page.

    Args:
        folder: where all files of the demo lie; others are never touched.
        keep: leave the files of visits that ended.
    """

    def __init__(self, folder: Path, keep: bool = False) -> None:
        self.folder = folder.resolve()
        self.keep = keep
        self._files: defaultdict[str, set[Path]] = defaultdict(set)
        self._lock = threading.Lock()

    def add(self, visit: str | None, paths: Iterable[str | Path | None]) -> None:
        """Remember that these files belong to a visit (and perhaps to others too)."""
        with self._lock:
            for path in paths:
                if path is not None and Path(path).resolve().is_relative_to(self.folder):
                    self._files[visit or ""].add(Path(path).resolve())

    def new_file(self, visit: str | None, name: str) -> Path:
        """A path for a new file of a visit, in a folder whose name cannot be guessed."""
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir(parents=True)
        path = folder / safe_name(name)
        self.add(visit, [path])
        return path

    def remove(self, visit: str | None, paths: Iterable[Path]) -> None:
        """Delete files of a visit that no other visit has."""
        with self._lock:
            gone = {path.resolve() for path in paths} & self._files[visit or ""]
            self._files[visit or ""] -= gone
            self._delete(gone)

    def end(self, visit: str | None) -> None:
        """Delete everything that only this visit has."""
        with self._lock:
            self._delete(self._files.pop(visit or "", set()))

    def _delete(self, paths: set[Path]) -> None:
        if self.keep:
            return
        for path in paths - set().union(*self._files.values()):
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # shared with other files
                path.parent.rmdir()


def safe_name(name: str) -> str:
    """A file name that is harmless on every system and still tells what it is."""
    stem, suffix = Path(name.replace("\\", "/")).stem, Path(name).suffix
    stem = re.sub(r"[^\w\- ]+", "", stem).strip()[:MAX_NAME]
    return (stem or "clip") + re.sub(r"[^\w.]+", "", suffix)
