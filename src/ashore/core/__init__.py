"""Shared vocabulary: ids, chat messages, model shapes, clocks, sizes. No network, no process, no file but folders."""

from ashore.core.behind import Behind, nothing_behind
from ashore.core.bucket import S3_HINT, Bucket
from ashore.core.bytesize import human_bytes
from ashore.core.call import (
    ADMIN,
    Actor,
    Call,
    Download,
    Method,
    Nothing,
    Rights,
    Settles,
    docs_under,
    field_docs,
    in_loop,
    perform,
)
from ashore.core.chat import Message, Role, ToolCall, ToolSpec
from ashore.core.clock import Clock, ManualClock, SystemClock
from ashore.core.counted import counted
from ashore.core.decode import UNDECODABLE
from ashore.core.expressions import MOST_PATTERN_BYTES, MOST_PATTERN_CHARS, compile_re2
from ashore.core.folders import blocked_folder, make_folder
from ashore.core.foreign import foreign_errors, short_reason
from ashore.core.hints import with_hint, without_hint
from ashore.core.ids import ADAPTER_NAME, Digest, OrderId, RequestId, TenantId, check_adapter_name, new_request_id
from ashore.core.kinds import EngineKind, ModelFormat, ServedFormat
from ashore.core.names import EVERY_NAME, NOUNS, Names, Noun, check_named
from ashore.core.nearest import did_you_mean, nearest_names
from ashore.core.principal import DEFAULT_TENANT, NOBODY, WIDE, KeyScope, Principal, PrincipalKind
from ashore.core.recorder import Act, ActOutcome, MemoryRecorder, Recorder
from ashore.core.rights import SERVER, check_on, check_tenant, may_on, sees_tenant
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
from ashore.core.section import (
    AtLeast0,
    AtLeast1,
    Kept,
    Key,
    Port,
    Seconds,
    Section,
    Share,
    choices_of,
    describe,
    keys_of,
    range_of,
    read_section,
    toml,
)
from ashore.core.shapes import ModelShape, kv_bytes_per_token
from ashore.core.textfile import read_text_file
from ashore.core.timespan import human_seconds, parse_seconds, seconds_in, written_span
from ashore.core.visible import check_line, first_hidden
from ashore.core.wanted import WANT, NoLongerWanted, Want, check_wanted
from ashore.core.wholenumber import whole_number

__all__ = [
    "ADAPTER_NAME",
    "ADMIN",
    "DEFAULT_TENANT",
    "EVERY_NAME",
    "HIGHEST_BIAS",
    "MOST_BIASES",
    "MOST_PATTERN_BYTES",
    "MOST_PATTERN_CHARS",
    "NEUTRAL",
    "NOBODY",
    "NOUNS",
    "RECOMMENDABLE",
    "S3_HINT",
    "SAMPLING_FIELDS",
    "SERVER",
    "UNDECODABLE",
    "WANT",
    "WIDE",
    "Act",
    "ActOutcome",
    "Actor",
    "AtLeast0",
    "AtLeast1",
    "Behind",
    "Bucket",
    "Call",
    "Clock",
    "Digest",
    "Download",
    "EngineKind",
    "Kept",
    "Key",
    "KeyScope",
    "ManualClock",
    "MemoryRecorder",
    "Message",
    "Method",
    "ModelFormat",
    "ModelShape",
    "Names",
    "NoLongerWanted",
    "Nothing",
    "Noun",
    "OrderId",
    "Port",
    "Principal",
    "PrincipalKind",
    "Recorder",
    "RequestId",
    "Rights",
    "Role",
    "Sampling",
    "SamplingIn",
    "Seconds",
    "Section",
    "ServedFormat",
    "Settles",
    "Share",
    "SystemClock",
    "TenantId",
    "ToolCall",
    "ToolSpec",
    "Want",
    "blocked_folder",
    "changed_fields",
    "check_adapter_name",
    "check_line",
    "check_named",
    "check_on",
    "check_tenant",
    "check_wanted",
    "choices_of",
    "compile_re2",
    "counted",
    "describe",
    "did_you_mean",
    "docs_under",
    "field_docs",
    "first_hidden",
    "foreign_errors",
    "human_bytes",
    "human_seconds",
    "in_loop",
    "keys_of",
    "kv_bytes_per_token",
    "left_out",
    "make_folder",
    "may_on",
    "nearest_names",
    "new_request_id",
    "nothing_behind",
    "number_range",
    "parse_seconds",
    "perform",
    "range_of",
    "read_section",
    "read_text_file",
    "sampling_of",
    "seconds_in",
    "sees_tenant",
    "short_reason",
    "toml",
    "whole_number",
    "with_hint",
    "without_hint",
    "written_span",
]
