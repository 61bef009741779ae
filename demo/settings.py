"""What the person who starts the server decides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DemoSettings:
    """Options of `vc demo`."""

    host: str = "127.0.0.1"  # this computer only
    port: int | None = None  # None: the first free one from 7860
    user: str | None = None  # ask for a name and a password
    password: str | None = None
    keep_uploads: Path | None = None  # everything stays, in a new folder there; None: nothing
    max_minutes: float = 5.0  # of a clip
    max_mb: float = 100.0  # of a file
    open_browser: bool = True
