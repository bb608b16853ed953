"""Operations: work on models and backups that takes minutes or hours: jobs of the queue, each in its own process.

Owns: the inputs of an operation (`asks.py`), its rights (`calls.py`), its allowed sources (`sources.py`), its process
and progress (`handler.py`). Refuses to own: the work, which is a use case in `ashore.cli.bootstrap.operations`.

Where to add what: an operation is a struct in `asks.py`, a function and a row in `calls.py`, and an `Operation` in
`ashore.cli.bootstrap.operations`. Command, HTTP, form, job and help follow.
"""
