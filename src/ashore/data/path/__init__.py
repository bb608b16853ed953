"""The request path: admission, routing, generation, streaming.

Owns: what happens between a parsed request and its answer, whatever protocol carries them; the topology that a worker
serves. Refuses to own: protocols, keys, engines, where models come from.

Where to add what:

- A request field: data/http/openai/types.py and proto/ (parse), data/path/model.py (carry), the stage that acts on it,
  and a row in docs/reference/http.md. The address of a cached answer follows. A field of sampling: core/sampling.py.
- What reads every character of a request: `PromptReader.read` (data/path/prompt.py), with its length counted in
  `num_chars` and `check_wanted` (core/wanted.py) called between pieces. Another kind of tokenizer: data/text/fewest.py;
  without it no request is refused by length.
- Time limits of waiting and answering: data/path/deadlines.py. What cuts an answer: `CutBy` in data/path/model.py, and
  the table in docs/reference/http.md.
- When admission refuses: `verdict` in data/path/admission.py (room), queueing.py (too late), concurrency.py (what the
  loop keeps up with); called before the body is read in data/http/app.py and after it in data/path/reception.py.
- Choice by cost among several models of one alias: data/path/bycost.py collects observations, data/dispatch/ decides.
- Another keeper of budgets, masker or auditor: an implementation of its port in data/path/guards.py, given by its room
  (ROOM/room.py) and handed to `ServingService` in data/worker.py.
"""

from ashore.data.path.admission import Capacity, Cost, Gate, Load
from ashore.data.path.board import BEAT_S, Board, make_board
from ashore.data.path.bytes_text import BytesText
from ashore.data.path.centre import centre_of, keep_to_word
from ashore.data.path.concurrency import ConcurrencyLimit, LoopMeter
from ashore.data.path.embedding import Embedding
from ashore.data.path.guarding import GuardedMasker
from ashore.data.path.guards import (
    CountingAuditor,
    Followers,
    Guards,
    Reservation,
    SeesNothing,
    Span,
    Tracer,
    Unlimited,
)
from ashore.data.path.masking import PrivacyMasker
from ashore.data.path.model import (
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
from ashore.data.path.models import NO_SERVER, ModelCard, ServingState
from ashore.data.path.ports import Replica, ServedText
from ashore.data.path.relevance import Asked, Judged
from ashore.data.path.section import (
    AdmissionSection,
    DispatchSection,
    GrpcSection,
    HttpSection,
    Intake,
    MetricsSection,
    RouteByCost,
    UnknownFields,
)
from ashore.data.path.service import ServingService
from ashore.data.path.tokens import Tokenized
from ashore.data.path.topology import (
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
