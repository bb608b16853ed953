"""Shadows the real `openvino_telemetry` on the module path of every ashore process, and sends nothing."""

from __future__ import annotations


class Telemetry:
    """Accepts every call of the real class and does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Accept whatever the tools pass."""

    def _ignore(self, *args: object, **kwargs: object) -> None:
        """Send nothing."""

    init = start_session = end_session = force_shutdown = send_event = send_error = send_stack_trace = _ignore
    send_opt_in_event = _ignore
