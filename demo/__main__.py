"""Open the demo in the browser: `python -m demo`."""

from __future__ import annotations

import vc
from demo.app import build_app

if __name__ == "__main__":
    build_app(vc.load()).launch(server_name="127.0.0.1", inbrowser=True, show_error=False)
