"""Blocks of samples to and from a stream, past Gradio, which would take longer than the conversion.

`POST live/TICKET` takes 16-bit little-endian samples and gives back as many; `DELETE` ends the
stream. Tickets come from the page alone (`live_start`), so a password that guards the page guards
this too.
"""

from __future__ import annotations

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from demo.live_streams import MAX_BLOCK_S, RATES_HZ, LiveStreams
from vc.audio import Waveform
from vc.errors import AudioError, VCError

MAX_BYTES = int(2 * MAX_BLOCK_S * RATES_HZ[1])


def live_route(streams: LiveStreams) -> Route:
    """The route to these streams."""

    async def exchange(request: Request) -> Response:
        ticket = request.path_params["ticket"]
        if request.method == "DELETE":
            streams.close(ticket)
            return Response(status_code=204)
        try:
            heard = unpack(await _body(request))
            said = await run_in_threadpool(streams.push, ticket, heard)
        except VCError as error:
            return PlainTextResponse(str(error), status_code=400)
        return Response(pack(said), media_type="application/octet-stream")

    return Route("/live/{ticket}", exchange, methods=["POST", "DELETE"])


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            raise AudioError(f"A block may have {MAX_BLOCK_S:g} s.")
    return body


def unpack(block: bytes) -> Waveform:
    """Samples `(samples,)` of a block.

    Raises:
        AudioError: it is damaged.
    """
    if len(block) % 2:
        raise AudioError("This block is damaged: it has half a sample.")
    return np.frombuffer(block, "<i2").astype(np.float32) / np.float32(32768)


def pack(waveform: Waveform) -> bytes:
    """The block for samples `(samples,)`."""
    return np.clip(np.round(waveform * 32768), -32768, 32767).astype("<i2").tobytes()
