"""Operations: work on models and backups that takes minutes or hours: jobs of the queue, each in its own process.

Owns: what may be asked for (`calls.py`), from where it may read (`sources.py`), the process that does it and what it
says of its progress (`handler.py`). Refuses to own: the work, which is that of the command of the same name.

Where to add what: an operation is a struct in `asks.py`, a function and a row in `calls.py`, and a row in
`cli/operation.py`, which says which command does it.
"""

from ashore.jobs.operations.model import NAMES, Progress, Request, kind_of, name_of, progress_of, words_of

__all__ = ["NAMES", "Progress", "Request", "kind_of", "name_of", "progress_of", "words_of"]
