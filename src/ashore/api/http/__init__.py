"""HTTP: OpenAI's and Anthropic's routes, health, metrics, the description of the interface. Parse, call, render."""

from ashore.api.http.accesslog import AccessLog
from ashore.api.http.app import HttpApp
from ashore.api.http.face import Face
from ashore.api.http.relay import Relay
from ashore.api.http.server import HttpServer, listen
from ashore.api.http.siblings import Siblings
from ashore.api.http.table import DATA_ROUTES
