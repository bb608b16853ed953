"""ashore.toml parsed: what the operator wants deployed.

Each section is a dataclass and its reader: `models.py` what is served, `intake.py` how requests come in,
`front.py` what stands before and beside the models. Refuses: deciding anything from it.
"""

from ashore.config.access import AccessSpec
from ashore.config.audit import AuditSpec
from ashore.config.backup import BackupSpec
from ashore.config.document import Spec, parse_spec, read_spec
from ashore.config.front import CacheRoute, CacheSpec, EdgeKind, EdgeSpec, EgressSpec, JobsSpec, RedisSpec, redis_url
from ashore.config.intake import AdmissionSpec, HttpSpec, ListenSpec
from ashore.config.models import EngineSpec, ModelSpec
from ashore.config.prices import PriceSpec

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
