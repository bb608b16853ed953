"""The request path: admission, routing, generation, streaming.

Owns: what happens between a parsed request and its answer, whatever protocol carries them; the topology that a worker
serves. Refuses to own: protocols, keys, engines, where models come from.

Where to add what:

- A request field: api/http/openai/types.py and proto/ (parse), serving/model.py (carry), the stage that acts on it, and
  a row in docs/reference/http.md. The address of a cached answer follows. A field of sampling: core/sampling.py.
- What reads every character of a request: `PromptReader.read` (serving/prompt.py), with its length counted in
  `num_chars` and `check_wanted` (core/wanted.py) called between pieces. Another kind of tokenizer: text/fewest.py;
  without it no request is refused by length.
- Time limits of waiting and answering: serving/deadlines.py. What cuts an answer: `CutBy` in serving/model.py, and the
  table in docs/reference/http.md.
- When admission refuses: `verdict` in serving/admission.py (room), queueing.py (too late), concurrency.py (what the
  loop keeps up with); called before the body is read in api/http/app.py and after it in serving/reception.py.
- Choice by cost among several models of one alias: serving/bycost.py collects observations, dispatch/ decides.
- Another keeper of budgets, masker or auditor: an implementation of its port in serving/guards.py, given by its room
  (ROOM/room.py) and handed to `ServingService` in api/worker.py.
"""

from ashore.serving.admission import Capacity, Cost, Gate, Load
from ashore.serving.board import BEAT_S, Board, make_board
from ashore.serving.bytes_text import BytesText
from ashore.serving.concurrency import ConcurrencyLimit, LoopMeter
from ashore.serving.embedding import Embedding
from ashore.serving.guards import CountingAuditor, Followers, Guards, Reservation, SeesNothing, Span, Tracer, Unlimited
from ashore.serving.masking import PrivacyMasker
from ashore.serving.memory import MemoryReplica
from ashore.serving.model import (
    NOWHERE,
    Arrival,
    ChoiceEnded,
    Delta,
    FinishReason,
    GenerationRequest,
    Hear,
    ServingEvent,
    Started,
    TokenText,
    ToolCallDelta,
    Urgency,
    Usage,
)
from ashore.serving.models import ModelCard, ServingState
from ashore.serving.ports import Replica, ServedText
from ashore.serving.relevance import Asked, Judged
from ashore.serving.section import (
    AdmissionSection,
    DispatchSection,
    GrpcSection,
    HttpSection,
    Intake,
    MetricsSection,
    RouteByCost,
    UnknownFields,
)
from ashore.serving.service import ServingService
from ashore.serving.tokens import Tokenized
from ashore.serving.topology import (
    EdgeAddress,
    GrpcListen,
    HttpListen,
    Limits,
    ServedModel,
    StateLink,
    Topology,
    WorkerListen,
    read_topology,
    write_topology,
)
