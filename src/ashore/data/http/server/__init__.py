"""HTTP/1.1 in the event loop of the worker: listeners, connections, and each request with its answer."""

from ashore.data.http.server.connection import MAX_HEADER_BYTES
from ashore.data.http.server.listening import listen
from ashore.data.http.server.server import HttpServer
