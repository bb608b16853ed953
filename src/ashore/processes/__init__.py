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
from ashore.processes.hangup import take_hangups
from ashore.processes.hugepages import use_huge_pages
from ashore.processes.idleness import Idleness
from ashore.processes.launch import die_with_parent
from ashore.processes.launchfiles import write_launch_file
from ashore.processes.lock import Holder, HomeLock, is_held, read_holder
from ashore.processes.logs import open_log, rotate, tail
from ashore.processes.look import connection_to, get_from
from ashore.processes.notify import is_managed, tell_manager
from ashore.processes.ports import address_of_this_machine, check_port, check_ports
from ashore.processes.priority import become_idle, set_idle
from ashore.processes.pulse import SILENCE_S, LoopLife, Pulse, beat_in_thread, keep_beating, take_pulse
from ashore.processes.restart import GiveUp, Restart, RestartPolicy, decide
from ashore.processes.roles import BY_MODULE, Role, role_of
from ashore.processes.room import is_no_room, no_room
from ashore.processes.shares import NoShares, Share, Shares, divide, open_shares
from ashore.processes.silence import forbid_core_dumps, silence_dependencies, silence_host
from ashore.processes.supervisor import Supervisor, ending
from ashore.processes.unixsocket import listen_on, unix_address
