"""Engines: the port, its adapters, and the host process around each.

Owns: running a model from disk, scheduling its sequences, sampling. Refuses: text, HTTP, authorisation, where models
come from.

Where to add what:

- An option of an engine: `options` of its card, which decides whether releases made over the API may set it; its reader
  in the adapter; the table in docs/reference/releases.md.
- A precision: a row in `precisions` of its engine's card; the arithmetic in its engine's `Rounder`
  (openvino/prepare.py, llamacpp/rounding.py).
- The candidates of `engine tune`: candidates.py in the engine's folder.
"""

from ashore.core.kinds import EngineKind
from ashore.core.sampling import Sampling
from ashore.data.engines.affinity import Affinity, Turn
from ashore.data.engines.card import EngineCard, Precision, Program
from ashore.data.engines.cards import (
    CARDS,
    DEFAULT,
    MADE_UP,
    card_by_name,
    card_of,
    card_reading,
    check_name,
    engine_kinds,
    files_by_name,
    loaded,
    make_engine,
    needed_bytes_of,
    reads_store,
    refuse_uninstalled,
)
from ashore.data.engines.client import HostClient, backends_of
from ashore.data.engines.closing import JSON_STYLE
from ashore.data.engines.content import content_of
from ashore.data.engines.failures import error_of
from ashore.data.engines.grammar import MOST_GRAMMAR_BYTES, GrammarChecker, argument_schema
from ashore.data.engines.hostlaunch import HostLaunch, host_command, why_file
from ashore.data.engines.hostprocess import HostProcess, host_process
from ashore.data.engines.inventory import read_inventory
from ashore.data.engines.model import (
    FLEET_FILE,
    FLEET_IDENTITY,
    BackendStatus,
    EngineEvent,
    EngineInfo,
    EngineOptions,
    EngineStats,
    Failed,
    Feature,
    Finished,
    FleetServer,
    GenerateOrder,
    Grammar,
    ModelFiles,
    Moved,
    Order,
    Rung,
    Said,
    SayOrder,
    ScoredText,
    ScoreText,
    Token,
    TokenLogprob,
    rest_of,
)
from ashore.data.engines.options import LIMITS, OptionValue, check_kv_tokens, is_tame
from ashore.data.engines.ordercheck import check_precision
from ashore.data.engines.orderstream import CancelOrder, OrderHearer, OrderStream
from ashore.data.engines.plan import (
    RESERVED_BYTES,
    RUNGS,
    Change,
    Choice,
    Inventory,
    ModelFacts,
    ModelPlan,
    OnDemand,
    Plan,
    Promise,
    Tuned,
    Wish,
)
from ashore.data.engines.ports import (
    CanEmbed,
    CanLoadAdapter,
    CanScore,
    CanSleep,
    CanTellDistributions,
    Engine,
    scored,
)
from ashore.data.engines.prefixes import PrefixPlace, partition_of, sweep_prefixes
from ashore.data.engines.rounding import Rounded, Rounder, RoundOrder, Samples, Told, quietly
from ashore.data.engines.torchmodel import TorchDtype, load_torch_model, torch_libraries
