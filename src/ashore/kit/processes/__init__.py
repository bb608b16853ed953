"""Our own processes: start, watch, restart, stop; and the lock on a home.

Owns: lifetimes of children, their environment, logs and limits. Refuses: what a child does, and what a model is.

Where to add what:

- Notifications to systemd: kit/processes/notify.py, called in cli/up.py.
"""

from ashore.kit.processes.allowance import (
    allowed_cores,
    allowed_memory_bytes,
    control_groups,
    free_memory_bytes,
    resident_bytes_of,
)
from ashore.kit.processes.child import take_hangups
from ashore.kit.processes.control import Caller, ControlServer, ask, listen_on, unix_address
from ashore.kit.processes.environment import (
    child_environment,
    forbid_core_dumps,
    python_command,
    silence_dependencies,
    silence_host,
)
from ashore.kit.processes.look import connection_to, get_from
from ashore.kit.processes.ports import BY_MODULE, Role, role_of
from ashore.kit.processes.pulse import SILENCE_S, LoopLife, Pulse, beat_in_thread, keep_beating, take_pulse
from ashore.kit.processes.room import is_no_room, no_room
