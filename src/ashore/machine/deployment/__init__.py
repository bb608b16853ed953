"""Runs a plan under the supervisor: engine hosts, API workers, job worker, Envoy and Valkey."""

from ashore.machine.deployment.engineserver import serve_engine
from ashore.machine.deployment.listening import audit_link
from ashore.machine.deployment.moving import StoreMover
from ashore.machine.deployment.service import Deployment
from ashore.machine.deployment.standing import with_standing
from ashore.machine.deployment.unit import Service, render_unit
