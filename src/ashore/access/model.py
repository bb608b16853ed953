"""Principals, which every room knows: `core` has them, and the access room says who they are."""

from ashore.core.principal import DEFAULT_TENANT, NOBODY, WIDE, KeyScope, Principal, PrincipalKind

__all__ = ["DEFAULT_TENANT", "NOBODY", "WIDE", "KeyScope", "Principal", "PrincipalKind"]
