"""The one module that knows concrete adapters: it builds things and hands them over.

Only the command line and the entry points of processes call it. Everything heavy is imported inside the function that
needs it.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ashore.core import Act, EngineKind, ModelFormat, Recorder, SystemClock
from ashore.errors import InvalidRequest, InvalidSpec, SealingKeyMissing, UnknownModel, UnknownVariant
from ashore.settings import Home, Settings

if TYPE_CHECKING:
    from ashore.backup import BackupService, HomeContents, Restore, RestoreReport
    from ashore.cache import CachePolicy
    from ashore.deployment import Listening
    from ashore.engines import ModelFiles, Rounded, Rounder, Samples
    from ashore.evaluation import Subject
    from ashore.optimize import Losses, Maker, Quantiser, QuantizePlan, Rebuilder
    from ashore.optimize.distilling import Distiller
    from ashore.optimize.pruning import Pruner
    from ashore.planning import Inventory, ModelFacts, ModelPlan, Plan, Tuned, Wish
    from ashore.privacy import Privacy, PrivacyPolicy
    from ashore.releases import ReleaseKeeper, Workshop
    from ashore.sealing import KeyInMemory, KeyKeeper, OpenEnvelope
    from ashore.serving import RedisLink
    from ashore.spec import AuditSpec, BackupSpec, CacheSpec, RedisSpec
    from ashore.state import Database
    from ashore.store import ModelStore, Progress, RekeyReport, StoredModel
    from ashore.training import SftPlan, SftRequest, SftRun

Keeper = Callable[[], "KeyKeeper"]

INT8 = "int8"
Q8_0 = "q8_0"
PREPARED_VARIANTS = (INT8, "fp16", Q8_0)
"""What can be made on this machine: the first two of any Llama or Qwen model, for OpenVINO; the last of any GGUF in
half or full precision, for llama.cpp."""
FAKE = "fake:"
ENGINE_OF: Mapping[ModelFormat, EngineKind] = MappingProxyType({
    "gguf": "llamacpp", "openvino": "openvino", "safetensors": "torch",
})  # fmt: skip
"""The engine that reads a form of weights as it lies in the store."""
OPENVINO_FAMILIES = ("llama", "qwen2", "qwen3")
"""Architectures of which `openvino` reads a checkpoint as it was pulled."""
RECORD_TIMEOUT_S = 10.0
KV_BLOCK = 32
"""Tokens that the CPU engine keeps together: a text takes whole ones."""

_log = logging.getLogger("ashore.audit")


def _quietly(stage: str, share: float) -> None:
    """For callers that show no progress."""


def build_store(
    home: Home,
    settings: Settings | None = None,
    recorder: Recorder | None = None,
    *,
    actor: str = "system",
    keeper: Keeper | None = None,
) -> ModelStore:
    """Return the model store of this home. Makes the folders that are missing.

    Args:
        home: The home.
        settings: Mirrors, and where the keys of sealed models are.
        recorder: Told when models are sealed, unsealed, rekeyed, and opened while they are sealed.
        actor: Who does it, as the record names them.
        keeper: From `key_keeper`, where the process has one already.
    """
    from ashore.store import Endpoints, ModelStore, open_source

    home.create()
    endpoints = Endpoints()
    if settings is not None:
        endpoints = Endpoints(
            hugging_face=settings.hf_endpoint, model_scope=settings.ms_endpoint, offline=settings.offline
        )
    return ModelStore(
        root=home.store,
        run_models=home.run_models,
        clock=SystemClock(),
        sources=partial(open_source, endpoints=endpoints),
        keeper=keeper or key_keeper(settings),
        recorder=recorder,
        actor=actor,
    )


def key_keeper(settings: Settings | None) -> Keeper:
    """Return what gives the place of the keys of what is sealed: one for all, which asks for a passphrase once.

    What is returned reads nothing before it is called, and raises `SealingKeyMissing` where nobody has said where.
    """
    from ashore.sealing import no_key_source

    source = settings.sealing_key if settings else ""
    return cache(lambda: open_key_source(source) if source else no_key_source())


def open_key_source(text: str) -> KeyKeeper:
    """Return the keeper behind `keyring:FILE`, `passphrase:FILE` or `transit:URL`. Raises `InvalidSpec`."""
    from ashore.processes import forbid_core_dumps
    from ashore.sealing import open_keeper, parse_key_source

    forbid_core_dumps()
    return open_keeper(parse_key_source(text), SystemClock())


def open_state(settings: Settings, *, say: Callable[[str], None] = lambda line: None) -> Database:
    """Open the state of this home, migrated first where an older ashore wrote it.

    Raises:
        HomeTooNew: a newer ashore wrote it.
        InvalidSpec: the state's URL names something this version cannot use.
    """
    from ashore.sealing import secrets_by_link
    from ashore.state import open_state as open_url

    home = settings.home
    return open_url(
        settings.state_url,
        default=home.state_db,
        snapshots=home.snapshots,
        clock=SystemClock(),
        say=say,
        secrets=secrets_by_link(home.secrets_key, key_keeper(settings)),
    )


def hold_state_secrets(settings: Settings, keeper: Keeper | None = None) -> KeyInMemory | None:
    """Seal the secrets of the state where a key source is configured, and hold their key for the workers of this home.

    Where `sealing_state` is off, what was sealed is written back as it was, and nothing is held.

    Raises:
        SealingKeyMissing: they are sealed, and their key is not at hand.
    """
    from ashore.sealing import are_secrets_sealed, hold_secrets_key, seal_secrets, unseal_secrets

    keeper = keeper or key_keeper(settings)
    state = open_state(settings)
    try:
        with state.write() as connection:
            if settings.sealing_key and settings.sealing_state:
                key = seal_secrets(connection, keeper())
            elif are_secrets_sealed(connection):
                unseal_secrets(connection, keeper)
                return None
            else:
                return None
    finally:
        state.close()
    return hold_secrets_key(key, settings.home.secrets_key)


def rekey(settings: Settings, store: ModelStore, *, to: KeyKeeper | None, new_key: bool) -> RekeyReport:
    """Wrap the data keys of all sealed models, of the audit's keys, and of the state's secrets anew.

    See `ModelStore.rekey`.
    """
    from ashore.audit import rewrap_audit_keys
    from ashore.sealing import rewrap_secrets

    home = settings.home
    report = store.rekey(to=to, new_key=new_key)
    if rewrap_audit_keys(home.audit, home.audit_keys, key_keeper(settings), to):
        report = replace(report, rewrapped=(*report.rewrapped, "audit"))
    if settings.home.state_db.exists() or settings.state_url:
        state = open_state(settings)
        try:
            with state.write() as connection:
                if rewrap_secrets(connection, key_keeper(settings), to):
                    return replace(report, rewrapped=(*report.rewrapped, "state"))
        finally:
            state.close()
    return report


def audit_opener(home: Home, keeper: Keeper | None = None) -> OpenEnvelope:
    """Return how a command opens the keys of the audit: by the server that runs, else by a key source.

    Args:
        home: Of the audit.
        keeper: From `key_keeper`; default: that of the environment.
    """
    from ashore.sealing import opened_by_link
    from ashore.settings import read_settings

    return opened_by_link(home.audit_key, keeper or (lambda: key_keeper(read_settings())()))


@contextmanager
def command_recorder(home: Home, keeper: Keeper | None = None) -> Iterator[Recorder]:
    """Give the recorder of one command; what was recorded is on disk when the block ends.

    Then it is signed. Where the key that signs is sealed and not at hand, that is told on stderr and in no error: the
    records are written, and the next one who signs covers them.

    Args:
        home: Whose record it is.
        keeper: From `key_keeper`, for a home whose keys are sealed; default: that of the environment.

    Raises:
        AuditUnavailable: it cannot be written; then nothing that must be recorded may be done.
    """
    from ashore.audit import AuditLink, Checkpoints, open_command_log

    log = open_command_log(AuditLink(path=str(home.audit), keys=str(home.audit_keys)))
    try:
        yield log
        log.settle(RECORD_TIMEOUT_S)
    finally:
        log.close()
    try:
        Checkpoints(home.audit, home.audit_keys, audit_opener(home, keeper)).make(int(SystemClock().now_s() * 1e6))
    except SealingKeyMissing as fault:
        _log.warning("recorded, and not signed yet: %s (%s)", fault.message, fault.hint)


@contextmanager
def supervisor_recorder(spec: AuditSpec, home: Home) -> Iterator[Recorder]:
    """Give the recorder of the supervisor, for as long as it runs; beside it the notary signs what all processes wrote.

    Raises:
        AuditUnavailable: it cannot be written; then nothing is served.
        InvalidSpec: the key that signs is gone.
        SealingKeyMissing: it is sealed, and this process does not hold what opens it.
    """
    from ashore.audit import Checkpoints, Notary, open_anchor, open_log
    from ashore.deployment import audit_link

    clock, link = SystemClock(), audit_link(spec, home)
    log = open_log(link, "supervisor")
    checkpoints = Checkpoints(home.audit, home.audit_keys, link.opener)
    try:
        anchors = [open_anchor(place, checkpoints.home) for place in spec.anchors]
        notary = Notary(
            home.audit, checkpoints, anchors=anchors, recorder=log, clock=clock, every_s=spec.checkpoint_s
        ).start()
        detail: dict[str, str | int] = {
            "content": spec.content,
            "durability": spec.durability,
            "retention_days": spec.retention_days,
            "checkpoint_s": str(spec.checkpoint_s),
            "anchors": " ".join(spec.anchors),
        }
        log.record(Act(action="audit:settings", actor="system", resource="audit/record", detail=detail))
        try:
            yield log
        finally:
            log.settle(RECORD_TIMEOUT_S)
            log.close()
            notary.close()
    finally:
        log.close()


def open_backup(home: Home, recorder: Recorder, *, actor: str) -> BackupService:
    """Return the backup of a home, which may not have begun yet. Touches nothing."""
    from ashore.backup import BackupHome, BackupService

    return BackupService(BackupHome(home.root), SystemClock(), recorder, actor=actor)


@dataclass(frozen=True, slots=True)
class _KeptForReleases:
    """Implements `backup.Keep`."""

    settings: Settings

    def manifests(self) -> frozenset[str]:
        return release_manifests(self.settings)


def release_manifests(settings: Settings) -> frozenset[str]:
    """Return the digests of the manifests that releases of this home refer to."""
    if not settings.state_url and not settings.home.state_db.is_file():
        return frozenset()
    from ashore.releases import load_book

    state = open_state(settings)
    try:
        with state.read() as connection:
            return load_book(connection).manifests
    finally:
        state.close()


def manifests_in_use(settings: Settings) -> frozenset[str]:
    """Return the digests of the manifests that releases refer to, and of those that the topology of this home's server
    names, be it running or about to restart."""
    run = settings.home.run
    named = {
        f"sha256:{digits}"
        for path in (run.glob("*.json") if run.is_dir() else ())
        for digits in re.findall(r"[0-9a-f]{64}", path.read_text(encoding="utf-8"))
    }
    return release_manifests(settings) | named


def backup_contents(settings: Settings, *, config: Path | None = None, without_state: bool = False) -> HomeContents:
    """Return what a backup of this home holds.

    Args:
        settings: Of the home.
        config: An ashore.toml, backed up beside the home's own files.
        without_state: Leave out a state that is not in a file.

    Raises:
        InvalidRequest: the state is in Postgres, and `without_state` does not say that it is backed up elsewhere.
    """
    from ashore.backup import HomeContents
    from ashore.state import is_postgres_url, path_of_url

    home = settings.home
    in_postgres = is_postgres_url(settings.state_url)
    if in_postgres and not without_state:
        raise InvalidRequest(
            "the state of this home is in Postgres, and a backup of the home would not hold it",
            hint="back that database up by its own means (pg_dump, pgBackRest), and give --without-state here",
        )
    return HomeContents(
        home.root,
        build_store(home, settings),
        _KeptForReleases(settings),
        state=None if in_postgres else path_of_url(settings.state_url, default=home.state_db),
        extra={"ashore.toml": config} if config else {},
    )


def refuse_half_backups(spec: BackupSpec, settings: Settings) -> None:
    """Raise `InvalidSpec` where a server is to back up by itself, and its state is in Postgres, and nobody said that it
    is backed up elsewhere."""
    from ashore.state import is_postgres_url

    if spec.every_s and is_postgres_url(settings.state_url) and not spec.without_state:
        raise InvalidSpec(
            "[backup] every_s is set, and the state of this home is in Postgres, which no backup of ours holds",
            hint="back that database up by its own means (pg_dump, pgBackRest), and write without_state = true there",
        )


def restore_home(restore: Restore, settings: Settings) -> RestoreReport:
    """Restore everything into the home of these settings, which is held meanwhile.

    Raises:
        HomeBusy: it runs.
        Conflict: it is not empty.
    """
    from ashore.processes import Holder, HomeLock
    from ashore.store import ModelStore

    home = settings.home
    home.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = HomeLock.acquire(home.lock, Holder(pid=os.getpid(), address="ashore backup restore"))
    try:
        return restore.home(home.root, lambda: ModelStore(home.store, home.run_models, SystemClock()))
    finally:
        lock.release()


def cache_policy(spec: CacheSpec) -> CachePolicy:
    """Return what `[cache]` allows, as the cache reads it."""
    from ashore.cache import CachePolicy, RoutePolicy

    return CachePolicy(
        default=RoutePolicy(mode=spec.mode, ttl_s=spec.ttl_s, error_bound=spec.error_bound),
        routes={
            alias: RoutePolicy(mode=one.mode, ttl_s=one.ttl_s, error_bound=one.error_bound, public=one.public)
            for alias, one in spec.routes.items()
        },
        max_temperature=spec.max_temperature,
        max_bytes=spec.max_bytes,
    )


def open_privacy(settings: Settings, config: Path | None = None) -> tuple[Privacy, str]:
    """Return masking as a server of this home does it, and where its policy is from.

    With `config` it is that of the file. Otherwise it is the state's, where an administrator wrote one; a running
    server's, where one runs; else the built-in one.

    Raises:
        InvalidSpec: the file cannot be used.
    """
    from ashore.privacy import Privacy, PrivacyPolicy, load_policy, read_secret
    from ashore.serving import read_topology
    from ashore.spec import read_spec

    home = settings.home
    secret = b"no home, no conversation to continue"
    policy, source = None, ""
    if config is not None:
        policy, source = read_spec(config).privacy, str(config)
    if settings.state_url or home.state_db.is_file():
        state = open_state(settings)
        try:
            secret = read_secret(state)
            if policy is None:
                with state.read() as connection:
                    policy, source = load_policy(connection).policy, "the state"
        finally:
            state.close()
    if policy is None and home.topology.is_file():
        policy, source = read_topology(home.topology).privacy, "the running server"
    if policy is None:
        policy, source = PrivacyPolicy(), "built-in"
    return Privacy(policy, secret=secret), source


def redis_link(spec: RedisSpec, home: Home) -> RedisLink | None:
    """Return where the cache that workers share is; None where there is none."""
    from ashore.serving import RedisLink

    if not spec.url:
        return None
    url = f"unix://{home.valkey_socket}" if spec.url == "embedded" else spec.url
    return RedisLink(url=url, timeout_s=spec.timeout_ms / 1000)


def make_ready(store: ModelStore, name: str) -> StoredModel:
    """Return the stored form of `name` that the CPU engine serves: pulled if absent, and prepared once.

    A decoder gets the variant `int8`, which is kept; an encoder is served as pulled. May be called twice: the second
    call only looks. When the machine dies halfway, the next call starts that step again.
    """
    try:
        model = store.resolve(name)
    except UnknownModel:
        model = store.pull(name)
    if model.variant or model.format == "openvino" or model.shape.architecture == "bert":
        return model
    return prepare_variant(store, model, INT8)


def prepare_variant(
    store: ModelStore, parent: StoredModel, variant: str, *, told: Callable[[str, float], None] = _quietly
) -> StoredModel:
    """Return `parent@variant`, made now if it is absent; `told` hears each step and the part that is behind it.

    Raises:
        UnknownVariant: it is absent, and not one of `PREPARED_VARIANTS`.
    """
    if variant not in PREPARED_VARIANTS:
        return store.resolve(f"{parent.name}@{variant}")
    return quantiser(store).prepare(parent, variant, told=told)


def quantiser(store: ModelStore, *, compressor: Path | None = None) -> Quantiser:
    """Return what makes variants with fewer bits, for the command line and for `up` alike.

    Args:
        store: Where the models are.
        compressor: Folder of an environment with llm-compressor, where the forms of vLLM are asked for.

    Raises:
        MissingExtra: it is no such environment.
    """
    from ashore.engines.llamacpp.rounding import prepare_gguf
    from ashore.engines.openvino.mixture import open_mixture
    from ashore.engines.openvino.prepare import prepare_openvino
    from ashore.optimize import Quantiser
    from ashore.optimize.compressed import SideCompressor
    from ashore.planning import read_inventory

    rounders: dict[EngineKind, Rounder] = {"openvino": prepare_openvino, "llamacpp": prepare_gguf}
    if compressor is not None:
        rounders["vllm"] = SideCompressor(compressor)
    return Quantiser(
        store,
        rounders,
        open_mixture,
        judge_as_served,
        free_memory=lambda: read_inventory().memory_bytes,
    )


def side_commands(store: ModelStore, plan: QuantizePlan) -> tuple[str, ...]:
    """Return the shell lines that make a variant for vLLM: an environment, the compressing, and both kept by ashore.

    Raises:
        UnsupportedModel: the model is in a form that llm-compressor does not read.
    """
    import shlex

    from ashore.optimize.compressed import check_source, compress_command, install_command

    assert plan.calibration is not None
    files = store.open(plan.parent.reference)
    check_source(files.directory, files.weights)
    environment = Path("llm-compressor")
    scheme, text = plan.precision.name, plan.calibration
    ours = ["ashore", "optimize", "quantize", plan.parent.name, "--to", scheme, "--calibration", str(text)]
    return (
        install_command(environment),
        shlex.join(compress_command(environment, files.directory, Path(plan.variant), scheme, text, plan.seed)),
        shlex.join([*ours, "--run", str(environment)]),
    )


def judge_as_served(folder: Path, made: Rounded, text: Samples, *, exact: bool = False) -> Losses:
    """Return what each token costs, as `Judge` of `optimize` promises, from a host of its own."""
    from ashore.engines import EngineOptions, ModelFiles, ScoreText
    from ashore.evaluation import open_hosted

    longest = max(len(ids) for ids in text)
    kind: EngineKind = "openvino" if made.format == "openvino" else "llamacpp"
    files = ModelFiles(name=folder.name, digest="", directory=str(folder), format=made.format, weights=made.weights)
    extra: dict[str, str | int | float | bool] = {"full_precision": True} if exact else {}
    options = EngineOptions(kind=kind, max_sequences=1, kv_tokens=longest + KV_BLOCK, prefix_cache=False, extra=extra)
    with open_hosted(files, options) as subject:
        scored = subject.score([ScoreText(list(ids)) for ids in text])
    return tuple(tuple(-position[0].logprob for position in rows) for rows in scored)


def rebuilder(store: ModelStore) -> Rebuilder:
    """Return what makes variants and derived models again. A use case that makes them has its line here."""
    from ashore import training
    from ashore.optimize import MAKER, Rebuilder, distilling, pruning
    from ashore.planning import read_inventory

    makers: dict[str, Maker] = {
        MAKER: quantiser(store).make_again,
        pruning.MAKER: partial(pruning.make_again, store),
        distilling.MAKER: distiller(store, Home(root=store.root.parent)).remake,
        training.MAKER: training.SftMaker(store, available_bytes=read_inventory().memory_bytes),
    }
    return Rebuilder(store, makers)


def plan_sft(store: ModelStore, request: SftRequest) -> SftPlan:
    """Return the plan of a fine-tuning on this machine. See `training.plan_sft`."""
    from ashore import training
    from ashore.planning import read_inventory

    return training.plan_sft(store, request, available_bytes=read_inventory().memory_bytes)


def sft_run(home: Home, store: ModelStore, plan: SftPlan, *, say: Callable[[str], None]) -> SftRun:
    """Return what carries out a plan; unfinished runs are in the home's cache, adapters in its `adapters`."""
    from ashore.training import SftRun

    return SftRun(store, plan, runs=home.cache / "training", adapters=home.adapters, say=say)


