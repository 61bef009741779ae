"""`python -m vc` is the command `vc`."""

import sys

from vc.cli import main

if __name__ == "__main__":  # worker processes import this again
    sys.exit(main())
