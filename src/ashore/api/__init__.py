"""The edges of ashore: HTTP and gRPC. Parse, call, render; nothing is decided here.

Where to add what:

- What a connection of HTTP may do (limits, timeouts, what is not HTTP): api/http/server/connection.py. How an answer
  is framed: api/http/server/cycle.py.
- A metric of `/metrics`: a row in metrics.py.
- What an error looks like: bodies in api/http/errors.py, statuses of gRPC in api/grpc/status.py.
"""

__all__: list[str] = []