def distiller(store: ModelStore, home: Home, *, told: Callable[[str, float], None] = _quietly) -> Distiller:
    """Return what makes students; teachers' words and unfinished runs are in the home's cache.

    A teacher that is named without a variant reads on `openvino` in half precision where that knows its family.
    """
    from ashore.optimize.distilling import Distiller
    from ashore.planning import read_inventory

    def open_teacher(reference: str, *, kind: EngineKind | None) -> AbstractContextManager[Subject]:
        model = store.resolve(reference)
        if kind is None and not model.variant and model.shape.architecture in OPENVINO_FAMILIES:
            kind = "openvino"
        return open_subject(store, home, reference, kind=kind, told=told)

    return Distiller(store, home.cache / "distill", open_teacher, free_memory=lambda: read_inventory().memory_bytes)


def pruner(settings: Settings, store: ModelStore) -> Pruner:
    """Return what makes smaller models of stored ones; where unfinished runs stand is in the home's cache."""
    from ashore.optimize.pruning import Pruner
    from ashore.planning import read_inventory

    return Pruner(store, settings.home.cache / "pruning", free_memory=lambda: read_inventory().memory_bytes)


@contextmanager
def open_subject(
    store: ModelStore,
    home: Home,
    name: str,
    *,
    kind: EngineKind | None = None,
    options: Mapping[str, str | int | float | bool] = {},
    threads: int = 0,
    told: Callable[[str, float], None] = _quietly,
    progress: Progress | None = None,
) -> Iterator[Subject]:
    """Open `name[@variant]`, or a `fake:` model, behind an engine in a host of its own, to be evaluated.

    The bare name of a GGUF or safetensors model is evaluated on `openvino` as its variant `fp16`, which has the same
    weights, made now if it is absent.

    Args:
        store: Where it is.
        home: Where hosts write their words.
        name: Reference; pulled first where only the catalogue knows it.
        kind: Engine; default: the one that reads the model's form as it lies in the store.
        options: Of the engine, by its own names, such as `full_precision`.
        threads: 0 means all.
        told: Hears of preparing.
        progress: Hears of pulling.

    Raises:
        UnknownModel, UnknownVariant: there is no such model.
        MemoryFull: it would not fit beside what runs.
        AshoreError: the engine could not load it.
    """
    from ashore.engines import EngineOptions, ModelFiles, fake_model_files
    from ashore.evaluation import check_memory, memory_needed, open_hosted
    from ashore.planning import read_inventory

    log = home.logs / "evaluate.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    if name.startswith(FAKE):
        files = fake_model_files(name, home.run / "fake")
        with open_hosted(files, EngineOptions(kind="fake"), log=log) as subject:
            yield subject
        return
    try:
        model = store.resolve(name)
    except UnknownModel:
        model = store.pull(name, progress=progress)
    if kind == "openvino" and model.format != "openvino" and not model.variant:
        model = prepare_variant(store, model, "fp16", told=told)
    kind = kind or ENGINE_OF[model.format]
    needed = memory_needed(kind=kind, weight_bytes=model.weight_bytes, num_parameters=model.shape.num_parameters)
    check_memory(needed, free_bytes=read_inventory().memory_bytes, name=model.reference)
    opened = store.open(model.reference)
    files = ModelFiles(
        name=model.reference,
        digest=opened.digest,
        directory=str(opened.directory),
        format=opened.format,
        weights=opened.weights,
        sealed=opened.sealed,
    )
    engine = EngineOptions(kind=kind, max_sequences=16, threads=threads, extra=dict(options))
    with open_hosted(files, engine, log=log) as subject:
        yield subject


