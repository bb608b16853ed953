"""Traces: API workers alone have a part in it."""

from ashore.tracing.data import ROOM

__all__ = ["ROOM"]
