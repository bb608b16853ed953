"""The control process: everything that administers a server, apart from the processes that answer requests.

Owns: `python -m ashore.control`, the admin calls and the console over HTTP, votes, and what is asked of the API workers
of its machine. Refuses: to answer requests for models. It may end, hang or be started again alone; workers go on.
"""