def build_workshop(
    store: Callable[[], ModelStore],
    *,
    privacy: Callable[[], PrivacyPolicy],
    kept: Callable[[], CachePolicy],
) -> Workshop:
    """Return what knows how a model would be served as a release.

    Args:
        store: Gives the store when it is first needed.
        privacy: Gives the masking policy of ashore.toml.
        kept: Gives what may be kept.
    """
    from ashore.releases import digest_of_value
    from ashore.workshop import StoreWorkshop

    def policies(alias: str) -> dict[str, str]:
        allowed = kept()
        route = allowed.routes.get(alias, allowed.default)
        return {"masking": digest_of_value(privacy()), "cache": digest_of_value((route, allowed.max_temperature))}

    return StoreWorkshop(store, policies)


def release_keeper(
    settings: Settings, database: Database, recorder: Recorder, store: ModelStore, listening: Listening
) -> ReleaseKeeper:
    """Return what the supervisor asks and tells about releases."""
    from ashore.access import Acts
    from ashore.releases import ReleaseKeeper

    workshop = build_workshop(lambda: store, privacy=lambda: listening.privacy, kept=lambda: listening.cache)
    shared = f"{platform.node()}:{settings.home.root}" if settings.state_url else ""
    return ReleaseKeeper(Acts(database, recorder, SystemClock()), workshop, home=shared)


