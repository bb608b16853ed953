"""The centre: which sites there are, what each shall serve, and what they report.

A change is in the state first; `publish` signs what of it is not in the tree yet, and may fail and be tried again.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from ashore.control.sites.joining import CERTIFICATE_DAYS, Joined, SiteAuthority, is_proven, new_token, proven, read_ask
from ashore.control.sites.model import NO_MODEL, ModelParts, Serve, Want
from ashore.control.sites.ports import Tree, WrongBytes, read_whole
from ashore.control.sites.report import REPORT_BYTES, open_report
from ashore.control.sites.roles import METADATA, METADATA_BYTES, Model, Signing, model_path, stored_path
from ashore.control.sites.section import SitesSection
from ashore.control.sites.sql import (
    Rollout,
    Site,
    Token,
    forget_oldest,
    keep_checkpoints,
    keep_report,
    load_models,
    load_rollouts,
    load_site,
    load_sites,
    save_model,
    save_rollout,
    save_site,
    site_of,
)  # fmt: skip
from ashore.control.sites.waves import step, waves_of
from ashore.core.clock import Clock
from ashore.core.errors import Conflict, InvalidRequest, NotFound, SourceUnreachable, Unauthenticated
from ashore.core.foreign import foreign_errors
from ashore.data.audit import SignedLine
from ashore.kit.call import Actor
from ashore.kit.folders import make_folder
from ashore.kit.processes.lock import locked
from ashore.kit.recorder import Act, Recorder
from ashore.kit.settings import SITES_AUTHORITY
from ashore.kit.state import Database, kept_secret
from ashore.kit.wholefile import write_whole

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = logging.getLogger("ashore.sites")

ALL: Final = "all"
PARTS_BYTES: Final = 256 << 20
MOST_REPORTS: Final = 10_000
"""Files that are taken from a tree at once."""
MOST_STUCK: Final = 10
"""Files of these that cannot be read or removed before the others wait for the next turn: the tree may be away."""
DAY_S: Final = 86_400
RENEW_S: Final = 60.0
"""How often signatures are looked at whose life may be half over."""
MOST_TRIES: Final = 10
"""Wrong attempts after which a token is void."""


@dataclass(slots=True, kw_only=True)
class Office:
    """Everything that is done at the centre. Methods block; each may be called from several threads."""

    database: Database
    recorder: Recorder
    clock: Clock
    folder: Path
    """`sites/` in the home."""
    tree: Tree
    section: Callable[[], SitesSection]
    centre_ca: Callable[[], str] = str
    """Gives the certificate that the centre's HTTPS is signed with, where ashore made it."""
    _look_s: float = field(default=0.0, init=False)
    """When signatures are looked at again, by a clock that nobody sets."""
    _stuck: str = field(default="", init=False)
    """The first report that could not be read or removed, as it was logged."""

    @property
    def now_s(self) -> int:
        return int(self.clock.now_s())

    @property
    def signing(self) -> Signing:
        """What signs for this centre now."""
        return Signing(self.tree, self.secret, self.section(), self.now_s)

    def secret(self, name: str) -> bytes:
        """Return a secret of the state, made on first use."""
        with self.database.write() as connection:
            return kept_secret(connection, name)

    # sites

    def create(self, actor: Actor, name: str, group: str) -> str:
        """Make a site, and return the token that it joins with. For a site that has not joined yet, or was revoked, the
        token is a new one, and the former no longer works.

        Raises:
            Conflict: it has joined. NotFound: the centre has no keys yet.
        """
        root = self.signing.root
        with self.database.write() as connection:
            before = load_sites(connection, lock=True).get(name)
            if before is not None and before.joined_s and not before.revoked_s:
                raise Conflict(f"{name} has joined", hint=f"`ashore site revoke {name}` first, if it joins again")
            token, key = new_token(name, read_whole(self.tree, _root_path(root.signed.version), limit=METADATA_BYTES))
            until_s = self.now_s + int(self.section().token_hours * 3_600)
            want = Want(site=name, sequence=self._next(0 if before is None else before.want.sequence))
            made = Site(
                name=name, group=group, created_s=self.now_s, want=want, report=before.report if before else None,
                token=Token(key=key, until_s=until_s, root=root.signed.version),
            )  # fmt: skip
            save_site(connection, made)
            actor.record(self.recorder, "site:create", f"site/{name}", detail={"group": group}, on=connection)
        return token

    def join(self, body: bytes, origin: str = "") -> bytes:
        """Return the answer to a site that asks to join. Where that was lost on the way, the site may ask again with
        the same key, for as long as its token is good.

        Raises:
            InvalidRequest: the request cannot be read.
            Unauthenticated: it does not prove that it has the site's token, or that is void.
        """
        asked = read_ask(body)
        with self.database.read() as connection:  # who guesses names takes no turn of the writers
            self._valid_token(connection, asked.site)
        with self.database.write() as connection:
            site, token = self._valid_token(connection, asked.site, lock=True)
            certificate = token.certificate
            if not (is_right := is_proven(asked, token.key)):
                save_site(connection, replace(site, token=replace(token, tries=token.tries + 1)))
                self._record(connection, "site:refuse", f"site/{site.name}", origin)
            else:
                authority = SiteAuthority(kept_secret(connection, "sites-authority-1"))
                made, fingerprint, key = authority.sign(site.name, asked.csr, self.now_s)
                if certificate and key != site.public_key:
                    raise _refused()
                if not certificate:
                    certificate = made
                    joined = replace(
                        site, token=replace(token, certificate=made), joined_s=self.now_s, fingerprint=fingerprint,
                        public_key=key, audit_key=asked.audit_key,
                    )  # fmt: skip
                    save_site(connection, joined)
                    self._record(connection, "site:join", f"site/{site.name}", origin, certificate=fingerprint)
        if not is_right:
            raise _refused()
        answer = Joined(
            certificate=certificate, authority=self.authority(), centre_ca=self.centre_ca(),
            root=read_whole(self.tree, _root_path(token.root), limit=METADATA_BYTES),
        )  # fmt: skip
        return proven(answer, token.key)

    def _valid_token(self, connection: Connection, name: str, *, lock: bool = False) -> tuple[Site, Token]:
        try:
            site = load_site(connection, name, lock=lock)
        except NotFound as fault:
            raise _refused() from fault
        token = site.token
        if token is None or token.until_s < self.now_s or token.tries >= MOST_TRIES:
            raise _refused()
        return site, token

    def authority(self) -> str:
        """Return the certificate of the authority for sites, which the edge checks theirs against."""
        path = self.folder.parent / SITES_AUTHORITY
        if not path.exists():
            make_folder(self.folder, mode=0o700)
            write_whole(path, SiteAuthority(self.secret("sites-authority-1")).certificate(self.now_s).encode())
        return path.read_text()

    def reader(self, fingerprint: str) -> str:
        """Return the name of the site that shows a certificate of this SHA-256.

        Raises:
            Unauthenticated: none does, or it was revoked.
        """
        with self.database.read() as connection:
            found = site_of(connection, fingerprint)
        if found is None:
            raise Unauthenticated("no site has this certificate", hint="join again with a new token of the centre")
        return found.name

    def revoke(self, actor: Actor, name: str) -> None:
        """Let a site read and report nothing more, at once. May be called twice."""
        with self.database.write() as connection:
            site = load_site(connection, name, lock=True)
            if not site.revoked_s:
                save_site(connection, replace(site, revoked_s=self.now_s, token=None, fingerprint="", renewed=""))
                actor.record(self.recorder, "site:revoke", f"site/{name}", on=connection)

    # what they shall serve

    def release(self, actor: Actor, parts: ModelParts) -> None:
        """Offer a model to sites; its segments are in the tree. The key of targets must still sign it. May be called
        again, with further ways to the same model."""
        data = msgspec.json.encode(parts)
        model = Model(hashlib.sha256(data).hexdigest(), len(data))
        self.tree.put(stored_path(model_path(parts.digest), model.sha256), data)
        with self.database.write() as connection:
            save_model(connection, parts.digest, parts.name, model, self.now_s)
            detail = {"name": parts.name, "parts": model.sha256}
            actor.record(self.recorder, "site:release", f"model/{parts.digest}", detail=detail, on=connection)

    def released(self) -> list[ModelParts]:
        """Return every released model, the newest last."""
        with self.database.read() as connection:
            found = load_models(connection).items()
        paths = [stored_path(model_path(digest), model.sha256) for digest, (_, model) in reversed(found)]
        return [msgspec.json.decode(read_whole(self.tree, path, limit=PARTS_BYTES), type=ModelParts) for path in paths]

    def export(self, actor: Actor, name: str, stick: Tree) -> int:
        """Copy to a stick what a site needs, and return the bytes of models on it. May be called again.

        Raises:
            NotFound: there is no such site.
        """
        from ashore.control.sites.publish import export  # numpy takes a tenth of a second of every start

        self.publish(again=(name,))
        with self.database.write() as connection:
            site = load_site(connection, name)
            actor.record(self.recorder, "site:export", f"site/{name}", on=connection)
        models = {one.model for one in site.want.serve}
        wanted = [parts for parts in self.released() if parts.digest in models]
        have = frozenset(one.digest for one in site.report.served) if site.report is not None else frozenset()
        return export(self.tree, stick, papers=self.signing.papers(name), wanted=wanted, have=have)

    def assign(self, actor: Actor, whom: str, change: Mapping[str, Any], *, act: str = "site:assign") -> list[str]:
        """Change what sites shall serve and may do, and return their names.

        Args:
            actor: Who does it.
            whom: A site, a group as `@NAME`, or `all`.
            change: Fields of `Want`, by name. `serve` replaces those of the same alias.
            act: What the record calls it.
        """
        with self.database.write() as connection:
            sites = self._chosen(connection, whom)
            for site in sites:
                self._change(connection, site, change)
                detail = {key: msgspec.json.encode(value).decode()[:300] for key, value in change.items()}
                actor.record(self.recorder, act, f"site/{site.name}", detail=detail, on=connection)
        return [one.name for one in sites]

    def wishes(self, serve: Mapping[str, str], gate: str) -> tuple[Serve, ...]:
        """Return aliases with released models, which are given by digest or name.

        Raises:
            NotFound: a model is not released.
        """
        with self.database.read() as connection:
            known = load_models(connection)
        found = []
        for alias, wanted in serve.items():
            digest = next((one for one, (name, _) in known.items() if wanted in (one, name)), None)
            if wanted and digest is None:
                raise NotFound(
                    f"no model {wanted!r} is released to sites", hint="`ashore site publish MODEL` does that"
                )
            name = known[digest][0] if digest else ""
            fields = {"alias": alias, "model": digest or NO_MODEL, "name": name, "gate": gate}
            found.append(msgspec.convert(fields, Serve))
        return tuple(found)

    def start(self, actor: Actor, whom: str, serve: tuple[Serve, ...], waves: str, soak_s: int) -> Rollout:
        """Begin to roll out models, in waves.

        Raises:
            Conflict: one of the sites is in another roll-out.
        """
        with self.database.write() as connection:
            sites = [one for one in self._chosen(connection, whom) if one.joined_s and not one.want.frozen]
            busy = {name for one in load_rollouts(connection, open_only=True) for wave in one.waves for name in wave}
            if taken := sorted(busy & {one.name for one in sites}):
                raise Conflict(f"{taken[0]} is in a roll-out that has not ended", hint="stop that one, or wait")
            if not sites:
                raise NotFound(f"{whom} names no site that has joined and is not frozen")
            divided = waves_of([one.name for one in sites], waves)
            made = Rollout(
                id=f"{self.now_s}-{secrets.token_hex(3)}", serve=serve, waves=divided, soak_s=soak_s,
                begun_s=self.now_s, by=actor.principal.id,
            )  # fmt: skip
            save_rollout(connection, self._reach(connection, made))
            detail = {"to": whom, "waves": str(len(made.waves)), **{one.alias: one.model for one in serve}}
            actor.record(self.recorder, "site:rollout", f"rollout/{made.id}", detail=detail, on=connection)
        return made

    def steer(self, actor: Actor, rollout_id: str, state: str) -> Rollout:
        """Pause a roll-out, go on with it, or stop it; then its sites go back to what they served before.

        Raises:
            NotFound: there is no such roll-out, or it has ended.
        """
        with self.database.write() as connection:
            load_sites(connection, lock=True)
            found = next((one for one in load_rollouts(connection, open_only=True) if one.id == rollout_id), None)
            if found is None:
                raise NotFound(f"no roll-out {rollout_id[:60]!r} is open", hint="`ashore site rollout list` shows them")
            moved = msgspec.convert(
                {**msgspec.to_builtins(found), "state": state, "why": f"by {actor.principal.id}"}, Rollout
            )
            save_rollout(connection, moved)
            if state == "stopped":
                self._take_back(connection, moved)
            actor.record(self.recorder, MOVES[state], f"rollout/{rollout_id}", on=connection)
        return moved

    # what they report

    def take(self, name: str, data: bytes) -> bool:
        """Take a report of a site in; return False if it came before. Whatever it says changes the row of that site
        alone.

        Raises:
            InvalidRequest: it is not a report of this site.
            Unauthenticated: the site is unknown, has not joined, or was revoked.
        """
        with self.database.write() as connection:
            site = load_sites(connection, lock=True).get(name) if len(name) < 64 else None
            if site is None or site.revoked_s or not site.joined_s:
                raise Unauthenticated(f"no site {name[:63]!r} may report", hint="join again with a new token")
            report = open_report(data, site.public_key)
            if report.site != name:
                raise InvalidRequest(f"a report of {report.site} came from {name}")
            lines = [(_number(line), line) for line in report.checkpoints]
            if not keep_report(connection, report if site.want.votes else replace(report, votes=())):
                return False
            forked = keep_checkpoints(connection, name, lines)
            forget_oldest(connection, name)
            is_newest = site.report is None or site.report.sequence < report.sequence
            bare = replace(report, usage=(), checkpoints=(), votes=()) if is_newest else site.report
            seen = replace(site, report=bare, seen_s=self.now_s, forked=site.forked + forked)
            if report.want > site.want.sequence:  # this centre is an older copy of itself: go on above
                seen = replace(seen, want=replace(site.want, sequence=self._next(report.want)))
            save_site(connection, seen)
        return True

    def collect(self, tree: Tree) -> int:
        """Take in the reports that lie in a tree, such as a stick, and remove them; return how many were new. A few
        that cannot be read or removed hold up no other."""
        count, stuck = 0, list[str]()
        found = islice(tree.names("reports"), MOST_REPORTS)
        for path, size in sorted(found, key=lambda one: (len(one[0]), one[0])):
            parts = path.split("/")
            try:
                try:
                    if len(parts) == 3 and size <= REPORT_BYTES:
                        count += self.take(parts[1], read_whole(tree, path, limit=REPORT_BYTES))
                except (InvalidRequest, Unauthenticated, WrongBytes) as fault:
                    log.warning("left out the report %r: %s", path[:200], fault.message)
                tree.remove(path)
            except (NotFound, SourceUnreachable, OSError) as fault:
                stuck.append(f"{path[:200]!r}: {fault}")
                if len(stuck) == MOST_STUCK:
                    break
        if stuck and stuck[0] != self._stuck:
            log.warning("cannot read or remove the report %s", stuck[0])
        self._stuck = stuck[0] if stuck else ""
        return count

    # by itself

    def turn(self) -> tuple[str, ...]:
        """Take in what sites left in the tree, move roll-outs on, and publish what is new or due."""
        if self.section().publish != "https":
            self.collect(self.tree)
        with self.database.write() as connection:
            sites = load_sites(connection, lock=True)
            for site in sites.values():
                self._renew(connection, site)
            for before in load_rollouts(connection, open_only=True):
                after = step(before, sites, self.now_s)
                if after == before:
                    continue
                if after.wave > before.wave:
                    after = self._reach(connection, after)
                save_rollout(connection, after)
                if after.state == "stopped":
                    self._take_back(connection, after)
                    log.warning("roll-out %s stopped in wave %d: %s", after.id, after.wave + 1, after.why)
                if after.state != before.state:
                    self._record(connection, MOVES[after.state], f"rollout/{after.id}", why=after.why)
            is_new = any(one.published != one.want.sequence for one in load_sites(connection).values())
        if not is_new and self.clock.monotonic_s() < self._look_s:
            return ()
        done = self.publish()
        self._look_s = self.clock.monotonic_s() + RENEW_S
        return done

    def publish(self, *, staged: Any = None, again: Collection[str] = ()) -> tuple[str, ...]:
        """Sign and write what is not in the tree yet, or has used half of its life, and the assignments of `again`;
        return what was signed.

        Raises:
            NotFound: the centre has no keys. Conflict: the key of targets must sign first. SourceUnreachable: no tree.
        """
        with self.alone(".publishing"):
            with self.database.read() as connection:
                sites = [one for one in load_sites(connection).values() if not one.revoked_s]
                models = _bare(load_models(connection))
            taken = {one.name: 0 if one.report is None else one.report.sequence for one in sites}
            wants = {one.name: msgspec.json.encode(replace(one.want, taken=taken[one.name])) for one in sites}
            fresh = {one.name: one.want.sequence for one in sites if one.published != one.want.sequence}
            done = self.signing.publish(models, wants, {*fresh, *again}, targets=staged)
            with self.database.write() as connection:
                for name, site in load_sites(connection, lock=True).items():
                    if name in fresh:
                        save_site(connection, replace(site, published=fresh[name]))
        return done

    def staged_targets(self) -> Any:
        """Return the list of released models, for an operator to sign."""
        with self.database.read() as connection:
            return self.signing.stage_targets(_bare(load_models(connection)))

    def install(self, actor: Actor, staged: Any) -> str:
        """Publish what operators have signed, and return its name.

        Raises:
            Conflict: it lacks signatures, or does not follow what is published.
        """
        name = self.signing.install(staged)
        with self.database.write() as connection:
            actor.record(self.recorder, "site:install-keys", f"keys/{name}", on=connection)
        return name

    def bump(self, actor: Actor) -> list[str]:
        """Sign every assignment again above every version before: after this centre was restored from a backup."""
        with self.database.write() as connection:
            sites = load_sites(connection, lock=True)
            for site in sites.values():
                save_site(connection, replace(site, want=replace(site.want, sequence=self._next(site.want.sequence))))
            actor.record(self.recorder, "site:bump", "site/all", on=connection)
        return list(sites)

    def _chosen(self, connection: Connection, whom: str) -> list[Site]:
        sites = load_sites(connection, lock=True)
        group = whom[1:] if whom.startswith("@") else None
        found = [
            one for one in sites.values()
            if not one.revoked_s and (whom in (ALL, one.name) or (group and one.group == group))
        ]  # fmt: skip
        if not found:
            raise NotFound(f"{whom[:64]!r} names no site", hint="name a site, a group as @NAME, or all")
        return found

    def _change(self, connection: Connection, site: Site, change: Mapping[str, Any]) -> Site:
        merged = dict(change)
        if "serve" in change:
            by_alias = {one.alias: one for one in (*site.want.serve, *change["serve"])}
            merged["serve"] = tuple(one for one in by_alias.values() if one.model != NO_MODEL)
        if "policies" in change:
            merged["policies"] = {
                name: text for name, text in {**site.want.policies, **change["policies"]}.items() if text
            }
        return self._put(connection, site, replace(site.want, **merged))

    def _put(self, connection: Connection, site: Site, want: Want) -> Site:
        if want == site.want:
            return site
        assigned_s = site.assigned_s if want.serve == site.want.serve else self.now_s
        changed = replace(site, want=replace(want, sequence=self._next(site.want.sequence)), assigned_s=assigned_s)
        save_site(connection, changed)
        return changed

    def _renew(self, connection: Connection, site: Site) -> None:
        """Assign a site the next certificate for its key, where half the life of the last one is over."""
        age_s = self.now_s - max(site.joined_s, site.certified_s)
        if not site.fingerprint or age_s < CERTIFICATE_DAYS * DAY_S / 2:
            return
        authority = SiteAuthority(kept_secret(connection, "sites-authority-1"))
        made, fingerprint = authority.renew(site.name, site.public_key, self.now_s)
        last = replace(site, fingerprint=site.renewed or site.fingerprint, renewed=fingerprint, certified_s=self.now_s)
        self._put(connection, last, replace(site.want, certificate=made))
        self._record(connection, "site:renew", f"site/{site.name}", certificate=fingerprint)

    def _reach(self, connection: Connection, rollout: Rollout) -> Rollout:
        """Have the sites of the wave that is under way serve the models."""
        before = dict(rollout.before)
        for name in rollout.waves[rollout.wave]:
            site = load_site(connection, name, lock=True)
            before[name] = site.want.serve
            self._change(connection, site, {"serve": rollout.serve})
        return replace(rollout, before=before)

    def _take_back(self, connection: Connection, rollout: Rollout) -> None:
        for name, serve in rollout.before.items():
            site = load_site(connection, name, lock=True)
            self._put(connection, site, replace(site.want, serve=serve))

    def _next(self, sequence: int) -> int:
        return max(sequence + 1, self.now_s)

    def _record(self, connection: Connection, action: str, resource: str, origin: str = "", **detail: str) -> None:
        act = Act(action=action, actor="ashore", tenant="", resource=resource, origin=origin, detail=detail)
        self.recorder.record(act, on=connection)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Hold off others in this home that take the lock of this name."""
        make_folder(self.folder, mode=0o700)
        with locked(self.folder / name):
            yield


MOVES: Final = {
    "paused": "site:rollout-paused", "running": "site:rollout-running", "stopped": "site:rollout-stopped",
    "done": "site:rollout-done",
}  # fmt: skip
"""What the audit log calls a change of a roll-out."""


def _refused() -> Unauthenticated:
    return Unauthenticated("this token is not valid", hint="ask who runs the centre for a new one")


def _bare(models: Mapping[str, tuple[str, Model]]) -> dict[str, Model]:
    return {digest: model for digest, (_, model) in models.items()}


def _root_path(version: int) -> str:
    return f"{METADATA}/{version}.root.json"


def _number(line: str) -> int:
    with foreign_errors("a checkpoint of the report cannot be read", InvalidRequest, hint=""):
        return SignedLine(0, line.encode(), True).checkpoint().number
