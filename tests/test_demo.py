from __future__ import annotations

from collections.abc import Iterator

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from demo.app import build_app
from tests.conftest import EXAMPLES
from vc.audio import read_audio
from vc.convert import Converter


@pytest.fixture(scope="module")
def client(tiny: Converter) -> Iterator[Client]:
    app = build_app(tiny)
    _, url, _ = app.launch(
        prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, show_error=True
    )
    yield Client(url, verbose=False)
    app.close()


def convert(client: Client, consent: bool = True, source: str = "source.flac") -> str:
    return client.predict(
        handle_file(EXAMPLES / source),
        [handle_file(EXAMPLES / "reference.flac")],
        "Match the reference",
        0,
        consent,
        api_name="/convert",
    )


def test_a_conversion_through_the_page(client: Client) -> None:
    converted = read_audio(convert(client))
    source = read_audio(EXAMPLES / "source.flac")
    assert converted.sample_rate == source.sample_rate
    assert len(converted.waveform) == len(source.waveform)


def test_without_consent_nothing_is_converted(client: Client) -> None:
    with pytest.raises(AppError, match="confirm"):
        convert(client, consent=False)
