"""Chooses the sequences of the next step and their tokens: rules over blocks, no clock, no model.

Every generating sequence advances by one token in every step; those of a tenant whose long contexts would make the step
too long take turns. Prompts share the rest of the step's token budget, fairly between tenants, so that a long prompt
delays the others by a bounded time and a new short prompt starts in the next step. When blocks run out, the least
important sequence is preempted and recomputed later. A waiting sequence of the tenant with the fewest running goes
first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ashore.core.ids import OrderId
from ashore.data.engines.openvino.blocks import BlockPool, Parent, Root

LONG_STEPS: Final = 2
"""A prompt that takes more whole steps than this is long: see `Scheduler.plan`."""


@dataclass(slots=True, eq=False)
class Sequence:
    """One order while it lives in the scheduler."""

    order_id: OrderId
    ids: list[int]
    """Prompt and, behind it, what was generated."""
    num_prompt: int
    priority: int = 0
    tenant: str = ""
    root: Root = ("", "")
    arrival: int = 0
    done: int = 0
    """Tokens whose keys and values are computed."""
    cached: int = 0
    """Prompt tokens that came from the prefix cache at the first admission."""
    blocks: list[int] = field(default_factory=list)
    table: NDArray[np.int32] = field(default_factory=lambda: np.empty(8, np.int32))
    """`blocks` as an array, with room to grow."""
    parent: Parent = ("", "")
    published: int = 0
    """Blocks at the front of `blocks` that the pool remembers."""
    shares: bool = True
    """False once another sequence has published the same block: what follows stays private."""
    was_admitted: bool = False
    held: bool = False
    """It waits for its grammar: nothing of it is computed."""
    turn: int = 0
    """Number of the last step with its next token."""
    proposed: tuple[int, ...] = ()
    """Tokens that may follow, to be computed in the next step if it generates."""

    @property
    def remaining(self) -> int:
        return len(self.ids) - self.done

    def add_block(self, block: int) -> None:
        if len(self.blocks) == len(self.table):
            self.table = np.concatenate([self.table, np.empty_like(self.table)])
        self.table[len(self.blocks)] = block
        self.blocks.append(block)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Compute `ids[start:end]` of one sequence, and sample its next token if that reaches the end."""

    sequence: Sequence
    start: int
    end: int
    samples: bool
    proposed: tuple[int, ...] = ()
    """Tokens computed behind them. They stay in the blocks only until others take their places."""

    @property
    def num_tokens(self) -> int:
        """Tokens computed, with those that are proposed."""
        return self.end - self.start + len(self.proposed)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Actions of one step, in order: copies, chunks. `exhausted` sequences cannot go on and are already removed."""

    chunks: tuple[Chunk, ...]
    copies: tuple[tuple[int, int], ...] = ()
    """(from, to) blocks."""
    exhausted: tuple[Sequence, ...] = ()


class Scheduler:
    """Waiting and running sequences over one pool of blocks."""

    def __init__(self, pool: BlockPool, *, max_sequences: int, prefix_cache: bool) -> None:
        self.pool = pool
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []
        self.preemptions = 0
        self._max_sequences = max_sequences
        self._prefix_cache = prefix_cache
        self._arrivals = 0
        self._turns = 0
        self._has_rested = False
        """The last step left out long prompts."""
        self._planned: dict[int, Chunk] = {}

    @property
    def shares_prefixes(self) -> bool:
        """Whether sequences use blocks that others computed."""
        return self._prefix_cache

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence after those of its priority."""
        self._arrivals += 1
        sequence.arrival = self._arrivals
        self._queue(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Remove a waiting or running sequence, and free its blocks."""
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self._free(sequence)

    def fits(self, num_tokens: int) -> bool:
        """Return whether a sequence of that length could ever run alone."""
        return -(-num_tokens // self.pool.block_tokens) <= self.pool.num_blocks

    def plan(
        self, *, prompt_budget: int, long_budget: int | None = None, context_budget: int | None = None
    ) -> StepPlan:
        """Decide the next step. Blocks are taken already on return.

        A step in which the prompt of one tenant ends leaves out the long prompts of others, but not two in a row: a
        first token waits for the step before, and for little in its own.

        Args:
            prompt_budget: Limit of prompt tokens in the step.
            long_budget: Limit in a step with a part of a long prompt; None: the same.
            context_budget: Limit of tokens that the next tokens of one tenant are computed from, but for a single
                sequence; None: no limit. A step may be empty if those in turn were preempted.
        """
        exhausted: list[Sequence] = []
        copies: list[tuple[int, int]] = []
        self._planned = {}
        decoding = [s for s in self.running if s.remaining == 1 and not s.held]
        late = self._out_of_turn(decoding, context_budget)
        self._plan_decoding([s for s in decoding if id(s) not in late], exhausted)
        self._admit(copies)
        prompts = [s for s in self.running if id(s) not in self._planned and id(s) not in late and not s.held]
        taking_part = self._without_resting(prompts, prompt_budget)
        is_long = any(_is_long(s, prompt_budget) for s in taking_part)
        budget = long_budget if is_long and long_budget is not None else prompt_budget
        for sequence, tokens in share_budget(taking_part, budget):
            self._plan_prompt(sequence, sequence.done + tokens)
        if not self._planned and prompts:
            self._unblock(prompts, prompt_budget, exhausted)
        return StepPlan(tuple(self._planned.values()), tuple(copies), tuple(exhausted))

    def commit(self, plan: StepPlan) -> None:
        """Record that `plan` was computed; call it before new tokens are appended to the sequences."""
        for chunk in plan.chunks:
            chunk.sequence.done = chunk.end
            if self._prefix_cache:
                self._publish(chunk.sequence, tail=chunk.samples and chunk.end - chunk.start > 1)

    def _out_of_turn(self, decoding: list[Sequence], context_budget: int | None) -> set[int]:
        """Return the ids of the sequences that wait for a later step."""
        if context_budget is None:
            return set()
        self._turns += 1
        taken: Counter[str] = Counter()
        for s in sorted(decoding, key=lambda s: s.turn):
            if not taken[s.tenant] or taken[s.tenant] + len(s.ids) <= context_budget:
                taken[s.tenant] += len(s.ids)
                s.turn = self._turns
        return {id(s) for s in decoding if s.turn != self._turns}

    def _without_resting(self, prompts: list[Sequence], budget: int) -> list[Sequence]:
        """Return the prompts that take part in this step."""
        ending: dict[str, int] = {}
        for s in prompts:
            if s.remaining <= budget:
                ending[s.tenant] = max(s.priority, ending.get(s.tenant, s.priority))

        def rests(sequence: Sequence) -> bool:
            return _is_long(sequence, budget) and any(
                tenant != sequence.tenant and priority >= sequence.priority for tenant, priority in ending.items()
            )

        self._has_rested = not self._has_rested and any(rests(s) for s in prompts)
        return [s for s in prompts if not rests(s)] if self._has_rested else prompts

    def _plan_prompt(self, sequence: Sequence, end: int) -> bool:
        """Plan up to `end` as far as blocks reach; return whether any progress is possible."""
        end = self._grow(sequence, end)
        if end > sequence.done:
            samples = end == len(sequence.ids)
            proposed = self._proposed(sequence) if samples else ()
            self._planned[id(sequence)] = Chunk(sequence, sequence.done, end, samples, proposed)
        return end > sequence.done

    def _proposed(self, sequence: Sequence) -> tuple[int, ...]:
        """Return the proposed tokens for which there is room; they preempt no other sequence."""
        end = len(sequence.ids)
        if not sequence.proposed or self.pool.num_available <= len(self.running):
            return ()
        return sequence.proposed[: self._grow(sequence, end + len(sequence.proposed)) - end]

    def _plan_decoding(self, decoding: list[Sequence], exhausted: list[Sequence]) -> None:
        for sequence in sorted(decoding, key=_importance):
            if sequence not in self.running:
                continue
            while sequence in self.running and not self._plan_prompt(sequence, len(sequence.ids)):
                self._make_way(sequence, exhausted)

    def _unblock(self, prompts: list[Sequence], budget: int, exhausted: list[Sequence]) -> None:
        """Resolve a deadlock: half-computed prompts hold every block. Continue the most important one, or end it if
        it is alone."""
        first = min(prompts, key=_importance)
        while first in self.running and not self._plan_prompt(first, min(len(first.ids), first.done + budget)):
            self._make_way(first, exhausted)

    def _make_way(self, asking: Sequence, exhausted: list[Sequence]) -> None:
        """Free blocks by preempting a sequence; the requesting one is `exhausted` if it runs alone."""
        victim = self._victim(asking)
        if victim is not None:
            self._preempt(victim)
            return
        self.running.remove(asking)
        self._free(asking)
        exhausted.append(asking)

    def _victim(self, asking: Sequence) -> Sequence | None:
        """Return the least important running sequence, unless it is more important than the requesting one."""
        others = [s for s in self.running if s is not asking]
        if not others:
            return None
        last = max(others, key=_importance)
        if _importance(last) > _importance(asking):
            return last
        # The requesting sequence is itself the least important: it is preempted, and the others free blocks as they
        # end.
        return asking

    def _preempt(self, victim: Sequence) -> None:
        self.preemptions += 1
        self.running.remove(victim)
        self._planned.pop(id(victim), None)
        self._free(victim)
        victim.done = 0
        self._queue(victim)

    def _admit(self, copies: list[tuple[int, int]]) -> None:
        held_back: list[Sequence] = []
        while self.waiting:
            running = Counter(s.tenant for s in self.running)
            sequence = min(self.waiting, key=lambda s: (-s.priority, running[s.tenant], s.arrival))
            if self._prefix_cache and self._shares_running_prompt(sequence):
                self.waiting.remove(sequence)
                held_back.append(sequence)
                continue
            while not self._has_room(sequence):
                worst = max(self.running, key=_importance, default=None)
                if worst is None or worst.priority >= sequence.priority:
                    break
                self._preempt(worst)
            if not self._has_room(sequence):
                break
            self.waiting.remove(sequence)
            self.running.append(sequence)
            self._start(sequence, copies)
        for sequence in held_back:
            self._queue(sequence)

    def _has_room(self, sequence: Sequence) -> bool:
        if len(self.running) >= self._max_sequences:
            return False
        needed = -(-(len(sequence.ids) + 1) // self.pool.block_tokens)
        reserve = len(self.running)
        return self.pool.num_available >= min(needed + reserve, self.pool.num_blocks) or not self.running

    def _shares_running_prompt(self, sequence: Sequence) -> bool:
        """Return whether a prompt being computed will leave more of this sequence's blocks than are cached now."""
        size, limit = self.pool.block_tokens, len(sequence.ids) - 1
        known = -1
        for other in self.running:
            if other.remaining <= 1 or other.root != sequence.root or not other.shares:
                continue
            if known < 0:
                known = self.pool.count_match(sequence.root, sequence.ids, limit)
            end = known + size
            if end <= min(limit, len(other.ids)) and sequence.ids[:end] == other.ids[:end]:
                return True
        return False

    def _start(self, sequence: Sequence, copies: list[tuple[int, int]]) -> None:
        sequence.parent, sequence.published, sequence.shares = sequence.root, 0, True
        if self._prefix_cache:
            hit = self.pool.match(sequence.root, sequence.ids, len(sequence.ids) - 1)
            for block in hit.blocks:
                sequence.add_block(block)
            sequence.parent, sequence.published = hit.parent, len(hit.blocks)
            sequence.done = len(hit.blocks) * self.pool.block_tokens
            if hit.tail_block is not None:
                mine = self.pool.take()
                # Taking a block may have evicted this very tail: then it is ours, with its content.
                if mine is not None:
                    sequence.add_block(mine)
                    sequence.done += hit.tail_tokens
                    if mine != hit.tail_block:
                        copies.append((hit.tail_block, mine))
        if not sequence.was_admitted:
            sequence.was_admitted = True
            sequence.cached = sequence.done

    def _grow(self, sequence: Sequence, end: int) -> int:
        """Take blocks so that `sequence` can hold `end` tokens; return how many it can hold, at most `end`."""
        size = self.pool.block_tokens
        while len(sequence.blocks) * size < end:
            block = self.pool.take()
            if block is None:
                break
            sequence.add_block(block)
        return min(end, len(sequence.blocks) * size)

    def _publish(self, sequence: Sequence, *, tail: bool) -> None:
        size = self.pool.block_tokens
        while sequence.shares and (sequence.published + 1) * size <= sequence.done:
            start = sequence.published * size
            ids = tuple(sequence.ids[start : start + size])
            node = self.pool.publish(sequence.parent, ids, sequence.blocks[sequence.published])
            if node is None:
                sequence.shares = False
                break
            sequence.parent = node
            sequence.published += 1
        start = sequence.published * size
        if tail and sequence.shares and start < sequence.done:
            self.pool.publish(sequence.parent, tuple(sequence.ids[start : sequence.done]), sequence.blocks[-1])

    def _free(self, sequence: Sequence) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks = []

    def _queue(self, sequence: Sequence) -> None:
        place = 0
        while place < len(self.waiting) and _importance(self.waiting[place]) < _importance(sequence):
            place += 1
        self.waiting.insert(place, sequence)


def share_budget(prompts: list[Sequence], budget: int) -> list[tuple[Sequence, int]]:
    """Share `budget` tokens among prompts: half is reserved for the most important, the rest goes to those that would
    end first if tenants had equal shares, each with its shortest prompt first.

    So a short prompt does not wait for a long one nor for many of another tenant, and the long one always advances.
    """
    if not prompts:
        return []
    given = {id(s): 0 for s in prompts}
    first = min(prompts, key=_importance)
    left = budget
    shortest = sorted(prompts, key=lambda s: (-s.priority, s.remaining, s.arrival))
    kept = min(first.remaining, max(1, budget // 2))
    given[id(first)] = kept
    left -= kept
    asked: Counter[str] = Counter()
    ends: dict[int, int] = {}
    for sequence in shortest:
        asked[sequence.tenant] += sequence.remaining
        ends[id(sequence)] = asked[sequence.tenant]
    for sequence in sorted(shortest, key=lambda s: (-s.priority, ends[id(s)])):
        more = min(sequence.remaining - given[id(sequence)], left)
        given[id(sequence)] += more
        left -= more
    return [(s, given[id(s)]) for s in sorted(prompts, key=_importance) if given[id(s)]]


def _is_long(sequence: Sequence, budget: int) -> bool:
    return sequence.remaining > LONG_STEPS * budget


def _importance(sequence: Sequence) -> tuple[int, int]:
    """Sort key: the most important first."""
    return (-sequence.priority, sequence.arrival)
