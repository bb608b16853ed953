"""ashore.toml as a whole: its sections, and checks across them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Self, TypeVar

from msgspec import defstruct, field
from msgspec.structs import replace

from ashore.core.errors import InvalidSpec, PermissionDenied
from ashore.core.nearest import did_you_mean
from ashore.data.audit import AuditSection
from ashore.data.authority import AccessSection
from ashore.data.cache import CachePolicy, RedisSection
from ashore.data.jobs import EgressSection, JobsSection
from ashore.data.path import AdmissionSection, DispatchSection, GrpcSection, HttpSection, MetricsSection
from ashore.data.privacy import PrivacyPolicy, check_policy
from ashore.data.releases import ReleasePolicy
from ashore.kit.egress import LOOPBACK, PORTS, check_url, parse_allow
from ashore.kit.listed import LISTED
from ashore.kit.rooms import room_in
from ashore.kit.sealing.keysource import parse_key_source
from ashore.kit.sealing.section import SealingSection
from ashore.kit.section import Section, read_section, toml
from ashore.kit.settings import Home
from ashore.kit.state import StateSection
from ashore.kit.textfile import parse_toml, read_toml_text
from ashore.machine.config.differences import differences
from ashore.machine.edge import EdgeSection
from ashore.machine.planning import ModelSection
from ashore.machine.residency import TiersSection

SectionT = TypeVar("SectionT", bound=Section)


class Listening(Section, frozen=True, kw_only=True):
    """The configuration of a running server except its models: each field is a section of ashore.toml."""

    http: HttpSection = HttpSection()
    grpc: GrpcSection = GrpcSection()
    admission: AdmissionSection = AdmissionSection()
    edge: EdgeSection = EdgeSection()
    cache: CachePolicy = CachePolicy()
    redis: RedisSection = RedisSection()
    jobs: JobsSection = JobsSection()
    egress: EgressSection = EgressSection()
    audit: AuditSection = AuditSection()
    privacy: PrivacyPolicy = PrivacyPolicy()
    release: ReleasePolicy = ReleasePolicy()
    access: AccessSection = AccessSection()
    metrics: MetricsSection = MetricsSection()
    tiers: TiersSection = TiersSection()
    dispatch: DispatchSection = DispatchSection()

    def sections(self) -> dict[str, Any]:
        """Return the sections by name."""
        return {name: getattr(self, name) for name in Listening.__struct_fields__}

    def section(self, name: str, kind: type[SectionT]) -> SectionT:
        """Return a section that belongs to a room and has no field above."""
        found = getattr(self, name)
        assert isinstance(found, kind)
        return found

    def reloaded(self, said: Listening) -> Listening:
        """Return the configuration after a reload of `said`: all of it except the keys that a running server keeps."""
        then = said.sections()
        return Listening(**{name: one.reloaded(then[name]) for name, one in self.sections().items()})

    def kept_but_changed(self, said: Listening) -> tuple[str, ...]:
        """Return, for each key that `said` changes and a running server keeps, `[jobs] result_ttl_s: 3600 -> 1800`."""
        then = said.sections()
        return tuple(
            f"[{name}] {line}"
            for name, one in self.sections().items()
            for line in differences(one.kept(), then[name].kept())
        )

    def keys_to_take(self, said: Listening) -> tuple[str, ...]:
        """Return, for each key (except models) that `said` changes and a reload applies, `[cache] ttl_s: 60 -> 90`.

        Secrets are not shown.
        """
        then = self.reloaded(said).sections()
        return tuple(
            f"[{name}] {line}" for name, one in self.sections().items() for line in differences(one, then[name])
        )

    def sections_to_take(self, said: Listening) -> tuple[str, ...]:
        """Return the sections, except models, that `said` changes and a reload applies."""
        then = self.reloaded(said).sections()
        return tuple(f"[{name}]" for name, one in self.sections().items() if one != then[name])

    @property
    def has_edge(self) -> bool:
        return self.edge.kind != "none"

    @property
    def address(self) -> str:
        """Base address for a client on this machine."""
        host = (self.edge if self.has_edge else self.http).host
        return self.address_at({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host))

    def address_at(self, host: str) -> str:
        """Return the base address for a client that reaches this machine as `host`."""
        port = (self.edge if self.has_edge else self.http).port
        scheme = "https" if self.has_edge and self.edge.tls != "off" else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def authority(self, home: Home) -> str:
        """Return the CA file to verify the edge's certificate; empty if ashore did not create it."""
        return str(home.edge / "ca.pem") if self.has_edge and self.edge.tls == "generate" else ""


