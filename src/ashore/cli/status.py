"""`ashore status`: the state of this home's server, for the home's owner, without a key."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec
from cyclopts import App

from ashore.cli.backends import BackendShown, backends_of
from ashore.cli.columns import say, table
from ashore.cli.doctor import examine_once
from ashore.cli.said import said
from ashore.cli.sure import AsJson
from ashore.control.doctor.samples import Samples
from ashore.core.bytesize import human_bytes
from ashore.core.errors import BackupDamaged, NotReady
from ashore.core.timespan import human_moment
from ashore.kit.settings import Settings, read_settings

if TYPE_CHECKING:
    from ashore.control.doctor import Readings
    from ashore.data.privacy import PrivacyPolicy
    from ashore.data.releases import Book

app = App(name="status", help="Show what the server of this home runs; needs no key.")

EXIT_NOT_RUNNING: Final = NotReady.exit_code


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One release that has hosts, or is on its way."""

    alias: str
    release: str
    model: str
    """With its variant."""
    engine: str
    state: str
    why: str
    residence: str = ""
    """Of a model that is loaded on demand: cold, loading, loaded…"""
    memory_bytes: int
    """Planned: weights and full KV cache, its processes themselves on top; 0 where nothing is needed here, and at every
    alias of a release but the first."""
    resident_bytes: int = 0
    """Measured: what its hosts hold in memory now; 0 at every alias of a release but the first."""


class RoutedShown(msgspec.Struct, frozen=True, kw_only=True):
    """One model that answers for an alias that is routed by cost."""

    alias: str
    """That clients ask for."""
    model: str
    """Alias of the model that answers."""
    price_per_hour: float
    replicas_ready: int
    answers: int = 0
    """Since the start."""
    late: int = 0
    """Of these, after they were due."""
    cost: float = 0.0
    """Of these, in the currency of the prices."""
    stream_tokens_per_s: float | None = None
    full_tokens_per_s: float | None = None
    """Learned of one replica: one answer alone, all together; null before its first answer."""


class LadderShown(msgspec.Struct, frozen=True, kw_only=True):
    """One alias that answers in several precisions."""

    alias: str
    rung: int
    """That computes now, 0: the most exact; of several replicas the least exact one."""
    switches: int
    """Of all replicas since they were loaded."""
    answers: dict[str, int]
    """Since the start, by the precisions that computed them."""


class SilentAnchor(msgspec.Struct, frozen=True, kw_only=True):
    """A place that takes no copies of the checkpoints now."""

    place: str
    since: int
    """Seconds since 1970."""
    error: str
    """What the last try said."""


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that does not mend itself."""

    what: str
    do: str
    """A command that mends it or shows more, or what to change."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How a server stands. Figures that it did not tell are null."""

    running: bool
    home: str
    address: str = ""
    answers: bool = False
    """Whether every model can answer."""
    models: list[ModelStatus] = []
    backends: list[BackendShown] = []
    ladders: list[LadderShown] = []
    """Models that have answered, and in several precisions."""
    routed: list[RoutedShown] = []
    """Models that answer for others, by cost."""
    requests_running: int | None = None
    requests_waiting: int | None = None
    cache_hit_rate: float | None = None
    """Of the requests that could be answered from the cache, since the start; null where there was none."""
    last_backup_at: int | None = None
    """Of the newest backup of the home, however it was made, in seconds since 1970; null: there is none."""
    anchors: list[str] = []
    """Where copies of the checkpoints of the audit log go."""
    silent_anchors: list[SilentAnchor] = []
    """Those that take none now."""
    accelerators: list[str] = []
    shares: str = "none"
    """How the shares of models are kept: cgroup2, cgroup1, affinity, or none."""
    shared: list[str] = []
    """A line for each model with a share of its own."""
    memory_bytes: int = 0
    """That all models together may take, where some are loaded on demand."""
    needs: list[Need] = []
    """What does not mend itself, the worst first."""


