"""The edges of ashore: HTTP and gRPC. Parse, call, render; nothing is decided here."""

__all__: list[str] = []
