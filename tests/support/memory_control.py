"""The control process of a server whose worker is `memory_worker.py`.

python memory_control.py RUN_DIR
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from ashore.control.process import serve


def main(words: list[str]) -> int:
    """Run it until it is told to stop."""
    logging.basicConfig(level="INFO", stream=sys.stderr)
    return asyncio.run(serve(Path(words[0]) / "topology.json"))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
