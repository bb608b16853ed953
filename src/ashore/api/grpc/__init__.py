"""ashore over gRPC: typed requests in, the request path of `ashore.serving`, typed answers and status codes out.

Owns: the services `ashore.v1.Inference` and `ashore.v1.Releases`, health, reflection, how an error becomes a status.
Refuses to own: what a request means, who may ask, and when to stop (the API worker says so).
"""

from ashore.api.grpc.server import GrpcServer

__all__ = ["GrpcServer"]
