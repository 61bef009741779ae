"""Whose files are whose: what a visit brought and made is removed when the visit ends.

Gradio stores an upload under the hash of its bytes, so that two visitors with the same clip share
one file; it goes when the last of them does.

A page says now and then that it is still there, and at last that it leaves (`visit_route`). Gradio
tells when the connection is lost that it has to each page; then the page is gone, or its phone
sleeps, or has another network now. So such a visit ends when nothing was heard of it for a while.

Not every end is told: a program that calls the API without a session never says that it leaves. So
visits that were not heard of for a day count as ended, and so do the longest unheard ones where
there are more than `MAX_VISITS`.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from pathlib import Path

from vc.errors import VCError

MAX_NAME = 60
MAX_VISITS = 200
FORGOTTEN_AFTER_S = 24 * 3600.0
GRACE_S = 120.0  # a page in the background says only once a minute that it is there
_LEFT_OVER_AFTER_S = 60.0


class Visits:
    """The files of every open page.

    Args:
        folder: where all files of the demo lie; others are never touched.
        keep: leave the files of visits that ended.
        ended: is told of each visit that has ended.
    """

    def __init__(
        self,
        folder: Path,
        keep: bool = False,
        ended: Callable[[str], object] = lambda visit: None,
    ) -> None:
        self.folder = folder.resolve()
        self.keep = keep
        self.ended = ended
        self._files: OrderedDict[str, set[Path]] = OrderedDict()  # the latest heard of at the end
        self._heard: dict[str, float] = {}  # when
        self._voices: dict[str, set[bytes]] = {}  # by `voice_key`
        self._lost: deque[str] = deque(maxlen=10 * MAX_VISITS)  # without a connection; not its end
        self._lock = threading.RLock()

    def add(self, visit: str | None, paths: Iterable[str | Path | None] = ()) -> None:
        """Remember that a visit goes on, and that these files belong to it (and perhaps to others).

        One whose files are all gone has ended; a request that comes late does not begin it anew.
        """
        visit, now = visit or "", time.time()
        given = [Path(path).resolve() for path in paths if path is not None]
        with self._lock:
            if visit not in self._files and given and not any(path.exists() for path in given):
                return
            begins = visit not in self._files
            files = self._files.setdefault(visit, set())
            self._files.move_to_end(visit)
            self._heard[visit] = now
            if begins and visit in self._lost:
                self._end_when_silent(visit)
            files.update(path for path in given if path.is_relative_to(self.folder))
            for oldest in list(self._files):
                if len(self._files) <= MAX_VISITS and now - self._heard[oldest] < FORGOTTEN_AFTER_S:
                    break
                self._end(oldest)
            self._remove_left_over(now)

    def new_file(self, visit: str | None, name: str, write: Callable[[Path], object]) -> Path:
        """Make a file of a visit, in a folder whose name cannot be guessed.

        Args:
            visit: whose; it goes on, as `add` has said when the request began.
            name: of the file; made harmless.
            write: is given the path to write.

        Raises:
            VCError: the visit has ended meanwhile, and the file with it; or what `write` raises.
        """
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir(parents=True)
        path = folder / safe_name(name)
        try:
            write(path)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        with self._lock:
            files = self._files.get(visit or "")
            if files is None:
                self._delete({path})
                raise VCError("The visit has ended meanwhile; what was made for it is deleted.")
            files.add(path)
        return path

    def remove(self, visit: str | None, paths: Iterable[Path]) -> None:
        """Delete files of a visit that no other visit has."""
        with self._lock:
            files = self._files.get(visit or "", set())
            gone = {path.resolve() for path in paths} & files
            files -= gone
            self._delete(gone)

    def add_voice(self, visit: str | None, key: bytes) -> None:
        """Remember that a visit has a voice learnt, by its `voice_key`."""
        with self._lock:
            if (visit or "") in self._files:
                self._voices.setdefault(visit or "", set()).add(key)

    def voices(self) -> set[bytes]:
        """The keys of the voices that visits have learnt."""
        with self._lock:
            return set().union(*self._voices.values())

    def hear(self, visit: str) -> None:
        """Remember that a visit goes on, if it has begun."""
        with self._lock:
            if visit in self._files:
                self._files.move_to_end(visit)
                self._heard[visit] = time.time()

    def lose(self, visit: str | None) -> None:
        """End a visit whose connection is lost, unless it is heard of within `GRACE_S`."""
        with self._lock:
            self._lost.append(visit or "")
            self.hear(visit or "")
            self._end_when_silent(visit or "")

    def _end_when_silent(self, visit: str) -> None:
        with self._lock:
            if visit not in self._heard:
                return
            wait = self._heard[visit] + GRACE_S - time.time()
            if wait <= 0:
                self._end(visit)
                return
        timer = threading.Timer(wait, self._end_when_silent, [visit])
        timer.daemon = True
        timer.start()

    def end(self, visit: str | None) -> None:
        """Delete everything that only this visit has."""
        with self._lock:
            self._end(visit or "")

    def _end(self, visit: str) -> None:
        self._heard.pop(visit, None)
        self._voices.pop(visit, None)
        self._delete(self._files.pop(visit, set()))
        self.ended(visit)

    def _remove_left_over(self, now: float) -> None:
        """Gradio makes an empty file whenever it hands one to a function, and leaves it there.

        An upload is such a file too, until its first bytes have come.
        """
        for path in self.folder.glob("tmp*"):
            with contextlib.suppress(OSError):  # another thread was faster
                about = path.stat()
                if about.st_size == 0 and about.st_mtime < now - _LEFT_OVER_AFTER_S:
                    path.unlink()

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