@app.default
def status(*, as_json: AsJson = False) -> int:
    """Show what runs, whether it is well, and what needs you, with the command for that. Exits with 4 if no server is
    running.
    """
    found = look(read_settings())
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        show(found)
    return 0 if found.running else EXIT_NOT_RUNNING


def look(settings: Settings) -> Status:
    """Return how the server of this home stands, as its files, its state and its own figures tell."""
    from ashore.cli.target import operator_target
    from ashore.data.path import read_topology
    from ashore.kit.processes import ask

    gpus = accelerators()
    try:
        *_, told = ask(settings.home.control_socket, {"op": "status"})
        *_, residents = ask(settings.home.control_socket, {"op": "models", "do": "list"})
        shares: Any = told["shares"]
        items: Any = residents["items"]
        target = operator_target(None)
        topology = read_topology(settings.home.topology)
    except NotReady:
        return Status(running=False, home=str(settings.home.root), accelerators=gpus)
    backends = asyncio.run(backends_of((*topology.models, *topology.beside)))
    examined, page = examine_once(settings, backends)
    book, policy = _stored(settings)
    backed_up_s, damaged = last_backup(settings.home.root)
    return figures(
        Samples(page),
        Status(
            running=True,
            home=str(settings.home.root),
            address=target.url,
            answers=examined.server.answers and not examined.releases.without_servers,
            models=models_of(book, {one["release"]: one for one in items}),
            backends=[_with_ways(one, policy or topology.privacy) for one in backends],
            shares=shares["kind"],
            shared=shares["items"],
            memory_bytes=int(str(residents["memory_bytes"])),
            anchors=[*topology.audit.section.anchors],
            silent_anchors=silent_anchors(settings.home.audit),
            last_backup_at=backed_up_s,
            accelerators=gpus,
            needs=damaged + needs_of(examined),
        ),
    )


def needs_of(examined: Readings) -> list[Need]:
    """Return what needs the operator, the worst first: what the doctor finds at one look, advice aside."""
    from ashore.control.doctor import diagnose, load_rules

    found = diagnose(examined, load_rules()).findings
    return [
        Need(what=one.what, do=next((c for c in one.commands if c.startswith("ashore ")), one.remedy))
        for one in found
        if one.severity != "advice"
    ]


def figures(samples: Samples, status: Status) -> Status:
    """Return a status with what a page of metrics says."""

    def whole(name: str) -> int | None:
        value = samples.total(name)
        return None if value is None else int(value)

    lookups = samples.total("ashore_cache_lookups_total")
    misses = samples.total("ashore_cache_lookups_total", result="miss") or 0.0
    return msgspec.structs.replace(
        status,
        requests_running=whole("ashore_running_sequences"),
        requests_waiting=whole("ashore_waiting_sequences"),
        routed=routed_of(samples),
        ladders=ladders_of(samples),
        cache_hit_rate=(lookups - misses) / lookups if lookups else None,
    )


def ladders_of(samples: Samples) -> list[LadderShown]:
    """Return which precision computes, of the models that answer in several."""
    answers: dict[str, dict[str, int]] = {}
    for labels, number in samples.each("ashore_precision_answers_total"):
        answers.setdefault(labels["model"], {})[labels["precision"]] = int(number)
    return [
        LadderShown(
            alias=alias,
            rung=int(max((value for _, value in samples.each("ashore_host_rung", model=alias)), default=0)),
            switches=int(samples.total("ashore_host_rung_switches_total", model=alias) or 0),
            answers=answers[alias],
        )
        for alias in sorted(answers)
    ]


