"""ashore over gRPC: typed requests in, the request path of `ashore.data.path`, typed answers and status codes out.

Owns: the service `ashore.v1.Inference`, health, reflection, how an error becomes a status. Refuses to own: what a
request means, authorisation, when to stop (the API worker decides), and administration, which is HTTP and the command
line.
"""

from ashore.data.grpc.server import GrpcServer
