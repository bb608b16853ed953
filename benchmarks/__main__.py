"""`python -m benchmarks`: the table of serving figures."""

import sys

from benchmarks.serve_table import main

sys.exit(main())
