"""The page as a person uses it, in headless Chromium."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from demo.settings import DemoSettings
from tests.conftest import EXAMPLES
from tests.demo_server import Served, serving
from vc.audio import Audio, read_audio, resample, write_audio
from vc.convert import Converter
from vc.model.speaker_encoder import split_embedding

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
benchmark = pytest.importorskip("benchmarks.demo", reason="run it from a clone")
CHROMIUM: str | None = benchmark.CHROMIUM
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")

SOURCE, REFERENCE = EXAMPLES / "source.flac", EXAMPLES / "reference.flac"
FLAGS = [
    *benchmark.FLAGS,
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]
PATIENCE_MS = 180_000  # a busy machine is slow, not broken


@dataclass
class Visit:
    """A page, with what it asked for and complained about."""

    page: playwright.Page
    url: str
    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def open(self) -> None:
        def heard(message: playwright.ConsoleMessage) -> None:
            if message.type == "error":
                self.complaints.append(message.text)

        def asked(request: playwright.Request) -> None:
            if not request.url.startswith((self.url, "data:", "blob:")):
                self.strangers.append(request.url)

        self.page.on("console", heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", asked)
        self.page.goto(self.url)
        self.page.wait_for_selector("#convert")

    def give(self, source: Path | None = None, reference: Path | None = None) -> None:
        if source is not None:
            self.page.set_input_files("#source input[type=file]", source)
            self.page.wait_for_selector("#source-status li")
        if reference is not None:
            self.page.set_input_files("#references input[type=file]", reference)
            self.page.wait_for_selector("#references-status li")

    def convert(self) -> None:
        self.page.click("#convert")
        self.page.wait_for_selector("#compare audio", state="attached")

    def download(self, to: Path) -> Audio:
        with self.page.expect_download() as started:
            self.page.click("#result a[download]")
        started.value.save_as(to)
        return read_audio(to)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[playwright.Browser]:
    # the microphone hears this clip, over and over
    clip = tmp_path_factory.mktemp("microphone") / "clip.wav"
    audio = read_audio(SOURCE)
    write_audio(clip, Audio(resample(audio.waveform, audio.sample_rate, 48_000), 48_000))
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM,
            args=[*FLAGS, f"--use-file-for-fake-audio-capture={clip}"],
            timeout=PATIENCE_MS,
        )
        yield browser
        browser.close()


def visit(browser: playwright.Browser, url: str, **options: object) -> Visit:
    context = browser.new_context(permissions=["microphone"], **options)
    context.set_default_timeout(PATIENCE_MS)
    context.set_default_navigation_timeout(PATIENCE_MS)
    opened = Visit(context.new_page(), url)
    opened.open()
    return opened


@pytest.fixture(scope="module")
def served(tiny: Converter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tiny, tmp_path_factory.mktemp("browser"), DemoSettings()) as running:
        yield running


def test_record_upload_convert_compare_play_and_download(
    browser: playwright.Browser, shipped: Converter, tmp_path: Path
) -> None:
    with serving(shipped, tmp_path / "files") as served:
        here = visit(browser, served.url)
        page = here.page
        page.get_by_label(re.compile("Record audio", re.I)).first.click()
        page.click("#source .record-button")
        page.wait_for_timeout(5_000)
        page.click("#source .stop-button")
        page.wait_for_selector("#source-status li")
        here.give(reference=REFERENCE)
        page.check("#consent input")
        here.convert()
        converted = here.download(tmp_path / "down.wav")
        assert str(served.folder) not in page.content()  # what the page knows of the server
        brought = next(path for path in served.files() if path.name == "audio.wav")
        recorded = read_audio(brought)
        assert recorded.duration_s > 2
        assert len(converted.waveform) == len(recorded.waveform)
        voices = [
            split_embedding(
                shipped.voice(clip).speaker_embedding[None], shipped.autoencoder.config
            ).identity[0]
            for clip in (converted, REFERENCE, recorded)
        ]
        assert voices[0] @ voices[1] > voices[0] @ voices[2] + 0.1
        _compare(page)
        page.get_by_role("tab", name="Look").click()
        page.wait_for_selector("#look .vc-map")
        page.get_by_role("tab", name="History").click()
        page.wait_for_selector("#history audio")
        page.context.close()
        assert here.complaints == []
        assert here.strangers == []


def test_whoever_speaks_hears_the_converted_voice(
    browser: playwright.Browser, shipped: Converter, tmp_path: Path
) -> None:
    with serving(shipped, tmp_path / "files") as served:
        here = visit(browser, served.url, viewport={"width": 390, "height": 844})
        page = here.page
        page.get_by_role("tab", name="Live").click()
        page.click("#live-start")
        page.get_by_text("Please confirm on the Convert tab").wait_for()
        page.get_by_role("tab", name="Convert").click()
        page.check("#consent input")
        page.get_by_role("tab", name="Live").click()
        page.set_input_files("#live-references input[type=file]", REFERENCE)
        page.wait_for_selector("#live-references-status li")
        page.focus("#live-start")
        page.keyboard.press("Enter")
        page.wait_for_selector(".vc-live[data-state=live]")
        level = "document.querySelector('.vc-live meter[data-role=played]').value"
        page.wait_for_function(f"{level} > 0.3")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.click("#live-stop")
        page.wait_for_selector(".vc-live[data-state=off]")
        assert "Stopped" in page.inner_text(".vc-live")
        page.wait_for_function(f"{level} === 0")
        page.context.close()
        assert here.complaints == [] and here.strangers == []


def _compare(page: playwright.Page) -> None:
    """Switching goes on playing at the same position."""
    position = "document.querySelector('.vc-compare audio[data-current=yes]').currentTime"
    page.click(".vc-compare .vc-play")
    page.wait_for_function(f"{position} > 0.5")
    page.click(".vc-clips button[data-role=source]")
    assert page.evaluate(position) > 0.4
    page.wait_for_function(f"{position} > 0.8")
    playing = "[...document.querySelectorAll('.vc-compare audio')].filter(a => !a.paused).length"
    assert page.evaluate(playing) == 1
    assert page.get_attribute(".vc-clips button[data-role=source]", "aria-pressed") == "true"
    page.click(".vc-compare .vc-play")
    page.wait_for_function(f"({playing}) === 0")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_without_sideways_scrolling(
    browser: playwright.Browser, served: Served, tmp_path: Path, scheme: str
) -> None:
    clip = tmp_path / "VID_20240501_123456_interview_with_my_grandmother_part_two.flac"
    shutil.copyfile(SOURCE, clip)
    here = visit(browser, served.url, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page = here.page
    here.give(clip, clip)
    page.check("#consent input")
    here.convert()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    dark = page.evaluate("document.body.classList.contains('dark')")
    assert dark == (scheme == "dark")
    assert here.complaints == [] and here.strangers == []
    page.context.close()


def test_the_keyboard_is_enough_and_everything_has_a_name(
    browser: playwright.Browser, served: Served
) -> None:
    here = visit(browser, served.url)
    page = here.page

    def tab_to(selector: str) -> None:
        for _ in range(80):
            page.keyboard.press("Tab")
            if page.evaluate(f"document.activeElement.closest({selector!r}) !== null"):
                return
        raise AssertionError(f"Tab does not reach {selector}")

    tab_to("#examples")
    page.keyboard.press("Enter")
    page.wait_for_selector("#references-status li")
    tab_to("#consent")
    page.keyboard.press("Space")
    tab_to("#convert")
    page.keyboard.press("Enter")
    page.wait_for_selector("#compare audio", state="attached")
    tab_to(".vc-clips button[data-role=source]")
    page.keyboard.press("Control+1")  # the browser's, not the panel's
    assert page.get_attribute(".vc-clips button[data-role=result]", "aria-pressed") == "true"
    page.keyboard.press("2")
    assert page.get_attribute(".vc-clips button[data-role=reference]", "aria-pressed") == "true"
    nameless = page.evaluate(
        """[...document.querySelectorAll('button, input:not([type=file])')]
        .filter(e => e.offsetParent && !(e.innerText?.trim() || e.ariaLabel || e.title
            || e.closest('label') || e.getAttribute('aria-labelledby')
            || (e.id && document.querySelector(`label[for="${e.id}"]`))))
        .map(e => e.outerHTML.slice(0, 200))"""
    )
    assert nameless == []
    page.context.close()


def test_consent_is_remembered_and_a_second_click_is_ignored(
    browser: playwright.Browser, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    plain = served.studio.convert

    def counted(*arguments: object) -> str:
        nonlocal calls
        calls += 1
        return plain(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(served.studio, "convert", counted)
    here = visit(browser, served.url)
    page = here.page
    page.click("#examples")
    page.wait_for_selector("#references-status li")
    page.click("#convert")
    page.get_by_text("Please confirm first").wait_for()
    page.check("#consent input")
    page.dblclick("#convert")
    page.wait_for_selector("#compare audio", state="attached")
    assert calls == 1
    page.reload()
    page.wait_for_selector("#consent input:checked")
    page.context.close()


def test_a_result_is_named_after_the_clips_it_was_made_of_and_can_be_deleted(
    browser: playwright.Browser, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, going_on = threading.Event(), threading.Event()
    plain = served.studio.convert

    def waiting(*arguments: object) -> str:
        begun.set()
        assert going_on.wait(PATIENCE_MS / 1000)
        return plain(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(served.studio, "convert", waiting)
    here = visit(browser, served.url)
    page = here.page
    here.give(SOURCE, REFERENCE)
    page.check("#consent input")
    page.click("#convert")
    assert begun.wait(PATIENCE_MS / 1000)
    page.click("#examples")  # other clips, chosen meanwhile
    page.locator("#references", has_text="example").wait_for()
    going_on.set()
    page.wait_for_selector("#compare audio", state="attached")
    names = [page.inner_text("#compare")]
    page.get_by_role("tab", name="History").click()
    page.wait_for_selector("#history audio")
    names.append(page.inner_text("#history"))
    for text in names:
        assert "source.flac" in text and "reference.flac" in text and "example" not in text
    page.click("#clear-history")
    page.wait_for_selector("#compare .vc-empty", state="attached")
    page.wait_for_selector("#result a[download]", state="detached")
    page.context.close()


def test_bad_clips_are_named_before_converting(
    browser: playwright.Browser, served: Served, tmp_path: Path
) -> None:
    write_audio(tmp_path / "silent.wav", Audio(np.zeros(32_000, np.float32), 16_000))
    (tmp_path / "text.wav").write_text("no audio")
    here = visit(browser, served.url)
    here.give(reference=tmp_path / "silent.wav")
    assert "is silent" in here.page.inner_text("#references-status")
    here.give(source=SOURCE)
    assert "sounds fine" in here.page.inner_text("#source-status")
    here.page.context.close()


def test_leaving_the_page_deletes_its_files(
    browser: playwright.Browser, tiny: Converter, tmp_path: Path
) -> None:
    unused = tmp_path / "unused.wav"
    write_audio(unused, Audio(np.zeros(16_000, np.float32), 16_000))
    with serving(tiny, tmp_path / "files") as served:
        here = visit(browser, served.url)
        here.give(SOURCE, REFERENCE)
        here.page.get_by_role("tab", name="Batch").click()
        with here.page.expect_response(re.compile("/run/")):  # nothing but the upload
            here.page.set_input_files("#batch-sources input[type=file]", unused)
        assert len(served.files()) == 3
        here.page.context.close()
        for _ in range(300):
            if not served.files():
                break
            playwright_wait(browser)
        assert served.files() == []


def test_a_page_says_that_it_is_there_and_that_it_leaves(
    browser: playwright.Browser, tiny: Converter, tmp_path: Path
) -> None:
    with serving(tiny, tmp_path / "files") as served:
        here = visit(browser, served.url)
        here.give(SOURCE)
        here.page.wait_for_function("window.vcVisit")
        with here.page.expect_response(re.compile("/visit/")) as told:
            here.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        assert told.value.status == 204
        assert served.files()
        here.page.goto("about:blank")
        for _ in range(60):  # far less than Gradio and the grace of a lost connection take
            if not served.files():
                break
            here.page.wait_for_timeout(300)
        assert served.files() == []
        here.page.context.close()


def playwright_wait(browser: playwright.Browser) -> None:
    page = browser.new_page()
    page.wait_for_timeout(300)
    page.close()


def test_a_page_goes_on_after_its_server_was_restarted(
    browser: playwright.Browser, tiny: Converter, tmp_path: Path
) -> None:
    with serving(tiny, tmp_path / "first") as first:
        here = visit(browser, first.url)
        here.give(SOURCE, REFERENCE)
        here.page.check("#consent input")
        port = int(first.url.rstrip("/").rsplit(":", 1)[1])
    with serving(tiny, tmp_path / "second", DemoSettings(port=port)):
        page = here.page
        page.click("#convert")
        # the page says that its clips are gone, or Gradio has reloaded it by itself
        page.wait_for_function(
            "document.querySelector('.vc-restarted') || "
            "(document.querySelector('#convert') && !document.querySelector('#source-status li'))"
        )
        body = page.inner_text("body")
        assert "Traceback" not in body and str(tmp_path) not in body
        if page.query_selector(".vc-restarted button"):
            page.click(".vc-restarted button")
        page.wait_for_selector("#consent input:checked")
        here.give(SOURCE, REFERENCE)
        here.convert()
        page.context.close()
