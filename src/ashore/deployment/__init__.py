"""A plan brought to life under the supervisor: engine hosts, API workers, job worker, Envoy and Valkey.

Stands below `bootstrap`: it joins rooms that do not know each other.

Where to add what:

- A child process: its `ChildSpec` in deployment/children.py. It takes its pulse (`take_pulse`) at its start, and
  beats from what must not hang: its loop, or a thread beside a step.
- Something that the supervisor does every so often: `Supervisor.call_every` with a name for the log (a descriptor:
  `watch`). It may raise, and is tried again. What may fail for one release alone is caught where that release is
  (deployment/hosting.py), and ends in `ReleaseKeeper.fell` with why.
- What the systemd unit says and forbids: deployment/unit.py, held by tests/unit/test_systemd_unit.py and
  tests/acceptance/test_up_systemd.py; which folders it lets through: `_written_to` in cli/deploy.py.
"""

from ashore.deployment.engineserver import serve_engine
from ashore.deployment.listening import audit_link
from ashore.deployment.moving import StoreMover
from ashore.deployment.service import Deployment
from ashore.deployment.unit import Service, render_unit

__all__ = ["Deployment", "Service", "StoreMover", "audit_link", "render_unit", "serve_engine"]
