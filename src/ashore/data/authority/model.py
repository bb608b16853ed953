"""Principals, shared by every room: defined in `core`, resolved by the access room."""

from ashore.core.principal import DEFAULT_TENANT, NOBODY, WIDE, KeyScope, Principal, PrincipalKind

__all__ = ["DEFAULT_TENANT", "NOBODY", "WIDE", "KeyScope", "Principal", "PrincipalKind"]
