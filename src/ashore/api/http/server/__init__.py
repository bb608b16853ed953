"""HTTP/1.1 in the event loop of the worker: listeners, connections, and each request with its answer."""

from ashore.api.http.server.connection import MAX_HEADER_BYTES
from ashore.api.http.server.listening import listen
from ashore.api.http.server.server import HttpServer
