"""The edges of ashore: HTTP and gRPC. Parse, call, render; no decisions.

Where to add what:

- Rules of an HTTP connection (limits, timeouts, invalid messages): data/http/server/connection.py. How an answer is
  framed: data/http/server/cycle.py.
- A metric of `/metrics`: `metrics` of its room (ROOM/room.py); of the request path a row in metrics.py.
- Fields that clients send and a route does not know: data/http/openai/dialects.py and data/http/anthropic/dialects.py.
- The form of errors: bodies in data/http/errors.py, statuses of gRPC in data/grpc/status.py.
"""
