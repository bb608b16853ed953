"""Our own processes: start, watch, restart, stop; and the lock on a home.

Owns: lifetimes of children, their environment, logs and limits. Refuses: what a child does, and what a model is.
"""

from ashore.processes.silence import silence_dependencies

__all__ = ["silence_dependencies"]