def gather_facts(store: ModelStore, wishes: Iterable[Wish]) -> dict[str, ModelFacts]:
    """Return what is known of each model that is wished for: from the store, else from the catalogue.

    Raises:
        UnknownModel: neither knows it, or it is a source that must be pulled before anything is known.
    """
    return {wish.name: replace(_facts_of(store, wish), vllm=find_vllm(wish)) for wish in wishes}


def find_vllm(wish: Wish) -> str:
    """Return the path of the vLLM executable that this model would be served with; empty where there is none.

    It is the one named in `options.executable`, else the `vllm` that the shell would find.
    """
    named = Path(str(dict(wish.options).get("executable", "vllm"))).expanduser()
    return shutil.which(named) or ""


def vllm_command_lines(store: ModelStore, home: Home, plan: Plan) -> dict[str, str]:
    """Return, by alias, the command of each vLLM server that this plan starts. Makes nothing.

    `$PORT` stands for a free port, and `$KEY` for a secret, both chosen when the engine host starts.
    """
    import shlex

    from ashore.engines import ModelFiles
    from ashore.engines.vllm.command import vllm_command

    lines = {}
    for model in plan.models:
        if model.options.kind != "vllm" or "url" in model.options.extra:
            continue
        stored = store.resolve(model.reference) if model.in_store else None
        folder = stored.digest.removeprefix("sha256:") if stored else "DIGEST"
        files = ModelFiles(
            name=model.reference,
            digest="",
            directory=str(home.run_models / folder),
            format=stored.format if stored else "safetensors",
            weights=stored.weights if stored else "",
        )
        command = vllm_command(files, model.options, port="$PORT")
        lines[model.alias] = "VLLM_API_KEY=$KEY " + shlex.join(command).replace("'$PORT'", "$PORT")
    return lines


