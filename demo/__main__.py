"""`python -m demo` is `vc demo`."""

from __future__ import annotations

import sys

from vc.cli import main

if __name__ == "__main__":
    sys.exit(main(["demo", *sys.argv[1:]]))
