"""Start and end the server; while it runs, all files lie in one folder that goes with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from demo.settings import DemoSettings
from vc.errors import VCError

PREFIX = "vc-demo-"


def serve(checkpoint: Path | None, settings: DemoSettings, announce: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C or a signal ends it.

    Args:
        checkpoint: model folder; None for the shipped one.
        settings: what the command line said.
        announce: is given the address when the page can be opened.

    Raises:
        VCError: the port is taken, the host is none of this computer's, or the options do not fit
            together.
    """
    credentials = _credentials(settings)
    _check_host(settings.host)
    with demo_folder(settings) as folder:
        # torch's convolutions keep code for every length of clip they have met, up to so many
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
        # Gradio reads these when it is imported or builds a page
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "100"  # it sums up all of them at every event
        import torch

        import vc
        from demo.page import build_page, launch_options
        from demo.studio import Studio

        torch.set_num_threads(1)  # each of two conversions at a time has a core
        studio = Studio(vc.load(checkpoint), settings, folder)
        page = build_page(studio)
        try:
            _, url, _ = page.launch(
                server_name=settings.host,
                server_port=settings.port,
                auth=credentials,
                inbrowser=settings.open_browser,
                prevent_thread_lock=True,
                **launch_options(studio),
            )
        except OSError as error:
            raise VCError(
                f"port {settings.port} of {settings.host} cannot be used; is it taken? "
                "choose another with --port"
            ) from error
        announce(f"Voice converter: {url} (Ctrl-C ends it)")
        try:
            _wait_for_the_end()
        finally:
            page.close(verbose=False)


def _credentials(settings: DemoSettings) -> tuple[str, str] | None:
    password = settings.password or os.environ.get("VC_DEMO_PASSWORD")
    if settings.user is None and settings.password is None and not password:
        return None
    if not settings.user or not password:
        raise VCError("a user needs a password and a password a user: give --user and --password")
    return settings.user, password


def _check_host(host: str) -> None:
    """Refuse what Gradio would try to serve at again and again."""
    try:
        family, *_, place = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as tried:
            tried.bind(place)
    except (OSError, UnicodeError) as error:
        raise VCError(
            f"--host {host}: no address of this computer ({error}); use 127.0.0.1, or 0.0.0.0 "
            "for the whole network"
        ) from error


@contextlib.contextmanager
def demo_folder(settings: DemoSettings) -> Iterator[Path]:
    """A folder for all files: temporary, or a new one within the one where they are to be kept.

    Gradio serves every file in it, so it is never a folder in which somebody has files already.
    """
    if settings.keep_uploads is not None:
        yield _new_folder(settings.keep_uploads).resolve()
        return
    _remove_orphans(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(
        prefix=f"{PREFIX}{os.getpid()}-", ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder).resolve()


def _new_folder(parent: Path) -> Path:
    """A folder of this start alone, named by its time."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=time.strftime("%Y-%m-%d-%H%M%S-"), dir=parent))
    except OSError as error:
        raise VCError(
            f"{parent}: no folder can be made there ({error.strerror}); name another with "
            "--keep-uploads"
        ) from error


def _remove_orphans(temporary: Path) -> None:
    """Delete what servers left that were killed before they could."""
    for folder in temporary.glob(f"{PREFIX}*-*"):
        owner = folder.name.removeprefix(PREFIX).split("-")[0]
        if owner.isdigit() and not _runs(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(process: int) -> bool:
    if process == os.getpid() or os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _wait_for_the_end() -> None:
    ended = threading.Event()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: ended.set())
    while not ended.wait(1.0):  # a bounded wait, so that signals are seen on every system
        pass
