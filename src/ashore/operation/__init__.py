"""What an operator asks a running server about itself: its logs, its configuration, its backups by itself.

Owns: these calls. Refuses to own: what runs (`deployment`), what a key of ashore.toml means (`config`), and copies
(`backup`).
"""

__all__: list[str] = []
