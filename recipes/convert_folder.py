"""Convert a folder of clips into one or more voices: `vc batch` as a script.

    python recipes/convert_folder.py recordings --reference voice.wav -o converted

See `vc batch --help` for everything it can do. From Python it is one call, behind a guard since
workers import the script again:

    from pathlib import Path
    from vc.batch import Settings, run_batch

    if __name__ == "__main__":
        run_batch([Path("recordings")], [Path("voice.wav")], Path("converted"), Settings())
"""

from __future__ import annotations

import sys

from vc.cli import main

if __name__ == "__main__":  # workers import this file again
    sys.exit(main(["batch", *sys.argv[1:]]))
