"""The edges of ashore: HTTP and gRPC. Parse, call, render; nothing is decided here.

Where to add what:

- What a connection of HTTP may do (limits, timeouts, what is not HTTP): api/http/server/connection.py. How an answer
  is framed: api/http/server/cycle.py.
- A metric of `/metrics`: `metrics` of its room (ROOM/room.py); of the request path a row in metrics.py.
- What clients send beside what a route knows: api/http/openai/dialects.py and api/http/anthropic/dialects.py.
- What an error looks like: bodies in api/http/errors.py, statuses of gRPC in api/grpc/status.py.
"""

__all__: list[str] = []
