"""Shared vocabulary: ids, chat messages, model shapes, clocks, sizes. Pure: no file, no network, no process."""

from ashore.core.bytesize import human_bytes
from ashore.core.chat import Message, Role, ToolCall, ToolSpec
from ashore.core.clock import Clock, ManualClock, SystemClock
from ashore.core.expressions import MOST_PATTERN_BYTES, MOST_PATTERN_CHARS, compile_re2
from ashore.core.ids import ADAPTER_NAME, Digest, OrderId, RequestId, TenantId, new_request_id
from ashore.core.kinds import EngineKind, ModelFormat, ServedFormat
from ashore.core.nearest import did_you_mean, nearest_names
from ashore.core.recorder import Act, ActOutcome, MemoryRecorder, Recorder
from ashore.core.shapes import ModelShape, kv_bytes_per_token
from ashore.core.timespan import human_seconds
from ashore.core.wholenumber import whole_number

__all__ = [
    "ADAPTER_NAME",
    "MOST_PATTERN_BYTES",
    "MOST_PATTERN_CHARS",
    "Act",
    "ActOutcome",
    "Clock",
    "Digest",
    "EngineKind",
    "ManualClock",
    "MemoryRecorder",
    "Message",
    "ModelFormat",
    "ModelShape",
    "OrderId",
    "Recorder",
    "RequestId",
    "Role",
    "ServedFormat",
    "SystemClock",
    "TenantId",
    "ToolCall",
    "ToolSpec",
    "compile_re2",
    "did_you_mean",
    "human_bytes",
    "human_seconds",
    "kv_bytes_per_token",
    "nearest_names",
    "new_request_id",
    "whole_number",
]
