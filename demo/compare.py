"""A/B/X listening: source, reference and result behind three buttons, at one position.

The behaviour is in `compare.js`.
"""

from __future__ import annotations

import html
from pathlib import Path
from urllib.parse import quote

ROLES = {"source": "A · Source", "reference": "B · Reference", "result": "X · Result"}


def file_url(path: str | Path) -> str:
    """Where the browser finds a file of this visit, relative to the page."""
    return "gradio_api/file=" + quote(str(path))


def compare_panel(clips: dict[str, str | None]) -> str:
    """HTML of the panel.

    Args:
        clips: file of each role; one without a file cannot be chosen.
    """
    players, buttons = [], []
    for role, label in ROLES.items():
        path = clips.get(role)
        chosen = role == "result"
        name = html.escape(Path(path).name if path and role != "result" else "")
        if path:
            players.append(
                f'<audio data-role="{role}" data-current="{"yes" if chosen else "no"}" '
                f'preload="auto" src="{html.escape(file_url(path))}"></audio>'
            )
        buttons.append(
            f'<button type="button" data-role="{role}" style="--own: var(--vc-{role})" '
            f'aria-pressed="{str(chosen).lower()}"{"" if path else " disabled"}>'
            f"<b>{label}</b><small>{name or ('converted' if path else 'no clip')}</small></button>"
        )
    return (
        '<section class="vc-compare" aria-label="Compare source, reference and result">'
        "<h3>Compare with one click</h3>"
        f'{"".join(players)}<div class="vc-clips">{"".join(buttons)}</div>'
        '<div class="vc-transport">'
        '<button type="button" class="vc-play" aria-label="Play">▶</button>'
        '<input type="range" min="0" max="1" step="any" value="0" aria-label="Position">'
        "<span>0:00</span></div></section>"
    )
