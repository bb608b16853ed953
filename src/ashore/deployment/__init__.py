"""Runs a plan under the supervisor: engine hosts, API workers, job worker, Envoy and Valkey."""

from ashore.deployment.engineserver import serve_engine
from ashore.deployment.listening import audit_link
from ashore.deployment.moving import StoreMover
from ashore.deployment.service import Deployment
from ashore.deployment.unit import Service, render_unit
