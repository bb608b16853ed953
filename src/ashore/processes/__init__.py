"""Our own processes: start, watch, restart, stop; and the lock on a home.

Owns: lifetimes of children, their environment, logs and limits. Refuses: what a child does, and what a model is.

Where to add what:

- Notifications to systemd: processes/notify.py, called in cli/up.py.
"""

from ashore.processes.allowance import (
    allowed_cores,
    allowed_memory_bytes,
    control_groups,
    free_memory_bytes,
    resident_bytes_of,
)
from ashore.processes.child import ChildSpec, tied
from ashore.processes.control import Caller, ControlServer, ask
from ashore.processes.environment import child_environment, python_command
from ashore.processes.hangup import hold_hangups, take_hangups, wait_for_hangup
from ashore.processes.hugepages import use_huge_pages
from ashore.processes.idleness import Idleness
from ashore.processes.launch import die_with_parent
from ashore.processes.launchfiles import read_launch_file, write_launch_file
from ashore.processes.lock import Holder, HomeLock, read_holder
from ashore.processes.logs import open_log, rotate, tail
from ashore.processes.look import connection_to, get_from
from ashore.processes.notify import is_managed, tell_manager
from ashore.processes.ports import address_of_this_machine, check_port, check_ports
from ashore.processes.priority import become_idle, set_idle
from ashore.processes.pulse import SILENCE_S, LoopLife, Pulse, beat_in_thread, keep_beating, take_pulse
from ashore.processes.restart import GiveUp, Restart, RestartPolicy, decide
from ashore.processes.roles import BY_MODULE, Role, role_of
from ashore.processes.room import is_no_room, no_room
from ashore.processes.shares import NoShares, Share, Shares, SharesKind, divide, open_shares
from ashore.processes.silence import forbid_core_dumps, silence_dependencies, silence_host
from ashore.processes.supervisor import Supervisor, ending
from ashore.processes.unixsocket import listen_on, unix_address

__all__ = [
    "BY_MODULE",
    "SILENCE_S",
    "Caller",
    "ChildSpec",
    "ControlServer",
    "GiveUp",
    "Holder",
    "HomeLock",
    "Idleness",
    "LoopLife",
    "NoShares",
    "Pulse",
    "Restart",
    "RestartPolicy",
    "Role",
    "Share",
    "Shares",
    "SharesKind",
    "Supervisor",
    "address_of_this_machine",
    "allowed_cores",
    "allowed_memory_bytes",
    "ask",
    "beat_in_thread",
    "become_idle",
    "check_port",
    "check_ports",
    "child_environment",
    "connection_to",
    "control_groups",
    "decide",
    "die_with_parent",
    "divide",
    "ending",
    "forbid_core_dumps",
    "free_memory_bytes",
    "get_from",
    "hold_hangups",
    "is_managed",
    "is_no_room",
    "keep_beating",
    "listen_on",
    "no_room",
    "open_log",
    "open_shares",
    "python_command",
    "read_holder",
    "read_launch_file",
    "resident_bytes_of",
    "role_of",
    "rotate",
    "set_idle",
    "silence_dependencies",
    "silence_host",
    "tail",
    "take_hangups",
    "take_pulse",
    "tell_manager",
    "tied",
    "unix_address",
    "use_huge_pages",
    "wait_for_hangup",
    "write_launch_file",
]
