"""How long a person waits for the demo: from `vc demo` to a page to use, from click to result.

    python benchmarks/demo.py [SOURCE REFERENCE]

Drives the page with Chromium (on the PATH) through Playwright, which the `dev` extra brings. The
clips are the examples by default. Prints one line for each of five conversions.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

EXAMPLES = Path(__file__).parent.parent / "vc" / "examples"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_PATIENCE_S = 60.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def open_page(page: Page, url: str, started: float) -> float:
    """Wait until the page can be used; seconds since `started`."""
    while True:
        try:
            page.goto(url)
            break
        except Exception:  # nobody answers yet
            if time.monotonic() - started > _PATIENCE_S:
                raise
            time.sleep(0.05)
    page.wait_for_selector("#convert")
    return time.monotonic() - started


def conversion_s(page: Page, source: Path, reference: Path) -> tuple[float, float]:
    """Seconds from click to result: in a new voice, and in it once more."""
    page.reload()
    page.wait_for_selector("#convert")
    page.set_input_files("#source input[type=file]", source)
    page.wait_for_selector("#source-status li")
    page.set_input_files("#references input[type=file]", reference)
    page.wait_for_selector("#references-status li")
    page.locator("#consent input").check()
    return _clicked(page), _clicked(page)


def _clicked(page: Page) -> float:
    """Seconds from a click to another result than before."""
    result = "[...document.querySelectorAll('#compare audio')].map(a => a.src).join()"
    before = page.evaluate(result)
    started = time.monotonic()
    page.click("#convert")
    page.wait_for_function(f"before => {result} && {result} !== before", arg=before)
    return time.monotonic() - started


def main() -> None:
    """Start the server, measure, stop it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("source", type=Path, nargs="?", default=EXAMPLES / "source.flac")
    parser.add_argument("reference", type=Path, nargs="?", default=EXAMPLES / "reference.flac")
    options = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        started = time.monotonic()
        command = ["-m", "vc", "demo", "--no-browser", "--port", str(port)]
        server = subprocess.Popen([sys.executable, *command], cwd=folder, stdout=subprocess.DEVNULL)
        try:
            print(f"usable page after {open_page(page, f'http://127.0.0.1:{port}', started):.1f} s")
            for _ in range(5):
                new, again = conversion_s(page, options.source, options.reference)
                print(f"converted {new:.2f} s after the click, and {again:.2f} s once more")
        finally:
            browser.close()
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
