"""A plan brought to life under the supervisor: engine hosts, API workers, job worker, Envoy and Valkey.

Stands beside `bootstrap`, outside the floors: it joins rooms that do not know each other.
"""

from ashore.deployment.listening import audit_link
from ashore.deployment.service import Deployment
from ashore.deployment.unit import Service, render_unit

__all__ = ["Deployment", "Service", "audit_link", "render_unit"]
