"""The Live tab's side on the server, as the page and a program use it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

pytest.importorskip("gradio")

from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from demo.live_route import pack, unpack
from demo.live_streams import IDLE_S, LONGEST_S, LiveStreams
from demo.page import build_page
from demo.settings import DemoSettings
from demo.studio import Studio
from tests.conftest import EXAMPLES
from tests.demo_server import Served, serving
from vc.audio import Waveform, read_audio
from vc.convert import Converter
from vc.errors import VCError
from vc.streaming.stream import Stream

REFERENCE = EXAMPLES / "reference.flac"
RATE = 16_000


@pytest.fixture(scope="module")
def served(shipped: Converter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(shipped, tmp_path_factory.mktemp("live")) as running:
        yield running


@pytest.fixture(autouse=True)
def one_stream_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo.live_streams.MAX_STREAMS", 1)


@pytest.fixture(scope="module")
def spoken() -> Waveform:
    """Half a second."""
    audio = read_audio(EXAMPLES / "source.flac")
    assert audio.sample_rate == RATE
    return unpack(pack(audio.waveform[RATE : RATE + RATE // 2]))


@pytest.fixture
def studio(tiny: Converter, tmp_path: Path) -> Studio:
    return Studio(tiny, DemoSettings(), tmp_path)


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Client]:
    client = Client(served.url, verbose=False)
    yield client
    client.close()


def start(client: Client, consent: bool = True, rate: int = RATE, denoise: bool = False) -> str:
    clips = [handle_file(REFERENCE)]
    arguments = (clips, None, "Match the reference", denoise, consent, rate)
    ticket, lag_s = client.predict(*arguments, api_name="/live_start")
    assert 0 < lag_s < 0.15
    return str(ticket)


def push(served: Served, ticket: str, block: bytes) -> bytes | str:
    """What comes back, or what is wrong."""
    answer = httpx.post(f"{served.url}live/{ticket}", content=block, timeout=60)
    assert answer.status_code in (200, 400)
    return answer.content if answer.is_success else answer.text


def stop(served: Served, ticket: str) -> None:
    assert httpx.delete(f"{served.url}live/{ticket}").is_success


@pytest.mark.parametrize("denoise", [False, True])
def test_blocks_come_back_as_the_stream_converts_them(
    served: Served, client: Client, shipped: Converter, spoken: Waveform, denoise: bool
) -> None:
    ticket = start(client, denoise=denoise)
    stream = Stream(shipped, REFERENCE, sample_rate=RATE, denoise=denoise)
    for block in np.split(spoken, [1_000, 1_001, 3_000]):
        made = unpack(push(served, ticket, pack(block)))
        np.testing.assert_allclose(made, stream.push(block), atol=1e-4)
    stop(served, ticket)
    assert "has ended" in push(served, ticket, pack(spoken))


def test_a_second_visitor_is_told_and_the_first_may_begin_anew(
    served: Served, client: Client
) -> None:
    second = Client(served.url, verbose=False)
    earlier = start(client)
    with pytest.raises(AppError, match="Somebody else is speaking"):
        start(second)
    ticket = start(client)
    assert "has ended" in push(served, earlier, b"")
    stop(served, ticket)
    served.studio.streams.end(second.session_hash)
    assert start(second)
    served.studio.streams.end(second.session_hash)
    second.close()


def test_what_cannot_be_converted_is_refused_in_plain_words(served: Served, client: Client) -> None:
    with pytest.raises(AppError, match="confirm"):
        start(client, consent=False)
    with pytest.raises(AppError, match="runs at 4000 Hz"):
        start(client, rate=4_000)
    with pytest.raises(AppError, match="at least one clip"):
        client.predict(None, None, "Match the reference", False, True, RATE, api_name="/live_start")
    ticket = start(client)
    assert "half a sample" in push(served, ticket, b"odd")
    for seconds in (3, 60):
        long = pack(np.zeros(seconds * RATE, np.float32))
        assert "may have 2 s" in push(served, ticket, long)
    assert len(push(served, ticket, bytes(18))) == 18
    stop(served, ticket)


def test_who_has_not_logged_in_gets_no_stream(tiny: Converter, tmp_path: Path) -> None:
    with serving(tiny, tmp_path, DemoSettings(user="ann", password="secret")) as served:
        address = f"{served.url}gradio_api/run/live_start"
        assert httpx.post(address, json={"data": []}).status_code == 401
        assert "has ended" in push(served, "0" * 32, b"")


def test_a_stream_that_nobody_feeds_or_that_lasted_long_gives_its_place(
    shipped: Converter, spoken: Waveform
) -> None:
    now = 0.0
    streams = LiveStreams(shipped, clock=lambda: now)
    left, _ = streams.open("a", [REFERENCE], "match", RATE)
    now = IDLE_S - 1
    with pytest.raises(VCError, match="Somebody else"):
        streams.open("b", [REFERENCE], "match", RATE)
    now = IDLE_S + 1
    ticket, _ = streams.open("b", [REFERENCE], "match", RATE)
    with pytest.raises(VCError, match="has ended"):
        streams.push(left, spoken)
    now += LONGEST_S + 1
    with pytest.raises(VCError, match="has ended, as each does after 10 minutes"):
        streams.push(ticket, spoken)
    with pytest.raises(VCError, match="has ended"):
        streams.push(ticket, spoken)
    streams.open("c", [REFERENCE], "match", RATE)  # there is a place again
    streams.end("c")


def test_the_page_says_how_long_a_stream_lasts_and_when_choices_count(client: Client) -> None:
    shown = str([c["props"].get("value") for c in client.config["components"]])
    assert "count from the next Start" in shown and "lasts 10 minutes" in shown


def test_a_stream_that_cannot_be_made_takes_no_place(tiny: Converter) -> None:
    streams = LiveStreams(tiny)
    for _ in range(2):
        with pytest.raises(VCError, match="cannot be streamed"):
            streams.open("a", [REFERENCE], "match", RATE)


def test_a_voice_is_learnt_in_a_slot_and_the_minutes_begin_when_the_stream_is_there(
    tiny: Converter, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    events: list[str] = []

    @contextlib.contextmanager
    def slot() -> Iterator[None]:
        nonlocal now
        events.append("slot")
        yield
        events.append("free")
        now += LONGEST_S + 1  # a long wait
        with pytest.raises(VCError, match="Somebody else"):  # the place is not given away
            streams.open("b", [REFERENCE], "match", RATE)

    class Silence:
        latency_s, sample_rate = 0.1, RATE

        def __init__(self, converter: Converter, voice: object, *_: object, **__: object) -> None:
            events.append(type(voice).__name__)

        def push(self, waveform: Waveform) -> Waveform:
            return waveform

    monkeypatch.setattr("demo.live_streams.Stream", Silence)
    streams = LiveStreams(tiny, clock=lambda: now, slot=slot)
    ticket, _ = streams.open("a", [REFERENCE], "match", RATE)
    assert events == ["slot", "free", "Voice"]
    now += LONGEST_S - 1
    assert len(streams.push(ticket, np.zeros(8, np.float32))) == 8
    streams.end("a")


def test_learning_waits_for_conversions_but_checks_do_not_wait_for_it(studio: Studio) -> None:
    assert studio.streams.slot == studio._slot
    queues = {fn.api_name: fn.concurrency_id for fn in build_page(studio).fns.values()}
    assert queues["live_start"] not in (queues["check_source"], queues["convert"])


def test_a_stream_is_computed_by_one_thread_and_conversions_by_as_many_as_before(
    shipped: Converter, spoken: Waveform, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        streams = LiveStreams(shipped)
        ticket, _ = streams.open("a", [REFERENCE], "match", RATE)
        used: list[int] = []

        def push(stream: Stream, waveform: Waveform) -> Waveform:
            used.append(torch.get_num_threads())
            return waveform

        monkeypatch.setattr(Stream, "push", push)
        np.testing.assert_array_equal(streams.push(ticket, spoken), spoken)
        other = threading.Thread(target=lambda: used.append(torch.get_num_threads()))
        other.start()
        other.join()
        assert used == [1, 3]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
