"""What answers tokens, in the API workers and the engine hosts: `python -m ashore.data.worker`.

Owns: the way of a request, and who may make it. Refuses to own: administration, the supervisor, work that takes
minutes.

Where to add what:

- Rules of an HTTP connection (limits, timeouts, invalid messages): data/http/server/connection.py. How an answer is
  framed: data/http/server/cycle.py.
- A metric of `/metrics`: `metrics` of its room (ROOM/room.py); of the request path a row in kit/metrics.py.
- Fields that clients send and a route does not know: data/http/openai/dialects.py and data/http/anthropic/handlers.py.
- The form of errors: bodies in data/http/errors.py, statuses of gRPC in data/grpc/status.py.
"""
