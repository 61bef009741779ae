"""Nothing that reaches the browser names a folder of the server, and nothing else is fetched.

Gradio tells the page where uploads and results lie, and the page tells it back: a temporary folder,
or a new one where `--keep-uploads` says. On the way out that folder is replaced by an alias, on the
way in the alias by the folder.

Where a program gives an address instead of an upload, Gradio would fetch it, however large it is
and before anybody has consented; and it would pass on to anyone what lies at any public address.
So such requests are refused.
"""

from __future__ import annotations

import html
import json
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.responses import JSONResponse

ALIAS = "/files-of-this-visit"
ADDRESS = "A clip must be a file, not an address: download it and give the file."
RELAYED = "Only files of this page are served; open the address itself."

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_WHOLE = ("application/json", "text/html")  # sent in one piece, with a length
_STREAM = "text/event-stream"  # each event in a piece of its own


class PrivatePaths:
    """ASGI middleware.

    Args:
        app: what is served.
        folder: whose name is to stay on the server.
    """

    def __init__(self, app: App, folder: Path) -> None:
        self.app = app
        plain = str(folder)
        self.plain, self.quoted, self.escaped = plain, quote(plain), json.dumps(plain)[1:-1]
        self.forms = sorted(
            {form.encode() for form in (plain, self.quoted, self.escaped, html.escape(plain))},
            key=len,
            reverse=True,
        )

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = {
            **scope,
            "path": scope["path"].replace(ALIAS, self.plain),
            "raw_path": self._inwards(scope.get("raw_path") or b"", self.quoted),
            "query_string": self._inwards(scope.get("query_string", b""), self.quoted),
        }
        if "://" in scope["path"]:
            await _refuse(RELAYED)(scope, receive, send)
            return
        if _is_json(_content_type(scope["headers"])):
            message = await self._whole(receive)
            if _names_address(message.get("body", b"")):
                await _refuse(ADDRESS)(scope, receive, send)
                return
            receive = _beginning_with(message, receive)
        await self.app(scope, receive, self._sending(send))

    def _inwards(self, text: bytes, form: str) -> bytes:
        return text.replace(ALIAS.encode(), form.encode())

    def _outwards(self, text: bytes) -> bytes:
        for form in self.forms:
            text = text.replace(form, ALIAS.encode())
        return text

    async def _whole(self, receive: Receive) -> Message:
        """Receive a body as a whole, with the folder in place of the alias."""
        parts: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return message
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                return {**message, "body": self._inwards(b"".join(parts), self.escaped)}

    def _sending(self, send: Send) -> Send:
        """Send with the alias in place of the folder."""
        start: Message = {}
        parts: list[bytes] = []

        async def send_hidden(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                if _content_type(message.get("headers", [])) not in _WHOLE:
                    await send(message)
                return
            kind = _content_type(start.get("headers", []))
            if message["type"] != "http.response.body" or kind not in (*_WHOLE, _STREAM):
                await send(message)
                return
            if kind == _STREAM:
                await send({**message, "body": self._outwards(message.get("body", b""))})
                return
            parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            body = self._outwards(b"".join(parts))
            others = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
            length = (b"content-length", str(len(body)).encode())
            await send({**start, "headers": [*others, length]})
            await send({**message, "body": body})

        return send_hidden


def _beginning_with(message: Message, receive: Receive) -> Receive:
    """Receive a message that has come already, then the others."""
    waiting = [message]

    async def receive_next() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_next


def _names_address(body: bytes) -> bool:
    """Whether a file in it is one that Gradio would fetch."""
    try:
        values = [json.loads(body)]
    except (ValueError, RecursionError):  # no body, or one that Gradio refuses too
        return False
    while values:
        value = values.pop()
        if isinstance(value, dict):
            path = value.get("path")
            if isinstance(path, str) and path.startswith(("http://", "https://")):
                return True
            values.extend(value.values())
        elif isinstance(value, list):
            values.extend(value)
    return False


def _refuse(message: str) -> JSONResponse:
    """An error as the page's others are, and in the form in which gradio_client shows it."""
    told = {"__type__": "validate", "is_valid": False, "parameter_name": "file", "message": message}
    return JSONResponse({"error": message, "detail": [told]}, 422)


def _is_json(kind: str) -> bool:
    """Whether such a body is read as JSON."""
    return kind == "application/json" or (
        kind.startswith("application/") and kind.endswith("+json")
    )


def _content_type(headers: list[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name.lower() == b"content-type":
            return value.decode("latin-1").split(";")[0].strip().lower()
    return ""
