"""JSON that may come from anywhere."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str) -> Any:
    """Read one JSON value.

    Raises:
        ValueError: it is not JSON, or is nested too deeply or has too long a number for it.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def json_lines(text: str) -> list[str]:
    """The lines of JSON Lines, which end at a newline alone: strings in them may hold U+2028."""
    return text.removesuffix("\n").split("\n") if text else []