def _facts_of(store: ModelStore, wish: Wish) -> ModelFacts:
    from ashore.planning import ModelFacts

    if wish.name.startswith(FAKE):
        return ModelFacts(name=wish.name, format="fake", shape=None)
    if wish.url:
        return ModelFacts(name=wish.name, format="remote", shape=None)
    try:
        model = store.resolve(wish.name)
    except UnknownVariant:
        name, _, variant = wish.name.partition("@")
        if variant not in PREPARED_VARIANTS:
            raise
        return _stored_facts(store.resolve(name), variant)
    except UnknownModel:
        name, _, variant = wish.name.partition("@")
        entry = next((e for e in store.catalog.entries if e.name == name), None)
        if entry is None or entry.shape is None:
            raise
        return ModelFacts(
            name=entry.name,
            variant=variant,
            format=entry.format,
            shape=entry.shape,
            weight_bytes=entry.weight_bytes or 2 * entry.shape.num_parameters,
            in_store=False,
        )
    return _stored_facts(model, model.variant)


def _stored_facts(model: StoredModel, variant: str) -> ModelFacts:
    from ashore.planning import ModelFacts

    return ModelFacts(
        name=model.name,
        variant=variant,
        format=model.format,
        shape=model.shape,
        weight_bytes=model.num_bytes,
    )


