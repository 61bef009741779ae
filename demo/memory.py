"""Memory that was freed goes back to the system.

Each conversion takes and frees some ten megabytes, in pieces of every size. glibc keeps what was
freed, with small pieces that are in use between, so that later ones do not fit in: a server that
leaks nothing grows all the same.
"""

from __future__ import annotations

import ctypes
import sys


def give_back_memory() -> None:
    """Ask glibc to return every free page; nothing happens where there is another library."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
