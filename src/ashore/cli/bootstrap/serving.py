"""Parts of a server's configuration: cache policy, masking, and how a release is described."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ashore.cli.bootstrap.plans import gather_facts
from ashore.cli.bootstrap.state import open_state, shared_name
from ashore.core.clock import SystemClock
from ashore.kit.recorder import Recorder
from ashore.kit.settings import Settings

if TYPE_CHECKING:
    from ashore.control.releases.calls import ReleaseDesk
    from ashore.data.cache import CachePolicy
    from ashore.data.privacy import Privacy, PrivacyPolicy
    from ashore.data.releases import Workshop
    from ashore.data.releases.keeper import ReleaseKeeper
    from ashore.kit.state import Database
    from ashore.kit.store import ModelStore
    from ashore.machine.config import Listening


def open_privacy(settings: Settings, config: Path | None = None) -> tuple[Privacy, str]:
    """Return the masking of this home's server, and the source of its policy.

    The policy is that of `config` if given, else the state's if an administrator wrote one, else a running server's,
    else the built-in one.

    Raises:
        InvalidSpec: the file cannot be used.
    """
    from ashore.data.path import read_topology
    from ashore.data.privacy import Privacy, PrivacyPolicy, load_policy, read_secret
    from ashore.machine.config import read_spec

    home = settings.home
    secret = b"no home, no conversation to continue"
    policy, source = None, ""
    if config is not None:
        policy, source = read_spec(config).privacy, str(config)
    if settings.state_url or home.state_db.is_file():
        with closing(open_state(settings)) as state:
            secret = read_secret(state)
            if policy is None:
                with state.read() as connection:
                    policy, source = load_policy(connection).policy, "the state"
    if policy is None and home.topology.is_file():
        policy, source = read_topology(home.topology).privacy, "the running server"
    if policy is None:
        policy, source = PrivacyPolicy(), "built-in"
    return Privacy(policy, secret=secret), source


def build_workshop(
    store: Callable[[], ModelStore],
    *,
    privacy: Callable[[], PrivacyPolicy],
    kept: Callable[[], CachePolicy],
) -> Workshop:
    """Return what plans a model as a release.

    Args:
        store: Returns the store, when first needed.
        privacy: Returns the masking policy of ashore.toml.
        kept: Returns the cache policy.
    """
    from ashore.data.releases import digest_of_value
    from ashore.machine.planning import StoreWorkshop

    def policies(alias: str) -> dict[str, str]:
        allowed = kept()
        route = msgspec.to_builtins(allowed.route(alias))
        del route["alias"]
        return {"masking": digest_of_value(privacy()), "cache": digest_of_value((route, allowed.max_temperature))}

    return StoreWorkshop(store, policies, gather_facts)


def release_keeper(
    settings: Settings, database: Database, recorder: Recorder, store: ModelStore, listening: Listening
) -> ReleaseKeeper:
    """Return the supervisor's interface to releases."""
    from ashore.data.authority import Acts
    from ashore.data.releases.keeper import ReleaseKeeper

    workshop = build_workshop(lambda: store, privacy=lambda: listening.privacy, kept=lambda: listening.cache)
    return ReleaseKeeper(Acts(database, recorder, SystemClock()), workshop, home=shared_name(settings))


@contextmanager
def releases_of_home(settings: Settings) -> Iterator[ReleaseDesk]:
    """Yield the desk of releases on a home's state, for commands without a running server.

    Needs write access to the state only; the acts are in the audit log once the block ends.

    Raises:
        NotFound: the home has no state.
    """
    from ashore.cli.bootstrap.records import owned_state
    from ashore.cli.bootstrap.stores import build_store
    from ashore.control.releases import ReleaseOffice
    from ashore.control.releases.calls import ReleaseDesk
    from ashore.core.errors import NotFound
    from ashore.data.authority import Acts
    from ashore.data.cache import CachePolicy
    from ashore.data.privacy import PrivacyPolicy

    if not settings.state_url and not settings.home.state_db.is_file():
        raise NotFound(f"{settings.home.root} has no state database", hint="set ASHORE_HOME to the home of the server")
    workshop = build_workshop(lambda: build_store(settings.home), privacy=PrivacyPolicy, kept=CachePolicy)
    with owned_state(settings) as (database, recorder):
        office = ReleaseOffice(Acts(database, recorder, SystemClock()), workshop)
        yield ReleaseDesk(office=office)