BROUGHT: Final = tuple(one.section for one in LISTED if one.section)
"""The sections that rooms bring beside those above."""
if BROUGHT:
    kinds: list[Any] = [(one.section, room_in(one.folder).section) for one in LISTED if one.section]
    Listening = defstruct(  # type: ignore[misc, assignment]
        "Listening", [(name, kind, kind()) for name, kind in kinds], bases=(Listening,), frozen=True, kw_only=True,
        module=__name__,
    )  # fmt: skip


class Spec(Listening, frozen=True, kw_only=True):
    """The deployment that the operator wants: all of ashore.toml."""

    models: Annotated[tuple[ModelSection, ...], toml("model")] = ()
    state: StateSection = StateSection()
    sealing: SealingSection = SealingSection()
    written: Annotated[dict[str, Any], toml("settings")] = field(default_factory=dict)
    """`[settings]` as written."""

    @property
    def settings(self) -> dict[str, object]:
        """The input of `read_settings`: `[settings]`, and `[state]` and `[sealing]` where set."""
        settings = dict(self.written)
        if self.state.url:
            settings["state_url"] = self.state.url
        if self.sealing.key:
            settings["sealing_key"] = self.sealing.key
        if not self.sealing.state:
            settings["sealing_state"] = False
        return settings

    @property
    def listening(self) -> Listening:
        """The configuration of a running server except its models."""
        return Listening(**self.sections())

    def checked(self, where: str) -> Self:
        check_policy(self.privacy)
        aliases = [one.alias or one.name for one in self.models]
        aliases += [f"{one.alias or one.name}:{adapter}" for one in self.models for adapter in one.adapters]
        for alias in aliases:
            if aliases.count(alias) > 1:
                raise InvalidSpec(
                    f"{where} has two models with the alias {alias!r}", hint="give each model its own alias"
                )
        on_demand = {one.alias or one.name for one in self.models if one.load == "demand"}
        for route in self.dispatch.routes if self.models else ():
            for alias in route.prices:
                if alias not in aliases:
                    raise InvalidSpec(
                        f"{where} [dispatch] prices {alias!r} for {route.alias!r}, which is no [[model]]",
                        hint=did_you_mean(alias, aliases),
                    )
                if alias in on_demand:
                    raise InvalidSpec(
                        f"{where} [dispatch] prices {alias!r}, which is loaded on demand",
                        hint='a choice by cost needs models that are there: load = "start"',
                    )
        for one in self.dispatch.aliases if self.models else ():
            for step in one.fallback:
                if step.to not in aliases:
                    raise InvalidSpec(
                        f"{where} [dispatch] has a step of {one.name!r} to {step.to!r}, which is no [[model]]",
                        hint=did_you_mean(step.to, aliases),
                    )
        for name, section in self.sections().items():
            section.fits({**self.sections(), "model": self.models}, where)
            for key, url in section.calls.items():
                self._refuse_elsewhere(url, f"{where} [{name}] {key} names a server", LOOPBACK)
        if self.sealing.key and (source := parse_key_source(self.sealing.key)).kind == "transit":
            self._refuse_elsewhere(source.url, f"{where} [sealing] key names a service")
        return self

    def _refuse_elsewhere(self, url: str, what: str, own: tuple[str, ...] = ()) -> None:
        try:
            check_url(url, parse_allow([*own, *self.egress.allow]), schemes=tuple(PORTS))
        except PermissionDenied as fault:
            raise InvalidSpec(
                f"{what} that ashore may not call: {fault.message}", hint="add its host to [egress] allow"
            ) from fault

    def beside(self, folder: Path) -> Self:
        """Return the spec with absolute paths: relative ones are in `folder`. Schemas of judges are read."""
        models = tuple(one.beside(folder) for one in self.models)
        adapters = [at for one in models for at in one.adapters.values()]
        return replace(
            self,
            models=models,
            access=self.access.beside(folder),
            release=self.release.beside(folder, adapters=adapters),
            sealing=self.sealing.beside(folder),
            **{name: getattr(self, name).beside(folder) for name in BROUGHT},
        )


def read_spec(path: Path, merge: Callable[[dict[str, Any]], dict[str, Any]] = lambda document: document) -> Spec:
    """Return the parsed file.

    Args:
        path: Path of the file.
        merge: Returns the document with what is said elsewhere.

    Raises:
        InvalidSpec: it is missing, is not TOML, or has something that ashore does not know or support yet.
    """
    text = read_toml_text(path, hint="check the path, or put the file back")
    spec = read_section(Spec, merge(parse_toml(text, str(path))), str(path))
    return spec.beside(path.absolute().parent)


def parse_spec(text: str, *, where: str = "ashore.toml") -> Spec:
    """Return the spec in `text`; `where` names it in messages."""
    return read_section(Spec, parse_toml(text, where), where)
