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
