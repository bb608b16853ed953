"""Entry point of the control process: `python -m ashore.control --run DIR`."""

from ashore.control.process import main

if __name__ == "__main__":
    raise SystemExit(main())
