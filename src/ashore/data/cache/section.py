"""`[cache]` and `[redis]`: which answers are worth keeping, and where workers share them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import SplitResult, parse_qs, urlsplit

from msgspec import Meta

from ashore.core.errors import InvalidSpec
from ashore.kit.section import Kept, Seconds, Section, toml

Mode = Literal["off", "exact", "exact_then_reworded"]
Bytes = Annotated[int, Meta(ge=1 << 20, le=2**40)]
REDIS_SCHEMES: Final = ("redis://", "rediss://", "redis+sentinel://", "unix://")
EMBEDDED: Final = "embedded"


class RouteRules(Section, frozen=True, kw_only=True):
    """Rules that may differ between aliases."""

    mode: Mode = "exact"
    """`off`; `exact`: reuse the answer to the same request; `exact_then_reworded`: also to the same question in other
    words."""
    ttl_s: Seconds = 86_400.0
    """How long a cached answer is kept."""


class RoutePolicy(RouteRules, frozen=True, kw_only=True):
    """Rules for one alias. Keys that are left out are inherited from `[cache]`."""

    alias: str = ""
    """Alias that the rules are for. Each route names another alias."""
    public: bool = False
    """Share the cached answers of this alias between all tenants."""


class CachePolicy(RouteRules, frozen=True, kw_only=True):
    """The answer cache."""

    max_bytes: Kept[Bytes] = 256 << 20
    """Memory for cached answers in each API worker."""
    max_temperature: Annotated[float, Meta(ge=0, le=2)] = 0.0
    """Requests with a higher temperature are not answered from the cache, unless they ask for it."""
    routes: Annotated[tuple[RoutePolicy, ...], toml("route")] = ()

    @classmethod
    def prepared(cls, values: Mapping[str, object], where: str) -> Mapping[str, object]:
        routes = values.get("route")
        if not isinstance(routes, list):
            return values
        own = {key: values[key] for key in RouteRules.__struct_fields__ if key in values}
        return {**values, "route": [{**own, **one} if isinstance(one, dict) else one for one in routes]}

    def checked(self, where: str) -> Self:
        seen: set[str] = set()
        for number, one in enumerate(self.routes, start=1):
            if not one.alias or one.alias in seen:
                raise InvalidSpec(
                    f"{where} [[route]] number {number} has the alias {one.alias!r}",
                    hint="give each route its own alias",
                )
            seen.add(one.alias)
        return self

    @property
    def default(self) -> RoutePolicy:
        """What holds for an alias that has no route."""
        return RoutePolicy(mode=self.mode, ttl_s=self.ttl_s)

    def route(self, alias: str, behind: Sequence[str] = ()) -> RoutePolicy:
        """Return what holds for one alias; where nothing is said of it, what is said of a model behind it."""
        if self.routes:
            for name in (alias, *behind):
                for one in self.routes:
                    if one.alias == name:
                        return one
        return self.default


class RedisSection(Section, frozen=True, kw_only=True):
    """The cache that workers and machines share. It holds only cached answers."""

    WHOLE_KEPT: ClassVar[bool] = True

    url: str = ""
    """Empty: no shared cache; `embedded`: ashore runs a Valkey server; else `redis://`, `rediss://`,
    `redis+sentinel://` or `unix://`."""
    timeout_ms: Annotated[float, Meta(gt=0, le=1000)] = 5.0
    """Longest wait for the shared cache before only the local one is used."""
    max_bytes: Bytes = 256 << 20
    """Memory of the embedded server."""

    def checked(self, where: str) -> Self:
        check_shared_url(self.url, f"{where} url")
        return self

    @property
    def timeout_s(self) -> float:
        return self.timeout_ms / 1000

    @property
    def is_embedded(self) -> bool:
        return self.url == EMBEDDED


def check_shared_url(url: str, where: str) -> None:
    """Return when `url` is empty or has a form that we speak.

    Raises:
        InvalidSpec: it has not. The message leaves out what may be a password.
    """
    if not url or url == EMBEDDED:
        return
    if not url.startswith(REDIS_SCHEMES):
        raise InvalidSpec(
            f"{where} has the scheme {url.partition(':')[0][:20]!r}",
            hint=f'expected "{EMBEDDED}" or one of {", ".join(REDIS_SCHEMES)}',
        )

    check_redis_url(url, where)


ENCODED: Final = "in a password, write / ? # @ and : as %2F %3F %23 %40 and %3A"
SENTINEL: Final = "redis+sentinel"
SENTINEL_OPTIONS: Final = ("db", "tls")
OF_A_FILE: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def check_redis_url(url: str, where: str) -> None:
    """Return when a client can be made of `url`. Nothing is connected.

    Args:
        where: What names it, for the message.

    Raises:
        InvalidSpec: it cannot, and why.
    """
    from redis.exceptions import RedisError  # most servers have none, and it takes a tenth of the start

    from ashore.data.cache.valkey import connect

    parts = urlsplit(url)
    _check_ports(parts, where)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    for name in OF_A_FILE:
        if name in options and not Path(options[name]).is_file():
            raise InvalidSpec(f"{where}: {name} names {options[name]!r}, which is not a file", hint="correct the path")
    if parts.scheme == SENTINEL:
        for name in options:
            if name not in SENTINEL_OPTIONS:
                raise InvalidSpec(f"{where}: unknown option {name!r}", hint=f"known: {', '.join(SENTINEL_OPTIONS)}")
    elif parts.scheme != "unix" and not re.fullmatch(r"/?[0-9]*", parts.path):
        raise InvalidSpec(f"{where}: the path of the URL is not a database number", hint=f"write /0; {ENCODED}")
    try:
        pool: Any = connect(url).connection_pool  # untyped
        pool.make_connection()
    except TypeError as fault:
        name = (re.findall(r"'(\w+)'", str(fault)) or ["?"])[-1]
        raise InvalidSpec(f"{where}: unknown option {name!r}", hint="use the options of redis-py") from fault
    except (ValueError, RedisError) as fault:
        raise InvalidSpec(f"{where}: {fault}", hint="correct the option") from fault


def _check_ports(parts: SplitResult, where: str) -> None:
    for place in parts.netloc.rpartition("@")[2].split(","):
        try:
            port = urlsplit(f"//{place}").port
        except ValueError as fault:
            raise InvalidSpec(f"{where}: a port is not a number from 1 to 65535", hint=ENCODED) from fault
        if port == 0:
            raise InvalidSpec(f"{where}: a port is 0", hint="expected 1 to 65535")
