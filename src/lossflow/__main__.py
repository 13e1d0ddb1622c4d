"""`python -m lossflow` is the command `lossflow`."""

from __future__ import annotations

import sys

from lossflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
