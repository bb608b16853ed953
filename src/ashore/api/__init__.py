"""The edges of ashore: HTTP and gRPC. Parse, call, render; no decisions.

Where to add what:

- Rules of an HTTP connection (limits, timeouts, invalid messages): api/http/server/connection.py. How an answer is
  framed: api/http/server/cycle.py.
- A metric of `/metrics`: `metrics` of its room (ROOM/room.py); of the request path a row in metrics.py.
- Fields that clients send and a route does not know: api/http/openai/dialects.py and api/http/anthropic/dialects.py.
- The form of errors: bodies in api/http/errors.py, statuses of gRPC in api/grpc/status.py.
"""
