"""The demo, served for a test."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from demo.page import build_page, launch_options
from demo.settings import DemoSettings
from demo.studio import Studio
from vc.convert import Converter


class Served(NamedTuple):
    url: str
    studio: Studio
    folder: Path

    def files(self) -> list[Path]:
        """Everything that is on disk of any visit, while some of it may be being deleted."""
        found = []
        for folder, _, names in os.walk(self.folder):  # which skips folders that are gone
            for path in (Path(folder, name) for name in names):
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_size > 0:
                        found.append(path)
        return found


@contextlib.contextmanager
def serving(
    converter: Converter, folder: Path, settings: DemoSettings | None = None
) -> Iterator[Served]:
    settings = settings or DemoSettings()
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(folder)  # Gradio asks for it at every request
    try:
        studio = Studio(converter, settings, folder)
        page = build_page(studio)
        credentials = (settings.user, settings.password or "") if settings.user else None
        _, url, _ = page.launch(
            server_name="127.0.0.1",
            server_port=settings.port,
            auth=credentials,
            prevent_thread_lock=True,
            **launch_options(studio),
        )
        try:
            yield Served(url, studio, folder)
        finally:
            page.close(verbose=False)
    finally:
        os.environ.pop("GRADIO_TEMP_DIR")
        if before is not None:
            os.environ["GRADIO_TEMP_DIR"] = before
