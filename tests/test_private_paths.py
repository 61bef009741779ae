"""The demo's page never learns where its files lie on the server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

pytest.importorskip("gradio")

from demo.private_paths import ALIAS, Message, PrivatePaths

FOLDER = Path("/invented/ann b/files")  # a space, as users' folders have
KINDS = ["application/json", "text/html; charset=utf-8", "text/event-stream"]


def ask(
    body: bytes = b"",
    answer: tuple[bytes, ...] = (b"{}",),
    kind: str = "application/json",
    path: str = "/",
    query: bytes = b"",
) -> tuple[dict[str, Any], list[Message]]:
    """What the app behind the middleware sees of a request, and what is sent back."""
    seen: dict[str, Any] = {}
    sent: list[Message] = []
    halves = [body[: len(body) // 2], body[len(body) // 2 :]]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        message = await receive()
        seen["body"] = message["body"]
        headers = [(b"content-type", kind.encode()), (b"content-length", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, part in enumerate(answer, 1):
            more = number < len(answer)
            await send({"type": "http.response.body", "body": part, "more_body": more})

    async def receive() -> Message:
        return {"type": "http.request", "body": halves.pop(0), "more_body": bool(halves)}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": query,
        "headers": [(b"content-type", b"application/json")],
    }
    asyncio.run(PrivatePaths(app, FOLDER)(scope, receive, send))
    return seen, sent


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [str(FOLDER), quote(str(FOLDER)), json.dumps(str(FOLDER))])
def test_no_answer_names_the_folder(kind: str, form: str) -> None:
    _, sent = ask(answer=(f'"{form}/a.wav" '.encode(), b"end"), kind=kind)
    body = b"".join(message.get("body", b"") for message in sent)
    assert b"ann" not in body
    assert f"{ALIAS}".encode() in body and body.endswith(b"end")
    if kind != "text/event-stream":
        (length,) = (v for k, v in sent[0]["headers"] if k == b"content-length")
        assert int(length) == len(body)


def test_sounds_are_sent_as_they_are() -> None:
    sound = (b"RIFF" + str(FOLDER).encode(), b"\x00\x01")
    _, sent = ask(answer=sound, kind="audio/wav")
    assert tuple(message["body"] for message in sent[1:]) == sound


def test_what_comes_in_finds_the_folder() -> None:
    body = json.dumps({"path": f"{ALIAS}/a.wav"}).encode()
    seen, _ = ask(body, path=f"/file={ALIAS}/a.wav", query=f"p={ALIAS}".encode())
    assert json.loads(seen["body"]) == {"path": str(FOLDER / "a.wav")}
    assert seen["path"] == f"/file={FOLDER}/a.wav"
    assert seen["raw_path"] == f"/file={quote(str(FOLDER))}/a.wav".encode().replace(b"=", b"%3D")
    assert seen["query_string"] == f"p={quote(str(FOLDER))}".encode()
