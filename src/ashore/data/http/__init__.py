"""HTTP: OpenAI's and Anthropic's routes, health, metrics, the description of the interface. Parse, call, render."""

from ashore.data.http.accesslog import AccessLog
from ashore.data.http.app import HttpApp, Siblings
from ashore.data.http.exchange import JSON, Exchange
from ashore.data.http.face import Face
from ashore.data.http.mcp import check_origin
from ashore.data.http.relay import Relay
from ashore.data.http.server import HttpServer, listen
from ashore.data.http.table import DATA_ROUTES
