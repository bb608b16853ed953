"""ashore.toml parsed: what the operator wants deployed.

One file per part of the document: a dataclass and the function that reads it. Refuses: deciding anything from it.
"""

from ashore.spec.document import LATER, Spec, parse_spec, read_spec
from ashore.spec.front import CacheRoute, CacheSpec, EdgeKind, EdgeSpec, EgressSpec, JobsSpec, RedisSpec, redis_url
from ashore.spec.intake import AdmissionSpec, HttpSpec, ListenSpec
from ashore.spec.models import EngineSpec, ModelSpec

__all__ = [
    "LATER",
    "AdmissionSpec",
    "CacheRoute",
    "CacheSpec",
    "EdgeKind",
    "EdgeSpec",
    "EgressSpec",
    "EngineSpec",
    "HttpSpec",
    "JobsSpec",
    "ListenSpec",
    "ModelSpec",
    "RedisSpec",
    "Spec",
    "parse_spec",
    "read_spec",
    "redis_url",
]