def tuned_choices(
    settings: Settings, store: ModelStore, facts: Mapping[str, ModelFacts], inventory: Inventory
) -> tuple[dict[str, Tuned], tuple[str, ...]]:
    """Return what `engine tune` chose for these models on this machine, and notes on records that are not used."""
    if not settings.home.state_db.exists() and not settings.state_url:
        return {}, ()
    from ashore.engines.tuning import Unused, describe_machine, recorded_choice
    from ashore.planning import Tuned

    here = describe_machine(cpu=inventory.cpu, cores=inventory.cores)
    tuned: dict[str, Tuned] = {}
    notes = []
    state = open_state(settings)
    try:
        with state.read() as connection:
            for fact in facts.values():
                if fact.shape is None or not fact.in_store:
                    continue
                digest = store.resolve(fact.name).digest
                found = recorded_choice(connection, model=fact.name, model_digest=digest, here=here)
                if isinstance(found, Unused):
                    notes.append(found.reason)
                elif found is not None:
                    tuned[fact.name] = Tuned(
                        kind=found.kind,
                        variant=found.variant,
                        threads=found.options.threads,
                        options=tuple(sorted(found.options.extra.items())),
                        why=found.reason,
                    )
    finally:
        state.close()
    return tuned, tuple(notes)


def sealing_notes(store: ModelStore, plan: Plan) -> tuple[str, ...]:
    """Return what the operator must know about the sealed models of a plan."""
    from ashore.sealing import swap_in_use

    areas = swap_in_use()
    sealed = [m.reference for m in plan.models if m.in_store and m.reference and _is_sealed(store, m)]
    if not areas or not sealed:
        return ()
    return (
        f"{', '.join(sealed)} is sealed, and this machine swaps to {', '.join(areas)}: clear weights and keys may be "
        "written there; switch swap off (swapoff -a) or encrypt it",
    )


def _is_sealed(store: ModelStore, model: ModelPlan) -> bool:
    try:
        return store.resolve(model.reference).sealed is not None
    except (UnknownModel, UnknownVariant, InvalidRequest):
        return False


def open_model_files(store: ModelStore, home: Home, model: ModelPlan) -> ModelFiles:
    """Return the files of a planned model, checked against what was stored.

    Raises:
        CorruptBlob: a file was altered or cut short.
    """
    from ashore.engines import ModelFiles

    if model.options.kind == "fake":
        from ashore.engines.fake import fake_model_files

        return fake_model_files(model.name, home.run / "fake")
    if model.options.kind == "vllm" and "url" in model.options.extra:
        return ModelFiles(name=model.name, digest="", directory=str(home.run), format="remote")
    files = store.open(model.reference)
    return ModelFiles(
        name=model.reference,
        digest=files.digest,
        directory=str(files.directory),
        format=files.format,
        weights=files.weights,
        sealed=files.sealed,
    )