def routed_of(samples: Samples) -> list[RoutedShown]:
    """Return the models that answer for others by cost, cheapest first."""

    def of(name: str, labels: Mapping[str, str], **more: str) -> float:
        return samples.total(f"ashore_route_{name}", **labels, **more) or 0.0

    shown = [
        RoutedShown(
            alias=labels["model"],
            model=labels["backend"],
            price_per_hour=price,
            replicas_ready=int(of("ready", labels)),
            answers=int(of("answers_total", labels)),
            late=int(of("late_total", labels)),
            cost=of("cost_total", labels),
            stream_tokens_per_s=of("tokens_per_second", labels, rate="stream") or None,
            full_tokens_per_s=of("tokens_per_second", labels, rate="full") or None,
        )
        for labels, price in samples.each("ashore_route_price")
    ]
    return sorted(shown, key=lambda one: (one.alias, one.price_per_hour, one.model))


def models_of(book: Book, residents: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> list[ModelStatus]:
    """Return the releases that answer or are on their way, once for each alias that leads to them. `residents` says of
    releases whether they are in memory."""
    shown = []
    for name, release in book.releases.items():
        course = book.courses[name]
        if course.state in ("created", "retired"):
            continue
        led = [one.name for one in book.aliases.values() if one.weight(name)] or [release.alias]
        led.sort(key=lambda alias: alias != release.alias)
        for alias in led:
            shown.append(
                ModelStatus(
                    alias=alias,
                    release=name,
                    model=" > ".join((release.plan.reference, *release.plan.rungs)),
                    engine=release.plan.options.kind,
                    state=course.state,
                    why=course.why,
                    residence=resident["state"] if (resident := residents.get(name)) else "",
                    memory_bytes=release.needed_bytes if alias == led[0] else 0,
                    resident_bytes=resident["resident_bytes"] if resident and alias == led[0] else 0,
                )
            )
    return sorted(shown, key=lambda one: (one.alias, one.state != "live", one.release))


def last_backup(home: Path) -> tuple[int | None, list[Need]]:
    """Return when the newest backup of a home was made, None where there is none; and what is wrong with the file that
    says so."""
    from ashore.control.backup import BackupHome

    kept = BackupHome(home)
    try:
        return (kept.read().backed_up_s or None) if kept.has_vault else None, []
    except BackupDamaged as fault:
        return None, [Need(what=fault.message, do=fault.hint)]


def silent_anchors(audit: Path) -> list[SilentAnchor]:
    """Return the anchors that take nothing now, as the folder of the audit says."""
    from ashore.control.audit import read_anchors

    return [
        SilentAnchor(place=one.place, since=one.silent_us // 1_000_000, error=one.error)
        for one in read_anchors(audit)
        if one.failures
    ]


def accelerators(root: Path = Path("/")) -> list[str]:
    """Return the accelerators of this machine, by name where a driver says it, else by maker."""
    from ashore.kit.accelerators import DEFAULT, count_cards, makers

    named = [
        line.partition(":")[2].strip()
        for file in sorted(root.glob("proc/driver/nvidia/gpus/*/information"))
        for line in _lines(file)
        if line.startswith("Model:")
    ]
    cards = {name: number for name, number in count_cards(root).items() if not (named and name == DEFAULT)}
    return named + [makers()[name].title for name, number in cards.items() for _ in range(number)]


def _lines(file: Path) -> Iterable[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return ()


def _stored(settings: Settings) -> tuple[Book, PrivacyPolicy | None]:
    """Return the releases and the policy of masking in the state."""
    from ashore.cli.bootstrap import as_served, open_state
    from ashore.data.privacy import load_policy
    from ashore.data.releases import load_book

    with closing(open_state(as_served(settings))) as state, state.read() as connection:
        return load_book(connection), load_policy(connection).policy


def show(found: Status) -> None:
    """Print it for people."""
    if not found.running:
        print(f"no server is running from {found.home}")
        print("start one with `ashore up`")
        _line("GPU", ", ".join(found.accelerators) or "none found")
        return
    _line("address", found.address)
    served = ", ".join(dict.fromkeys(one.alias for one in found.models)) or "no model"
    _line("serves", served if found.answers else f"{served}; not every one answers yet")
    _line("requests", f"{_or(found.requests_running)} running, {_or(found.requests_waiting)} waiting")
    _line("cache", "no lookups yet" if found.cache_hit_rate is None else f"{found.cache_hit_rate:.0%} of lookups hit")
    last = found.last_backup_at
    backup = "none yet: `ashore backup init`, then `ashore backup run`" if last is None else human_moment(last)
    _line("backup", backup)
    _line("anchors", ", ".join(found.anchors) or "none: [audit] anchors copies checkpoints of the audit log elsewhere")
    for one in found.silent_anchors:
        _line("", f"{one.place} FAILING since {human_moment(one.since)}: {one.error}")
    _line("GPU", ", ".join(found.accelerators) or "none found")
    print()
    if found.shared:
        _line("shares", f"kept by {found.shares}")
        for line in found.shared:
            _line("", line)
        print()
    table(
        ("alias", "release", "model", "engine", "state", "planned", "resident", "why"),
        [_row(one) for one in found.models],
    )
    if found.backends:
        print()
        table(
            ("server", "kind", "release", "state", "running", "sent", "cached", "out", "why, or the last error"),
            [_backend_row(one) for one in found.backends],
        )
        for backend in found.backends:
            if backend.leaves:
                _line("leaves", f"prompts of {backend.alias} for {backend.leaves}")
    if found.ladders:
        print()
        table(("ladder", "rung now", "switches", "answers by precision"), [_ladder_row(one) for one in found.ladders])
    if found.routed:
        print()
        table(
            ("routed by cost", "answered by", "price/h", "ready", "answers", "late", "cost", "tok/s alone", "all"),
            [_routed_row(one) for one in found.routed],
        )
    print()
    print(said("needs you" if found.needs else "nothing needs you"))
    for need in found.needs:
        say(f"  {said(need.what)}\n    {said(need.do)}")
    say("  advice: run `ashore doctor`, which looks longer and finds what could be better")


def _row(one: ModelStatus) -> tuple[str, ...]:
    memory = (human_bytes(size) if size else "-" for size in (one.memory_bytes, one.resident_bytes))
    state = one.state if one.residence in ("", "loaded") else f"{one.state}, {one.residence}"
    return one.alias, one.release, one.model, one.engine, state, *memory, one.why


def _with_ways(one: BackendShown, policy: PrivacyPolicy) -> BackendShown:
    from ashore.control.fleet import leaves_to
    from ashore.data.privacy import hidden_kinds

    leaves = leaves_to(one.url, outside=one.outside, hidden=hidden_kinds(policy, one.alias))
    return msgspec.structs.replace(one, leaves=leaves)


def _backend_row(one: BackendShown) -> tuple[str, ...]:
    why = one.reason or (f"last error: {one.last_error}" if one.last_error else "")
    cached = f"{one.cached_tokens / one.prompt_tokens:.0%}" if one.prompt_tokens else "-"
    return (
        one.url,
        one.kind or "-",
        one.release,
        one.state,
        str(one.running),
        str(one.sent),
        cached,
        str(one.times_out),
        why,
    )


def _ladder_row(one: LadderShown) -> tuple[str, ...]:
    answers = ", ".join(f"{precision} {number}" for precision, number in sorted(one.answers.items()))
    return one.alias, str(one.rung), str(one.switches), answers


def _routed_row(one: RoutedShown) -> tuple[str, ...]:
    rates = (f"{per_s:.0f}" if per_s else "-" for per_s in (one.stream_tokens_per_s, one.full_tokens_per_s))
    counts = str(one.replicas_ready), str(one.answers), str(one.late)
    return one.alias, one.model, f"{one.price_per_hour:g}", *counts, f"{one.cost:.4g}", *rates


def _line(name: str, text: str) -> None:
    say(text, first=f"{name:<9} ")


def _or(value: int | None) -> str:
    return "?" if value is None else str(value)
