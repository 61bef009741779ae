"""The page: its tabs, put together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from demo.batch_tab import batch_tab
from demo.blend_tab import blend_tab
from demo.codes_tab import codes_tab
from demo.convert_tab import convert_tab
from demo.history_tab import history_tab
from demo.live_route import live_route
from demo.live_tab import live_tab
from demo.look_tab import look_tab
from demo.private_paths import PrivatePaths
from demo.studio import Studio
from demo.visit_route import visit_route
from demo.visits import FORGOTTEN_AFTER_S, MAX_VISITS

HERE = Path(__file__).parent
SCRIPTS = ("compare.js", "connection.js", "live.js")
QUEUE_LENGTH = 100


def build_page(studio: Studio) -> gr.Blocks:
    """Build the page around a studio; it is not served yet."""
    keep = studio.settings.keep_uploads is not None
    cleaning = None if keep else (3600, int(FORGOTTEN_AFTER_S))
    with gr.Blocks(title="Voice converter", analytics_enabled=False, delete_cache=cleaning) as page:
        gr.HTML(
            "<h1>Voice converter</h1><p>The words of one clip, in the voice of another.</p>",
            elem_classes="vc-title",
        )
        with gr.Tabs() as tabs:
            with gr.Tab("Convert", id="convert"):
                convert = convert_tab(studio)
            with gr.Tab("Live", id="live"):
                live_tab(studio, convert)
            with gr.Tab("Look", id="look"):
                pictures = look_tab(studio, convert)
            with gr.Tab("Blend & keep", id="blend"):
                blend_tab(studio, convert, tabs)
            with gr.Tab("Batch", id="batch"):
                batch_tab(studio, convert)
            with gr.Tab("Text & bytes", id="codes"):
                codes_tab(studio, convert)
            with gr.Tab("History", id="history"):
                history_tab(studio, convert, pictures)
        gr.HTML(_about_files(studio), elem_classes="vc-note", elem_id="about-files")

        def leave(request: gr.Request) -> None:
            studio.visits.lose(request.session_hash)

        def session(request: gr.Request) -> str | None:
            return request.session_hash

        page.unload(leave)
        visit = gr.Textbox(visible="hidden")
        begun = page.load(
            session, None, visit, api_visibility="private", queue=False, show_progress="hidden"
        )
        begun.then(None, visit, None, js="(visit) => { window.vcVisit = visit; }")
    page.queue(max_size=QUEUE_LENGTH, default_concurrency_limit=4)
    return page


def launch_options(studio: Studio) -> dict[str, Any]:
    """Arguments of `Blocks.launch` that belong to the page: looks, limits, nothing public."""
    scripts = "".join(
        f"<script>{(HERE / name).read_text(encoding='utf-8')}</script>" for name in SCRIPTS
    )
    options: dict[str, Any] = {
        "theme": _theme(),
        "css_paths": HERE / "pages.css",
        "head": f'<meta name="description" content="Voice converter">{scripts}',
        "state_session_capacity": MAX_VISITS,  # what Gradio remembers of each
        "max_file_size": round(studio.settings.max_mb * 1e6),
        "footer_links": ["api"],
        "share": False,
        "show_error": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "enable_monitoring": False,
        "run_history": False,
        "quiet": True,
        "app_kwargs": {
            "middleware": [Middleware(PrivatePaths, folder=studio.folder)],
            "routes": [live_route(studio.streams), visit_route(studio.visits)],
        },
    }
    return options


def _theme() -> gr.themes.Base:
    """System fonts: nothing is fetched from another host."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    theme = gr.themes.Soft(
        primary_hue="blue",
        secondary_hue="blue",
        neutral_hue="zinc",
        font=fonts,
        font_mono=["ui-monospace", "Consolas", "monospace"],
    )
    return theme.set(  # quieter labels, and text and buttons with enough contrast
        block_title_background_fill="transparent",
        block_title_text_color="*body_text_color",
        block_title_padding="0",
        block_label_background_fill="transparent",
        block_label_text_color="*body_text_color",
        block_label_background_fill_dark="transparent",
        block_label_text_color_dark="*body_text_color",
        block_title_background_fill_dark="transparent",
        block_title_text_color_dark="*body_text_color",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        block_border_width="1px",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_700",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        checkbox_label_background_fill_selected="*primary_600",
        checkbox_label_background_fill_selected_dark="*primary_600",
    )


def _about_files(studio: Studio) -> str:
    settings = studio.settings
    limits = f"Clips may have {settings.max_minutes:g} minutes and {settings.max_mb:g} MB each."
    if settings.keep_uploads is not None:
        kept = (
            "<b>Whoever runs this server keeps what you upload, record and convert here.</b> "
            "Do not give it what it should not keep."
        )
    else:
        kept = (
            "Everything is computed on the machine that serves this page. What you upload, record "
            "and convert lies in a temporary folder there while the page is open; it is deleted "
            "when you close or reload the page, or leave it asleep for some minutes, and at the "
            "latest when the server ends. Only your consent is remembered, in this browser."
        )
    return f"<p>{kept} {limits} Results carry a note in their metadata that they are synthetic.</p>"
