"""Who is asking, and may they: principals, API keys as digests, the first key.

Owns: what a key looks like, how it is kept and compared, what a scope is called. Refuses to own: requests, HTTP
headers, and what a scope protects (each use case asks for its own).
"""

from ashore.access.first_key import make_first_key, read_first_key
from ashore.access.keys import KeyDigest, digest_of, looks_like_key, new_key
from ashore.access.memory import KeyTable, OpenDoor
from ashore.access.model import INFER, METRICS_READ, Principal, Scope
from ashore.access.onbehalf import OnBehalf, make_internal_token, read_internal_token
from ashore.access.ports import Authenticator

__all__ = [
    "INFER",
    "METRICS_READ",
    "Authenticator",
    "KeyDigest",
    "KeyTable",
    "OnBehalf",
    "OpenDoor",
    "Principal",
    "Scope",
    "digest_of",
    "looks_like_key",
    "make_first_key",
    "make_internal_token",
    "new_key",
    "read_first_key",
    "read_internal_token",
]
