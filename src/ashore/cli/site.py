"""`ashore site`: the branch offices of a centre, and the keys that say what they may believe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from cyclopts import App, Parameter

from ashore.cli.calls import Errand, noun_of, show, table
from ashore.cli.recorded import owner
from ashore.cli.sitehere import HERE
from ashore.control.sites.calls import CALLS, AssignIn, ModelRow, RolloutRow, SiteRow, TokenOut
from ashore.core.bytesize import human_bytes
from ashore.core.counted import counted
from ashore.core.errors import AshoreError, InvalidRequest, NotFound
from ashore.core.timespan import human_moment
from ashore.kit.call import Items
from ashore.kit.settings import read_settings
from ashore.kit.textfile import read_text_file

if TYPE_CHECKING:
    from ashore.control.sites import Office

Online = Literal["timestamp", "snapshot", "targets", "director"]
_FLEET: Final = (
    "site", "state", "serves", "wanted", "lag_s", "seen_s", "health", "drift", "attacks", "version", "note",
)  # fmt: skip


def _show_sites(found: Items[SiteRow]) -> None:
    print(table(found.items, _FLEET) if found.items else "no sites yet; `ashore site create NAME` makes one")


def _show_token(made: TokenOut) -> None:
    print(f"{made.token}\n")
    print(f"at the site {made.site}, once, until {human_moment(made.until_at)}: ashore site join CENTRE --token TOKEN")


def _show_rollouts(found: Items[RolloutRow]) -> None:
    print(table(found.items) if found.items else "no roll-outs yet; `ashore site rollout start` begins one")


def _show_started(made: RolloutRow) -> None:
    show(made)
    print("next: `ashore site rollout list` shows how far it is; `ashore site list` shows each site")


def _show_models(found: Items[ModelRow]) -> None:
    print(table(found.items) if found.items else "no models yet; `ashore site publish MODEL` releases one")


Policy = Annotated[
    tuple[str, ...],
    Parameter(help="SECTION=FILE: TOML that the centre sets there; an empty FILE takes it away. May be repeated."),
]


def _assign(errand: Errand, asked: AssignIn, *, policy: Policy = ()) -> None:
    """Read the files of `--policy SECTION=FILE`, and ask."""
    parts = {}
    for one in policy:
        section, found, path = one.partition("=")
        if not found:
            raise InvalidRequest(f"--policy {one}: expected SECTION=FILE", hint="--policy privacy=privacy.toml")
        parts[section] = read_text_file(Path(path), "the part", hint="give TOML") if path else ""
    errand.tell(errand.ask(msgspec.structs.replace(asked, policies=parts)))


app = noun_of(
    "site",
    "Serve models at branch offices: assign, roll out, watch.",
    CALLS,
    {"list": _show_sites, "create": _show_token, "models": _show_models},
    {"assign": _assign},
)
_VIEWS: Final[dict[str, Any]] = {"list": _show_rollouts, "start": _show_started}
app.command(noun_of("site rollout", "Roll models out to sites in waves.", CALLS, _VIEWS))
for one in HERE:
    app.command(one)
keys: App = noun_of("site keys", "Make, replace and show the keys that sites believe.", CALLS)
app.command(keys)


@keys.command
def create(
    folder: Path, /, *, num_keys: int = 3, threshold: int = 2, targets_key: bool = False, config: Path | None = None
) -> None:
    """Make the keys of a centre: those of the operators in a folder, and those of the centre in its state.

    The operators' keys sign who else may sign. Put each on a medium of its own and give it to another person; the
    server never needs them. The first root is signed and installed at once.

    Args:
        folder: New folder for root-1.pem, root-2.pem …; it should be on a medium that leaves this machine.
        num_keys: Number of operators' keys.
        threshold: How many of them must sign.
        targets_key: Make a key in a file for who releases models, too. Each release is then signed with it by hand.
        config: The ashore.toml of the centre.
    """
    from ashore.control.sites.roles import new_key_file, sign_file
    from ashore.kit.folders import make_folder

    if not 1 <= threshold <= num_keys <= 20:
        raise InvalidRequest(f"{threshold} of {num_keys} keys cannot sign", hint="give --num-keys 3 --threshold 2")
    with _office(config, "create") as office:
        try:
            office.signing.root  # noqa: B018
        except NotFound:
            pass
        else:
            raise InvalidRequest("this centre has keys", hint="`ashore site keys rotate` replaces them")
        make_folder(folder, mode=0o700)
        paths = [folder / f"root-{number}.pem" for number in range(1, num_keys + 1)]
        targets = new_key_file(folder / "targets.pem") if targets_key else None
        staged = folder / "root.json"
        staged.write_bytes(
            office.signing.first_root([new_key_file(one) for one in paths], threshold, targets).to_bytes()
        )
        for one in paths[:threshold]:
            sign_file(staged, one)
        _install(office, staged)
        office.authority()
    print(f"{counted(num_keys, 'key')} in {folder}, of which {threshold} must sign; keep each on a medium of its own")
    print('next: role = "centre" under [sites] in ashore.toml, and restart `ashore up`')
    print("a server that runs already asks sites for certificates after `ashore reload`")
    if targets is not None:
        print("now sign the first list of models: ashore site keys stage FILE, then sign and install it")


@keys.command
def rotate(
    file: Path, /, *, role: tuple[Online, ...] = (), operators: tuple[Path, ...] = (), config: Path | None = None
) -> None:
    """Write the next root into a file, for the operators to sign; with no role it only gets a new expiry.

    Args:
        file: File to write; sign it with `ashore site keys sign`, then install it.
        role: Roles whose key at the centre is replaced, such as after a theft.
        operators: Folder with new operators' keys (root-*.pem), made with `ashore site keys create` elsewhere.
        config: The ashore.toml of the centre.
    """
    from ashore.control.sites.roles import public_of

    with _office(config, "rotate") as office:
        fresh = [public_of(one) for folder in operators for one in sorted(folder.glob("root-*.pem"))]
        staged = office.signing.next_root(role, keys=fresh)
        file.write_bytes(staged.to_bytes())
    print(f"root {staged.signed.version} is in {file}; sign it: ashore site keys sign {file} --key root-1.pem")


@keys.command
def stage(file: Path, /, *, config: Path | None = None) -> None:
    """Write the list of released models into a file, for who has its key to sign.

    Args:
        file: File to write.
        config: The ashore.toml of the centre.
    """
    with _office(config, "stage") as office:
        file.write_bytes(office.staged_targets().to_bytes())
    print(f"the list is in {file}; sign it: ashore site keys sign {file} --key targets.pem")


@keys.command
def sign(file: Path, /, *, key: Path) -> None:
    """Add a signature to a staged file. Needs no server and no home: run it where the key is.

    Args:
        file: File of `rotate` or `stage`.
        key: The key, root-1.pem.
    """
    from ashore.control.sites.roles import sign_file

    print(f"{file} has {counted(sign_file(file, key), 'signature')}")


@keys.command
def install(file: Path, /, *, config: Path | None = None) -> None:
    """Publish a staged file that enough keys have signed.

    Args:
        file: The signed file.
        config: The ashore.toml of the centre.
    """
    with _office(config, "install") as office:
        _install(office, file)


@app.command
def publish(model: str, /, *, config: Path | None = None) -> None:
    """Release a model of this home's store to sites, with the differences from earlier ones.

    Sites get it when they are assigned it: by `ashore site rollout start`, or at once by `ashore site assign`.

    Args:
        model: The model, `name` or `name@variant`.
        config: The ashore.toml of the centre.
    """
    from ashore.cli.bootstrap import build_store
    from ashore.control.sites.publish import prune, publish_model

    with _office(config, "publish") as office, office.alone(".releasing"):
        office.signing.root  # noqa: B018
        parts = publish_model(build_store(read_settings().home), office.tree, model, earlier=office.released())
        office.release(owner(), parts)
        if _publish(office):
            prune(office.tree, office.released())
    print(f"{parts.name} is {parts.digest}: {human_bytes(parts.stored)} for a site that has nothing")
    for one in parts.deltas:
        print(f"  {human_bytes(one.size)} for a site that has {one.base}")


@app.command
def export(site: str, folder: Path, /, *, config: Path | None = None) -> None:
    """Copy to a stick what one site needs: signed files, and the parts of models that it does not have yet.

    Args:
        site: Name of the site.
        folder: Where the stick is mounted.
        config: The ashore.toml of the centre.
    """
    from ashore.control.sites.links import FolderLink

    with _office(config, "export") as office:
        size = office.export(owner(), site, FolderLink(folder))
    print(f"{human_bytes(size)} of models for {site} in {folder}")


@app.command
def verify(site: str, path: Path, /) -> int:
    """Verify a copy of a site's audit log against the checkpoints that the site handed in.

    Args:
        site: Name of the site.
        path: Folder with the copy, as `ashore audit export --form chains` at the site writes it.
    """
    from ashore.control.sites.vouching import verify_site

    with _office(None, "verify") as office:
        report, kept = verify_site(office.database, site, path)
    for problem in report.problems:
        print(f"WRONG: {problem.file}: {problem.what}")
    print(f"{counted(report.num_records, 'record')}, {counted(kept, 'checkpoint')} handed in by {site}")
    print("as they were written" if report.ok else "NOT as they were written")
    return 0 if report.ok else 1


@app.command
def collect(folder: Path, /, *, config: Path | None = None) -> None:
    """Take in the reports that a stick brings back from sites, and remove them from it.

    Args:
        folder: Where the stick is mounted.
        config: The ashore.toml of the centre.
    """
    from ashore.control.sites.links import FolderLink

    with _office(config, "collect") as office:
        print(f"{counted(office.collect(FolderLink(folder)), 'new report')} from {folder}")


def _install(office: Office, file: Path) -> None:
    from ashore.control.sites.roles import read_metadata

    staged = read_metadata(file)
    print(f"installed {office.install(owner(), staged)}")
    _publish(office, staged if staged.signed.type == "targets" else None)


def _publish(office: Office, staged: Any = None) -> bool:
    try:
        office.publish(staged=staged)
    except AshoreError as fault:
        print(f"not published yet: {fault.in_one_line}", file=sys.stderr)
        return False
    return True


@contextmanager
def _office(config: Path | None, word: str) -> Iterator[Office]:
    """Open the centre of this home for its owner, with a running server beside it or without."""
    from ashore.cli.bootstrap import owned_state
    from ashore.control.sites import Office
    from ashore.control.sites.links import tree_of
    from ashore.control.sites.section import SitesSection
    from ashore.core.clock import SystemClock
    from ashore.kit.extras import require
    from ashore.machine.config import read_spec

    require(("tuf", "zstandard"), "site", f"`ashore site keys {word}`")
    settings = read_settings()
    section: Any = SitesSection() if config is None else read_spec(config).section("sites", SitesSection)
    with owned_state(settings) as (state, recorder):
        yield Office(
            database=state, recorder=recorder, clock=SystemClock(), folder=settings.home.sites,
            tree=tree_of(section.publish, settings.home.sites), section=lambda: section,
        )  # fmt: skip
