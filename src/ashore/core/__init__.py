"""Shared vocabulary: ids, chat messages, model shapes, clocks, sizes; and shared network code: addresses that may be
called (`egress.py`) and the client that calls them (`outgoing.py`), S3 (`bucket.py`). It starts no process.
"""

from ashore.core.addresses import address_of, split_url
from ashore.core.behind import Behind, nothing_behind
from ashore.core.bucket import S3_HINT, Bucket
from ashore.core.bytesize import human_bytes
from ashore.core.call import (
    ADMIN,
    CONTROL_PATHS,
    EVENT_STREAM,
    Actor,
    Aside,
    Call,
    Download,
    Method,
    Nothing,
    Rights,
    absences,
    call_named,
    docs_under,
    field_docs,
    is_for_control,
    perform,
)
from ashore.core.chat import Message, Role, ToolCall, ToolSpec
from ashore.core.clock import Clock, ManualClock, SystemClock
from ashore.core.consents import Consented, Consents
from ashore.core.counted import counted
from ashore.core.decode import UNDECODABLE
from ashore.core.egress import (
    CHILD_EGRESS,
    LOOPBACK,
    Allowed,
    Resolve,
    Target,
    check_addresses,
    check_url,
    child_egress,
    entry_for,
    parse_allow,
    resolve,
    server_of,
)
from ashore.core.expressions import MOST_PATTERN_BYTES, MOST_PATTERN_CHARS, compile_re2
from ashore.core.folders import CHILD_FOLDERS, child_folders, is_below, make_folder, open_given
from ashore.core.foreign import foreign_errors, short_reason
from ashore.core.hints import with_hint, without_hint
from ashore.core.ids import ADAPTER_NAME, Digest, OrderId, RequestId, TenantId, check_adapter_name, new_request_id
from ashore.core.kinds import EngineKind, ModelFormat, ServedFormat
from ashore.core.names import EVERY_NAME, NOUNS, Names, Noun, check_named
from ashore.core.nearest import did_you_mean, nearest_names
from ashore.core.outward import outward, retry_after
from ashore.core.principal import WIDE, KeyScope, Principal
from ashore.core.recorder import Act, ActOutcome, ForgetsAll, MemoryRecorder, Recollection, Recorder
from ashore.core.reserve import Reserve
from ashore.core.rights import METRICS_READ, SERVER, check_call, check_on, check_tenant, lacks, may_on, sees_tenant
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
    FROM_FILE,
    AFile,
    APlace,
    AtLeast0,
    AtLeast1,
    Kept,
    Key,
    Port,
    Seconds,
    Section,
    choices_of,
    describe,
    is_from_file,
    keys_of,
    read_section,
    tables_of,
    toml,
)
from ashore.core.shapes import HEAVY_RATIO, LIGHT_RATIO, ModelShape, kv_bytes, kv_bytes_per_token
from ashore.core.share import read_share
from ashore.core.textfile import parse_toml, read_text_file, read_toml, read_toml_text
from ashore.core.timespan import human_seconds, parse_seconds, seconds_in, written_span
from ashore.core.visible import check_line, first_hidden
from ashore.core.wanted import WANT, NoLongerWanted, Want, check_wanted
from ashore.core.wholefile import sync_folder, write_whole
from ashore.core.wholenumber import whole_number
from ashore.core.writtentoml import write_toml
from ashore.core.yaml import Tree, Verbatim, Why, plain, write_yaml
