"""ashore.toml parsed: what the operator wants deployed.

Each section is a dataclass and its reader: `models.py` what is served, `intake.py` how requests come in,
`front.py` what stands before and beside the models. Refuses: deciding anything from it.
"""

from ashore.spec.access import AccessSpec
from ashore.spec.audit import AuditSpec
from ashore.spec.backup import BackupSpec
from ashore.spec.document import Spec, parse_spec, read_spec
from ashore.spec.front import CacheRoute, CacheSpec, EdgeKind, EdgeSpec, EgressSpec, JobsSpec, RedisSpec, redis_url
from ashore.spec.intake import AdmissionSpec, HttpSpec, ListenSpec
from ashore.spec.models import EngineSpec, ModelSpec
from ashore.spec.prices import PriceSpec

__all__ = [
    "AccessSpec",
    "AdmissionSpec",
    "AuditSpec",
    "BackupSpec",
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
    "PriceSpec",
    "RedisSpec",
    "Spec",
    "parse_spec",
    "read_spec",
    "redis_url",
]
