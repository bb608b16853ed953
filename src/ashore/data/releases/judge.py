"""What is observed of releases, and what follows from it: a release found worse is rolled back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ashore.data.authority import SYSTEM, Acts
from ashore.data.releases import byitself, changes, moves, sql
from ashore.data.releases.betting import Finding, Tally, look
from ashore.data.releases.burn import Burning, Count, Slo, burning, rate_of
from ashore.data.releases.changes import By
from ashore.data.releases.model import Book, Course, GivenLevel, Moved
from ashore.data.releases.pairs import Pair

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ashore.data.authority.acts import Desk


class Judge:
    """Writes down what workers observe. Each call is one transaction."""

    def __init__(self, acts: Acts) -> None:
        self._acts = acts

    def fell(self, name: str, why: str, evidence: Mapping[str, str | int | float]) -> None:
        """Record that a release cannot be prepared or read, or that its hosts do not load or keep failing: it is rolled
        back if possible. `why` may contain file names.
        """
        self._move("release:fell", name, byitself.fell, in_one_line(why), evidence)

    def judge(self, name: str, stage: str, pending: Mapping[tuple[str, str], Tally]) -> Finding:
        """Add observations of a release and return the current findings. A release found worse is rolled back: a
        candidate, or the live release while the one before it is warm.

        Evidence of an earlier stage is stored but moves nothing.
        """
        with self._acts.look(SYSTEM) as desk:
            database_knows = name in sql.load_book(desk.connection).courses
        if not database_knows:
            return look(pending)
        taken_back = Moved()
        with self._acts.quiet_write(SYSTEM) as desk:
            book = sql.load_book(desk.connection)
            course = book.courses[name]
            found = look(sql.load_evidence(desk.connection, name, stage))
            if found.verdict == "worse" and course.state != stage:
                return found  # rolled back on what is known: its reason keeps the same number of requests
            found = look(sql.add_evidence(desk.connection, name, stage, pending))
            if found.verdict == "worse" and course.state == stage and course.automatic:
                part = f" in {found.slice}" if found.slice else ""
                why = f"found worse after {found.count} requests: {found.measure}{part}"
                evidence = {"e_value": round(found.e_value, 1), "measure": found.measure, **found.details}
                by = By(actor="system", now_s=desk.now_s, why=why, evidence=evidence)
                taken_back = self._taken_back(book, course, by)
                sql.write_moved(desk.connection, taken_back)
                self._tell_taken_back(desk, name, taken_back)
        return found

    def guard(self, slo: Slo, counted: Mapping[str, Sequence[Count]]) -> tuple[str, ...]:
        """Add counts against the objectives. A canary that burns too fast is rolled back, and so is a live release if
        the fault is its own and the one before it is warm; return those.

        If its operator rolls back by hand (`--no-automatic`), nothing moves.
        """
        taken_back: dict[str, Moved] = {}
        with self._acts.quiet_write(SYSTEM) as desk:
            book = sql.load_book(desk.connection)
            for name, counts in counted.items():
                if name in book.releases:
                    oldest = desk.now_s - slo.longest_s - slo.bucket_s
                    sql.add_counts(desk.connection, name, counts, forget_before_s=oldest)
            for name in counted:
                course = book.courses.get(name)
                if course is None or not course.automatic or course.state not in ("canary", "live"):
                    continue
                alias, is_live = book.releases[name].alias, course.state == "live"
                if is_live and book.guarded_of(alias) != course:
                    continue
                found = burning(slo, sql.load_counts(desk.connection, name), desk.now_s, alone=is_live)
                if found is None:
                    continue
                why = (
                    f"burns its objective of {found.objective} {found.short_rate:.1f} times too fast over "
                    f"{found.short_s} s, {found.long_rate:.1f} times over {found.long_s} s"
                )
                evidence = found.evidence | self._beside(desk.connection, book, course, slo, found)
                by = By(actor="system", now_s=desk.now_s, why=why, evidence=evidence)
                taken_back[name] = self._taken_back(book, course, by)
                sql.write_moved(desk.connection, taken_back[name])
                self._tell_taken_back(desk, name, taken_back[name])
                book = changes.applied(book, taken_back[name])
        return tuple(taken_back)

    def _taken_back(self, book: Book, course: Course, by: By) -> Moved:
        """Return a candidate's end, or the move from the live release back to the one before; nothing if that is
        cold.
        """
        if course.state == "live":
            return byitself.regressed(book, course.release, by)
        return moves.end_candidate(book, book.releases[course.release].alias, by, failed=True)

    def _beside(
        self, connection: Connection, book: Book, course: Course, slo: Slo, found: Burning
    ) -> dict[str, str | int | float]:
        """Return the burn rate of the live release over the same time, or of the one before it while its counts are
        stored, to help find the cause.
        """
        if course.state == "live":
            before = rate_of(slo, sql.load_counts(connection, course.replaced), found.objective, 0)
            return {"burn_rate_of_the_one_before": round(before, 2)}
        since_s = self._acts.now_s - found.long_s
        live = [c.release for c in book.live_of(book.releases[course.release].alias)]
        rates = [rate_of(slo, sql.load_counts(connection, name), found.objective, since_s) for name in live]
        return {"burn_rate_of_live": round(max(rates), 2)} if rates else {}

    def _tell_taken_back(self, desk: Desk, name: str, moved: Moved) -> None:
        if not moved.events:
            return
        event = moved.events[0]
        detail = {"why": event.why, **{key: _told(value) for key, value in event.evidence.items()}}
        self._acts.tell(SYSTEM, "release:automatic-rollback", f"release/{name}", detail, on=desk.connection)

    def keep_pairs(self, name: str, pairs: Sequence[Pair], *, most: int) -> None:
        """Store those of these pairs that are among the `most` most different ones of a release. They are masked."""
        with self._acts.quiet_write(SYSTEM) as desk:
            if name in sql.load_book(desk.connection).releases:
                sql.keep_pairs(desk.connection, name, pairs, most=most)

    def keep_given(self, given: Mapping[str, Sequence[GivenLevel]]) -> None:
        """Store answers of releases for workers that start later."""
        with self._acts.quiet_write(SYSTEM) as desk:
            for name, levels in given.items():
                sql.keep_given(desk.connection, name, levels, now_s=desk.now_s)

    def given(self, name: str) -> tuple[GivenLevel, ...]:
        """Return the answers that a release gave."""
        with self._acts.look(SYSTEM) as desk:
            return sql.load_given(desk.connection, name)

    def _move(
        self,
        what: str,
        name: str,
        move: Callable[[Book, str, By], Moved],
        why: str,
        evidence: Mapping[str, str | int | float],
    ) -> None:
        by = By(actor="system", now_s=self._acts.now_s, why=why, evidence=evidence)
        with self._acts.look(SYSTEM) as desk:
            if not move(sql.load_book(desk.connection), name, by).courses:
                return
        with self._acts.write(SYSTEM, what, f"release/{name}") as desk:
            moved = move(sql.load_book(desk.connection), name, by)
            sql.write_moved(desk.connection, moved)
            desk.detail.update({"why": why, **{key: _told(value) for key, value in evidence.items()}})
            for event in moved.events:
                desk.detail[f"{event.verb} {event.release}"] = event.state


def in_one_line(text: str) -> str:
    """Return a text without control characters and without what the state cannot store."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text.replace("\n", " "))


def _told(value: str | int | float) -> str | int:
    return f"{value:.6g}" if isinstance(value, float) else value
