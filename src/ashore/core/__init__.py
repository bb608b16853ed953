"""Shared vocabulary: ids, chat messages, model shapes, clocks, sizes. Pure: no file, no network, no process."""

from ashore.core.behind import Behind, nothing_behind
from ashore.core.bytesize import human_bytes
from ashore.core.call import (
    ADMIN,
    Actor,
    Call,
    Download,
    Nothing,
    Rights,
    field_docs,
    in_loop,
    perform,
)
from ashore.core.chat import Message, Role, ToolCall, ToolSpec
from ashore.core.clock import Clock, ManualClock, SystemClock
from ashore.core.counted import counted
from ashore.core.decode import UNDECODABLE
from ashore.core.expressions import MOST_PATTERN_BYTES, MOST_PATTERN_CHARS, compile_re2
from ashore.core.foreign import foreign_errors, short_reason
from ashore.core.ids import ADAPTER_NAME, Digest, OrderId, RequestId, TenantId, check_adapter_name, new_request_id
from ashore.core.kinds import EngineKind, ModelFormat, ServedFormat
from ashore.core.nearest import did_you_mean, nearest_names
from ashore.core.principal import DEFAULT_TENANT, NOBODY, WIDE, KeyScope, Principal, PrincipalKind
from ashore.core.recorder import Act, ActOutcome, MemoryRecorder, Recorder
from ashore.core.sampling import (
    HIGHEST_BIAS,
    MOST_BIASES,
    NEUTRAL,
    RECOMMENDABLE,
    SAMPLING_FIELDS,
    Sampling,
    SamplingIn,
    changed_fields,
    left_out,
    number_range,
    sampling_of,
)
from ashore.core.shapes import ModelShape, kv_bytes_per_token
from ashore.core.timespan import human_seconds
from ashore.core.wanted import WANT, NoLongerWanted, Want, check_wanted
from ashore.core.wholenumber import whole_number

__all__ = [
    "ADAPTER_NAME",
    "ADMIN",
    "DEFAULT_TENANT",
    "HIGHEST_BIAS",
    "MOST_BIASES",
    "MOST_PATTERN_BYTES",
    "MOST_PATTERN_CHARS",
    "NEUTRAL",
    "NOBODY",
    "RECOMMENDABLE",
    "SAMPLING_FIELDS",
    "UNDECODABLE",
    "WANT",
    "WIDE",
    "Act",
    "ActOutcome",
    "Actor",
    "Behind",
    "Call",
    "Clock",
    "Digest",
    "Download",
    "EngineKind",
    "KeyScope",
    "ManualClock",
    "MemoryRecorder",
    "Message",
    "ModelFormat",
    "ModelShape",
    "NoLongerWanted",
    "Nothing",
    "OrderId",
    "Principal",
    "PrincipalKind",
    "Recorder",
    "RequestId",
    "Rights",
    "Role",
    "Sampling",
    "SamplingIn",
    "ServedFormat",
    "SystemClock",
    "TenantId",
    "ToolCall",
    "ToolSpec",
    "Want",
    "changed_fields",
    "check_adapter_name",
    "check_wanted",
    "compile_re2",
    "counted",
    "did_you_mean",
    "field_docs",
    "foreign_errors",
    "human_bytes",
    "human_seconds",
    "in_loop",
    "kv_bytes_per_token",
    "left_out",
    "nearest_names",
    "new_request_id",
    "nothing_behind",
    "number_range",
    "perform",
    "sampling_of",
    "short_reason",
    "whole_number",
]
