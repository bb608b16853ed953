"""What may be wrong with the URL of a shared cache, told before anything is started with it, without its password."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, urlsplit

from redis.exceptions import RedisError

from ashore.cache.valkey import connect
from ashore.errors import InvalidSpec

ENCODED: Final = "in a password, / ? # @ and : are written as %2F %3F %23 %40 and %3A"
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
    parts = urlsplit(url)
    _check_ports(parts, where)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    for name in OF_A_FILE:
        if name in options and not Path(options[name]).is_file():
            raise InvalidSpec(f"{where}: {name} names {options[name]!r}, which is no file", hint="correct the path")
    if parts.scheme == SENTINEL:
        for name in options:
            if name not in SENTINEL_OPTIONS:
                raise InvalidSpec(f"{where}: unknown option {name!r}", hint=f"known: {', '.join(SENTINEL_OPTIONS)}")
    elif parts.scheme != "unix" and not re.fullmatch(r"/?[0-9]*", parts.path):
        raise InvalidSpec(f"{where}: the path of the URL is no number of a database", hint=f"write /0; {ENCODED}")
    try:
        pool: Any = connect(url).connection_pool  # untyped
        pool.make_connection()
    except TypeError as fault:
        name = (re.findall(r"'(\w+)'", str(fault)) or ["?"])[-1]
        raise InvalidSpec(f"{where}: unknown option {name!r}", hint="options are those of redis-py") from fault
    except (ValueError, RedisError) as fault:
        raise InvalidSpec(f"{where}: {fault}", hint="correct the option") from fault


def _check_ports(parts: SplitResult, where: str) -> None:
    for place in parts.netloc.rpartition("@")[2].split(","):
        try:
            port = urlsplit(f"//{place}").port
        except ValueError as fault:
            raise InvalidSpec(f"{where}: a port is no number from 1 to 65535", hint=ENCODED) from fault
        if port == 0:
            raise InvalidSpec(f"{where}: a port is 0", hint="1 to 65535")
