"""What is brought belongs to the visit at once, so that it goes with it though it was never used.

Components with a check of their own, such as those of the Convert tab, need none of this.
"""

from __future__ import annotations

import gradio as gr

from demo.studio import Studio


def belong_to_the_visit(studio: Studio, *components: gr.Audio | gr.File) -> None:
    """Remember whose files these are whenever they change."""

    def bring(brought: str | list[str] | None, request: gr.Request) -> None:
        paths = [brought] if isinstance(brought, str) else brought or []
        studio.visits.add(request.session_hash, paths)

    for component in components:
        component.change(
            bring,
            component,
            None,
            api_visibility="private",
            queue=False,
            show_progress="hidden",
        )
