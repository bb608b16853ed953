"""The engine host: a process around one engine, reached over a unix socket.

Owns: the loop that feeds the engine and sends its events, the process's lifetime. Refuses: scheduling (the engine's),
admission (the API worker's), restarting (the supervisor's).
"""

from ashore.data.engines.host.loop import HostLoop
