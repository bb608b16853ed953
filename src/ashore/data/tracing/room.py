"""Traces: API workers alone have a part in it."""

from ashore.data.tracing.worker import ROOM

__all__ = ["ROOM"]
