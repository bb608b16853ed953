"""Run the command line of a tree under the name that a user types, which it prints in hints."""

import sys
from pathlib import Path

from ashore.cli.main import main

if __name__ == "__main__":
    sys.argv[0] = str(Path(__file__).parents[1] / "bin/ashore")
    sys.exit(main())
