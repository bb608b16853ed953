"""`python -m benchmarks`: the table of serving figures; `python -m benchmarks shapes`: real shapes, made up."""

import sys

from benchmarks import serve_table, shapes

sys.exit(shapes.main(sys.argv[2:]) if sys.argv[1:2] == ["shapes"] else serve_table.main())
