"""The ledger in a mapped file, shared by the processes of one machine.

A **cell** is one count of one window, or the usage of one user and model on one day. A **slot** is the reservation of
one request: which cells, how much, and how much of its answer exists already. A **row** is one process; its lock file,
locked while it lives, shows whether it is alive. A process that finds a dead one settles its slots at the tokens made,
and frees them. Layout and journal: `layout.py`, `mapped.py`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from ashore.core.clock import Clock
from ashore.core.errors import Overloaded
from ashore.data.authority.budgets import layout as at
from ashore.data.authority.budgets.mapped import MappedWords, Words, Wrap
from ashore.data.authority.budgets.ports import CountRow, Hold, Line, Part, Short, UsageLine
from ashore.data.authority.budgets.rulebook import resets_later
from ashore.kit.processes.lock import try_lock

SLACK_MS: Final = 50
"""The clock may run so far ahead of the ledger's own time before the latter is written down again."""


class MappedLedger:
    """One process's handle on the ledger. For one thread: another thread opens its own.

    Every method returns within microseconds and never waits. Each change is atomic, even if the process dies.
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        *,
        earlier: Callable[[int], Iterable[CountRow]] = lambda now_ms: (),
        sizes: at.Sizes = at.DEFAULT,
        wrap: Wrap = lambda view: view,
        takes_row: bool = True,
        shared: bool = False,
        owner: int = 0,
    ) -> None:
        """Open the ledger in `folder`, created if there is none of this boot, and settle what dead processes left.

        Args:
            folder: Directory of the ledger.
            clock: Wall time, and the monotonic time that the machine's processes share.
            earlier: Called when the ledger is created; returns the counts of earlier ledgers.
            sizes: Sizes of its tables.
            wrap: Wraps the memory; tests inject crashes here.
            shared: Several machines have one authority: this one may use what it was granted, nothing at first.
            takes_row: False for a handle that reserves nothing, or only for the process of `owner`.
            owner: Number of another handle of this process.

        Raises:
            AshoreError: the file cannot be made, or 64 processes are in it.
        """
        self._clock = clock
        self._sizes = sizes
        self._shared = shared
        self._places: dict[bytes, tuple[int, int]] = {}
        """Number and birth of known cells, by key and start of the window."""
        self._seen_births = 0
        self._row = -1
        self._owner = owner
        self._alive = -1
        self._memory = MappedWords(
            folder, num_words=sizes.total, fill=lambda words: self._fill(words, earlier), wrap=wrap
        )
        self._words = self._memory.words
        self._memory.acquire()
        try:
            if takes_row:
                self._take_row()
        except BaseException:
            self._memory.close()
            raise
        self._memory.release()

    @property
    def source(self) -> str:
        """Name of this ledger among those that report to one authority."""
        return f"{self._words[at.SOURCE]:016x}"

    @property
    def owner(self) -> int:
        """Number of the process among those that have the ledger open."""
        return self._owner

    def now_ms(self) -> int:
        """Return the time that windows use. Never goes back, whatever happens to the clock."""
        wall_ms = int(self._clock.now_s() * 1000)
        mono_ms = int(self._clock.monotonic_s() * 1000)
        words = self._words
        floor_ms = words[at.AHEAD] + mono_ms
        if wall_ms <= floor_ms:
            return floor_ms
        if wall_ms > floor_ms + SLACK_MS:
            with self._memory:
                if wall_ms - mono_ms > words[at.AHEAD]:
                    self._memory.commit((at.AHEAD, wall_ms - mono_ms))
        return wall_ms

    def reserve(self, lines: Sequence[Line], usage: UsageLine, tokens: int) -> Hold:
        """Reserve the needs of a request, in all of its counts or in none.

        Raises:
            Short: a count has less left; of several, the one that resets last.
            Overloaded: there is no room for another count or another hold.
        """
        with self._memory:
            self._check(lines, tokens)
            hold = Hold(lines=lines, usage=usage, tokens=tokens)
            usage_cell = self._usage_cell(usage)
            words = self._words
            writes: list[int] = []
            free = words[at.FREE_SLOTS]
            pieces = [lines[i : i + at.MAX_REFS] for i in range(0, len(lines), at.MAX_REFS)] or [()]
            if free < len(pieces):
                raise Overloaded(
                    f"{self._sizes.slots} requests have tokens reserved; the budget ledger is full",
                    hint="retry when some of them have ended",
                )
            for number, piece in enumerate(pieces):
                free -= 1
                slot_number = words[self._sizes.free_slots + free]
                slot = self._sizes.slot(slot_number)
                refs = slot + at.SLOT_REFS
                for line in piece:
                    amount = tokens if line.part is Part.TOKENS else 1
                    words[refs] = line.cell << 2 | line.part
                    words[refs + 1] = amount
                    refs += 2
                    opened = self._sizes.cell(line.cell) + at.OPEN
                    writes += (opened, words[opened] + amount)
                words[slot + at.SLOT_PROMPT] = words[slot + at.SLOT_COMPLETION] = words[slot + at.SLOT_BEGUN] = 0
                words[slot + at.SLOT_NUM_REFS] = len(piece)
                words[slot + at.SLOT_USAGE] = usage_cell if number == 0 else -1
                if number == 0:
                    opened = self._sizes.cell(usage_cell) + at.OPEN
                    writes += (opened, words[opened] + 1)
                writes += (slot + at.SLOT_OWNER, self._owner)
                hold.slots.append(slot_number)
            writes += (at.FREE_SLOTS, free)
            self._memory.commit(writes)
            return hold

    def charge(self, lines: Sequence[Line], usage: UsageLine, tokens: int) -> None:
        """Charge a request that was already answered (a hit), in all of its counts or in none.

        Raises:
            Short, Overloaded: as `reserve`.
        """
        with self._memory:
            if lines:
                self._check(lines, tokens)
            words = self._words
            cell = self._sizes.cell(self._usage_cell(usage))
            writes = [
                cell + at.REQUESTS, words[cell + at.REQUESTS] + 1,
                cell + at.HITS, words[cell + at.HITS] + 1,
            ]  # fmt: skip
            for line in lines:
                settled = self._sizes.cell(line.cell) + at.SETTLED
                writes += (settled, words[settled] + (tokens if line.part is Part.TOKENS else 1))
            self._memory.commit(writes)

    def made(self, hold: Hold, prompt_tokens: int, completion_tokens: int) -> None:
        """Report how much of an answer exists: that is charged if this process dies now. Zero: it never began."""
        hold.made, hold.begun = (prompt_tokens, completion_tokens), prompt_tokens + completion_tokens > 0
        if hold.over:
            return
        words = self._words
        for number in hold.slots:  # only this process writes here while it lives
            slot = self._sizes.slot(number)
            words[slot + at.SLOT_PROMPT] = prompt_tokens
            words[slot + at.SLOT_COMPLETION] = completion_tokens
            words[slot + at.SLOT_BEGUN] = int(hold.begun)

    def leave(self, hold: Hold) -> None:
        """Release the concurrency slot; tokens stay reserved. May be called twice."""
        if hold.over or hold.left:
            return
        hold.left = True
        if all(line.part is not Part.CONCURRENCY for line in hold.lines):
            return
        with self._memory:
            words = self._words
            writes: list[int] = []
            for number in hold.slots:
                slot = self._sizes.slot(number)
                for ref in range(slot + at.SLOT_REFS, slot + at.SLOT_REFS + 2 * words[slot + at.SLOT_NUM_REFS], 2):
                    if words[ref] & 3 == Part.CONCURRENCY:
                        opened = self._sizes.cell(words[ref] >> 2) + at.OPEN
                        writes += (opened, words[opened] - words[ref + 1], ref + 1, 0)
            self._memory.commit(writes)

    def settle(
        self,
        hold: Hold,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int,
        *,
        counts: bool,
        hit: bool = False,
    ) -> None:
        """Charge the usage and release the rest. May be called twice; the first call holds.

        Args:
            hold: The reservation.
            prompt_tokens: Read.
            completion_tokens: Made.
            cached_tokens: Prompt tokens from the prefix cache.
            counts: Whether it counts as a request.
            hit: Whether another request's generation gave the answer.
        """
        if hold.over:
            return
        hold.over = True
        with self._memory:
            writes: list[int] = []
            for place, number in enumerate(hold.slots):
                writes += self._ending(number, place, prompt_tokens, completion_tokens, cached_tokens, counts, hit)
            writes += (at.FREE_SLOTS, self._words[at.FREE_SLOTS] + len(hold.slots))
            self._memory.commit(writes)

    def refused(self, usage: UsageLine) -> None:
        """Count a refusal."""
        with self._memory:
            word = self._sizes.cell(self._usage_cell(usage)) + at.REFUSED
            self._memory.commit((word, self._words[word] + 1))

    def used(self, line: Line) -> int:
        """Return the settled and the open amount of a count; read without the lock."""
        words = self._words
        cell = self._sizes.cell(line.cell)
        if line.cell < 0 or words[cell] != line.birth:
            if not self._find(line):
                return 0
            cell = self._sizes.cell(line.cell)
        return words[cell + at.BASE] + words[cell + at.SETTLED] + words[cell + at.OPEN]

    def reclaim(self) -> int:
        """Settle what dead processes left open; return how many died. Cheap if none did."""
        with self._memory:
            return sum(self._bury(row) for row in range(at.ROWS) if row != self._row and self._words[at.ROW + row])

    def close(self) -> None:
        """Release open reservations as `settle` of the tokens made would, and leave. May be called twice."""
        if self._alive >= 0:
            with self._memory:
                self._settle_owned(self._owner)
                self._memory.commit((at.ROW + self._row, 0))
        self.drop()

    def drop(self) -> None:
        """Leave as the death of the process would: reservations stay open until another process reclaims them."""
        if self._alive >= 0:
            os.close(self._alive)
            self._alive = -1
        self._memory.close()

    # --- for the reporter

    def numbers(self) -> list[tuple[int, at.Cell]]:
        """Return every cell by its number. Not a consistent snapshot, but every word is whole."""
        with self._memory:
            self._catch_up()
        words, sizes, found = self._words, self._sizes, []
        for key, (number, birth) in list(self._places.items()):
            if words[sizes.cell(number)] == birth:
                found.append((number, at.cell_at(self._memory, sizes, number)))
            else:
                del self._places[key]
        return found

    def free_cells(self, reported: Iterable[tuple[int, at.Cell]], now_ms: int) -> int:
        """Free cells whose window has ended, without open slots, and unchanged since the report; return how many.

        Later additions keep a cell until the next report.
        """
        crowded = self._words[at.FREE_CELLS] < self._sizes.cells // 4
        freed = 0
        for number, cell in reported:
            ended = 0 < cell.ends_ms <= now_ms - at.GRACE_MS
            if cell.open or not (ended or (crowded and cell.is_empty)):
                continue
            with self._memory:
                if at.cell_at(self._memory, self._sizes, number) == cell:
                    free = self._words[at.FREE_CELLS]
                    place = self._sizes.free_cells + free
                    self._memory.commit((self._sizes.cell(number), 0, place, number, at.FREE_CELLS, free + 1))
                    self._places.pop(cell.key, None)
                    freed += 1
        return freed

    # --- for sharing windows with other machines

    def share(self, line: Line) -> tuple[int, int]:
        """Return this machine's share of a count, and its use of it."""
        with self._memory:
            cell = self._count_cell(line)
            words = self._words
            used = words[cell + at.BASE] + words[cell + at.SETTLED] + words[cell + at.OPEN]
            return words[cell + at.GRANT], used

    def grant(self, line: Line, granted: int) -> None:
        """Set this machine's share of a count."""
        with self._memory:
            self._memory.commit((self._count_cell(line) + at.GRANT, granted))

    def shrink(self, line: Line) -> int | None:
        """Reduce the share of a count to what this machine uses; return the new share, None if there is no excess."""
        with self._memory:
            cell, words = self._count_cell(line), self._words
            used = words[cell + at.BASE] + words[cell + at.SETTLED] + words[cell + at.OPEN]
            if words[cell + at.GRANT] <= used:
                return None
            self._memory.commit((cell + at.GRANT, used))
            return used

    def shares(self) -> list[Line]:
        """Return every count with a share of this machine."""
        lines = []
        for _, cell in self.numbers():
            if cell.kind != at.USAGE and cell.grant > 0:
                rule_id, key, user, tenant, model = cell.parts
                part = Part.CONCURRENCY if cell.kind == at.GAUGE else Part.TOKENS
                lines.append(
                    Line(
                        rule_id=rule_id, subject=(key, user, tenant, model), part=part, cap=0,
                        starts_ms=cell.starts_ms, ends_ms=cell.ends_ms,
                    )
                )  # fmt: skip
        return lines

    def has_lapsed(self) -> bool:
        """Return whether this machine's shares may not be used now: its lease has run out."""
        return int(self._clock.monotonic_s() * 1000) >= self._words[at.LEASE_UNTIL]

    def use_grants_for(self, seconds: float, *, since_s: float) -> None:
        """Allow the use of shares for a time from a moment of the monotonic clock."""
        with self._memory:
            self._memory.commit((at.LEASE_UNTIL, int((since_s + seconds) * 1000)))

    # --- internal, with the lock

    def _count_cell(self, line: Line) -> int:
        """Return where the cell of a count begins."""
        cell = self._sizes.cell(line.cell)
        if line.cell < 0 or self._words[cell] != line.birth:
            kind = at.GAUGE if line.part is Part.CONCURRENCY else at.BUDGET
            line.cell = self._place(at.budget_text(line.rule_id, line.subject), kind, line)
            cell = self._sizes.cell(line.cell)
            line.birth = self._words[cell]
        return cell

    def _fill(self, words: Words, earlier: Callable[[int], Iterable[CountRow]]) -> None:
        sizes = self._sizes
        now_ms, mono_ms = int(self._clock.now_s() * 1000), int(self._clock.monotonic_s() * 1000)
        rows = list(earlier(now_ms))
        if len(rows) > sizes.cells // 2:
            raise Overloaded(
                f"{len(rows)} budget counts are stored; the ledger has room for {sizes.cells}",
                hint="use fewer budgets with `*`",
            )
        words[at.SOURCE] = secrets.randbits(62)
        words[at.AHEAD] = now_ms - mono_ms
        for number in range(sizes.cells):
            words[sizes.free_cells + number] = sizes.cells - 1 - number
        for number in range(sizes.slots):
            words[sizes.free_slots + number] = sizes.slots - 1 - number
            words[sizes.slot(number) + at.SLOT_OWNER] = 0
        words[at.FREE_CELLS], words[at.FREE_SLOTS] = sizes.cells, sizes.slots
        words[at.NEXT_OWNER] = 1
        for row in rows:
            at.bear(
                words, sizes, at.budget_text(row.rule_id, row.subject), at.BUDGET, row.starts_ms, row.ends_ms,
                base=row.settled + row.open,
            )  # fmt: skip

    def _take_row(self) -> None:
        for row in range(at.ROWS):
            descriptor = self._lock_row(row)
            if descriptor is None:
                continue
            words = self._words
            if words[at.ROW + row]:
                self._settle_owned(words[at.ROW + row])
            self._alive, self._row, self._owner = descriptor, row, words[at.NEXT_OWNER]
            self._memory.commit((at.NEXT_OWNER, self._owner + 1, at.ROW + row, self._owner))
            return
        raise Overloaded(
            f"{at.ROWS} processes have the budget ledger open, which is the limit", hint="run fewer API workers"
        )

    def _lock_row(self, row: int) -> int | None:
        """Return the descriptor that holds the lock of a row; None if a living process has it."""
        return try_lock(self._memory.folder / f"process-{row}")

    def _bury(self, row: int) -> bool:
        """Settle what the process of a row left open, if it is dead; return whether it is."""
        descriptor = self._lock_row(row)
        if descriptor is None:
            return False
        try:
            self._settle_owned(self._words[at.ROW + row])
            self._memory.commit((at.ROW + row, 0))
        finally:
            os.close(descriptor)
        return True

    def _settle_owned(self, owner: int) -> None:
        words = self._words
        for number in range(self._sizes.slots):
            slot = self._sizes.slot(number)
            if words[slot + at.SLOT_OWNER] != owner:
                continue
            begun = words[slot + at.SLOT_BEGUN] != 0
            prompt, completion = words[slot + at.SLOT_PROMPT], words[slot + at.SLOT_COMPLETION]
            writes = self._ending(number, 0, prompt, completion, 0, begun, False)
            writes += (at.FREE_SLOTS, words[at.FREE_SLOTS] + 1)
            self._memory.commit(writes)

    def _ending(
        self,
        number: int,
        place: int,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int,
        counts: bool,
        hit: bool,
    ) -> list[int]:
        """Return the writes that settle one slot; `place` is the number of slots freed before it in the same change."""
        words, sizes = self._words, self._sizes
        slot = sizes.slot(number)
        spent = prompt_tokens + completion_tokens
        writes = [slot + at.SLOT_OWNER, 0, sizes.free_slots + words[at.FREE_SLOTS] + place, number]
        for ref in range(slot + at.SLOT_REFS, slot + at.SLOT_REFS + 2 * words[slot + at.SLOT_NUM_REFS], 2):
            cell, part = sizes.cell(words[ref] >> 2), words[ref] & 3
            writes += (cell + at.OPEN, words[cell + at.OPEN] - words[ref + 1])
            charged = spent if part == Part.TOKENS else int(counts) if part == Part.REQUESTS else 0
            if charged:
                writes += (cell + at.SETTLED, words[cell + at.SETTLED] + charged)
        if words[slot + at.SLOT_USAGE] >= 0:
            cell = sizes.cell(words[slot + at.SLOT_USAGE])
            writes += (cell + at.OPEN, words[cell + at.OPEN] - 1)
            for word, more in (
                (at.REQUESTS, int(counts)),
                (at.HITS, int(hit)),
                (at.PROMPT, prompt_tokens),
                (at.COMPLETION, completion_tokens),
                (at.CACHED, cached_tokens),
            ):
                if more:
                    writes += (cell + word, words[cell + word] + more)
        return writes

    def _check(self, lines: Sequence[Line], tokens: int) -> None:
        """Raise Short if a count has too little left; otherwise set every line's cell."""
        words, sizes = self._words, self._sizes
        short: Short | None = None
        lapsed = self._shared and self.has_lapsed()
        for line in lines:
            cell = sizes.cell(line.cell)
            if line.cell < 0 or words[cell] != line.birth:
                cell = self._count_cell(line)
            used = words[cell + at.BASE] + words[cell + at.SETTLED] + words[cell + at.OPEN]
            granted = 0 if lapsed else words[cell + at.GRANT]
            wanted = tokens if line.part is Part.TOKENS else 1
            if used + wanted > line.cap:
                if short is None or short.leased or resets_later(line, short.line):
                    short = Short(line, line.cap - used, wanted)
            elif used + wanted > granted and short is None:
                short = Short(line, granted - used, wanted, leased=True)
        if short is not None:
            raise short

    def _find(self, line: Line) -> bool:
        """Find the cell of a line, if there is one."""
        with self._memory:
            self._catch_up()
        key = at.key_of(at.budget_text(line.rule_id, line.subject), line.starts_ms)
        number, birth = self._places.get(key, (-1, 0))
        if not birth or self._words[self._sizes.cell(number)] != birth:
            return False
        line.cell, line.birth = number, birth
        return True

    def _usage_cell(self, usage: UsageLine) -> int:
        if usage.cell < 0 or self._words[self._sizes.cell(usage.cell)] != usage.birth:
            text = at.usage_text(usage.day, usage.tenant, usage.user, usage.model)
            usage.cell = self._place(text, at.USAGE, usage)
            usage.birth = self._words[self._sizes.cell(usage.cell)]
        return usage.cell

    def _place(self, text: bytes, kind: int, line: Line | UsageLine) -> int:
        """Return the cell of a count, created if missing."""
        starts_ms = line.starts_ms if isinstance(line, Line) else 0
        self._catch_up()
        key = at.key_of(text, starts_ms)
        words = self._words
        number, birth = self._places.get(key, (-1, 0))
        if birth and words[self._sizes.cell(number)] == birth:
            return number
        if not words[at.FREE_CELLS]:
            raise Overloaded(
                f"the budget ledger is full: it has {self._sizes.cells} counts",
                hint="use fewer budgets with `*`; counts of ended windows are freed within a minute",
            )
        grant = 0 if self._shared else at.UNBOUNDED
        number = at.bear(
            words, self._sizes, text, kind, starts_ms, line.ends_ms, grant=grant, commit=self._memory.commit
        )
        self._catch_up()
        return number

    def _catch_up(self) -> None:
        """Index the cells that other processes created since the last call."""
        words, sizes = self._words, self._sizes
        births = words[at.BIRTHS]
        if births == self._seen_births:
            return
        if births - self._seen_births > sizes.ring:
            self._places = {cell.key: (number, cell.birth) for number, cell in at.cells(self._memory, sizes)}
        else:
            for birth in range(self._seen_births + 1, births + 1):
                number = words[sizes.births + (birth - 1) % sizes.ring]
                if words[sizes.cell(number)] == birth:
                    self._places[at.cell_at(self._memory, sizes, number).key] = number, birth
        if len(self._places) > 2 * sizes.cells:  # most of them are freed
            self._places = {cell.key: (number, cell.birth) for number, cell in at.cells(self._memory, sizes)}
        self._seen_births = births
