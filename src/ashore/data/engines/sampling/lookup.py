"""Tokens looked up: what an answer is likely to say next, copied from its prompt, itself and earlier answers.

The longest text that ends the sequence and occurred before proposes what followed it there. One step then computes
several positions, and each token is sampled from its own logits as always: where it is the proposed one, the next
position is valid already. So the distribution of an answer is that of single steps, and a draw is made for each token.
A proposal is right or wrong whether it is computed or not; the share of right ones decides how many are worth it.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ashore.data.engines.model import GenerateOrder

Partition = tuple[str, ...]
"""What an earlier answer must share with an order to serve it: prefix partition, tenant, adapter."""

MOST_AHEAD: Final = 15
"""Most proposed tokens of one sequence in a step. With the token before them they fill one step of 16."""
_SHORTEST_MATCH: Final = 2
_LONGEST_MATCH: Final = 32
_RATES: Final = (0.1, 0.1, 0.3, 0.6, 0.8, 0.9)
"""Share of right proposals to begin with, by the bits of the length of their match."""
_BELIEF: Final = 3.0
"""Observations that a share to begin with is worth."""
_MEMORY: Final = 24.0
"""Observations that a share consists of; older ones fade."""
_GONE: Final = -1
"""Between two answers in one array: no token has this id."""
_SMALLEST_RATE: Final = 0.05
_MARGIN: Final = 1.25
"""How much likelier than worth its time a token must be: it is sampled too, and both figures are estimates."""
_STEPS: Final = 50
"""Steps that the cost of a token is learned from; older ones fade."""
_STEADY: Final = 400.0
"""Squared tokens that the share learned so far counts for against new steps."""
_LEAST_SHARE: Final = 0.04


class EarlierAnswers:
    """Earlier answers by partition, bounded in bytes. The oldest of a partition, and partitions unused the longest,
    are dropped first."""

    def __init__(self, *, max_bytes: int = 16 << 20, partition_bytes: int = 256 << 10) -> None:
        """Create it empty; a partition takes `partition_bytes`, all together `max_bytes`."""
        self._capacity = partition_bytes // 4
        self._most = max(1, max_bytes // partition_bytes)
        self._texts: OrderedDict[Partition, Text] = OrderedDict()

    def lookup(self, order: GenerateOrder, adapter: str = "", *, is_exact: bool = False) -> Lookup | None:
        """Return the look-up for an order, None if it does without.

        How many tokens are computed together varies, and with it what wins a near-tie, unless the engine `is_exact`. So
        an order with a seed, which is to repeat, does without.
        """
        if not order.lookup or (order.sampling.seed is not None and not is_exact):
            return None
        return Lookup(order.prompt_ids, self.of(_partition(order, adapter)))

    def keep(self, order: GenerateOrder, ids: Sequence[int], adapter: str = "") -> None:
        """Keep the answer of an order that ended; `ids` has its prompt and its answer."""
        if order.lookup:
            self.add(_partition(order, adapter), ids[len(order.prompt_ids) :])

    def of(self, partition: Partition) -> Text | None:
        """Return the answers of one partition, None if there are none."""
        return self._texts.get(partition)

    def add(self, partition: Partition, ids: Sequence[int]) -> None:
        """Keep an answer, without the beginning that is too long."""
        if len(ids) <= _SHORTEST_MATCH:
            return
        text = self._texts.pop(partition, None) or Text()
        kept = np.array([*ids[-self._capacity // 2 :], _GONE], np.int32)
        if text.size + kept.size > self._capacity:
            text = Text(text.ids[text.size - self._capacity // 2 :])
        text.extend(kept)
        self._texts[partition] = text
        if len(self._texts) > self._most:
            self._texts.popitem(last=False)


def _partition(order: GenerateOrder, adapter: str) -> Partition:
    return (order.prefix_partition, order.tenant, adapter)


class Text:
    """Tokens that grow at the end, in one array."""

    __slots__ = ("_ids", "size")

    def __init__(self, ids: Sequence[int] | NDArray[np.int32] = ()) -> None:
        self._ids = np.array(ids, np.int32)
        self.size = len(self._ids)

    @property
    def ids(self) -> NDArray[np.int32]:
        """The tokens so far, as a view."""
        return self._ids[: self.size]

    def extend(self, ids: Sequence[int] | NDArray[np.int32]) -> None:
        """Append tokens."""
        end = self.size + len(ids)
        if end > len(self._ids):
            self._ids = np.concatenate([self.ids, np.empty(end + 64, np.int32)])
        self._ids[self.size : end] = ids
        self.size = end


class Lookup:
    """The proposals of one sequence."""

    __slots__ = ("_at", "_earlier", "_length", "_own", "_right", "_seen", "_source")

    def __init__(self, prompt_ids: Sequence[int], earlier: Text | None = None) -> None:
        self._own = Text(prompt_ids)
        self._earlier = earlier
        self._source: Text | None = None
        """Where the text that ends the sequence occurred before; its token at `_at` is proposed."""
        self._at = self._length = 0
        self._right = [_BELIEF * rate for rate in _RATES]
        self._seen = [_BELIEF] * len(_RATES)

    def follow(self, token_id: int) -> None:
        """Note the next token of the sequence."""
        self._own.extend((token_id,))
        if (ahead := self._next(1)).size:
            is_right = int(ahead[0]) == token_id
            self._learn(is_right)
            if is_right:
                self._at += 1
                self._length += 1
                return
        self._search()

    def propose(self, most: int) -> tuple[list[int], list[float]]:
        """Return up to `most` tokens, and for each the likelihood that it and all before it are right."""
        if self._source is None:
            self._search()
        ids = [int(one) for one in self._next(most)]
        chances: list[float] = []
        chance = 1.0
        for place in range(len(ids)):
            kind = _kind(self._length + place)
            chance *= self._right[kind] / self._seen[kind]
            chances.append(chance)
        return ids, chances

    def _next(self, most: int) -> NDArray[np.int32]:
        if self._source is None:
            return _NOTHING
        ahead = self._source.ids[self._at : self._at + most]
        ends = np.flatnonzero(ahead == _GONE)
        return ahead[: ends[0]] if ends.size else ahead

    def _learn(self, is_right: bool) -> None:
        kind = _kind(self._length)
        fading = 1 - 1 / _MEMORY
        self._right[kind] = self._right[kind] * fading + is_right
        self._seen[kind] = self._seen[kind] * fading + 1

    def _search(self) -> None:
        """Find the longest match, the latest of equally long ones."""
        own = self._own.ids
        self._source = None
        self._at, self._length = _longest_match(own[:-1], own)
        if self._length >= _SHORTEST_MATCH:
            self._source = self._own
        if self._earlier is not None:
            at, length = _longest_match(self._earlier.ids, own)
            if length > max(self._length, _SHORTEST_MATCH - 1):
                self._source, self._at, self._length = self._earlier, at, length


def _longest_match(text: NDArray[np.int32], ending: NDArray[np.int32]) -> tuple[int, int]:
    """Return where `text` goes on after its longest part that equals the end of `ending`, and how long that is."""
    found = np.flatnonzero(text == ending[-1])
    length = 0
    while found.size:
        length += 1
        at = int(found[-1])
        if length == min(_LONGEST_MATCH, len(ending)):
            break
        found = found[found >= length]
        found = found[text[found - length] == ending[-1 - length]]
    return (at + 1, length) if length else (0, 0)


def _kind(length: int) -> int:
    return min(length.bit_length(), len(_RATES) - 1)


_NOTHING: Final = np.empty(0, np.int32)


class StepCost:
    """What one more token costs a step of generating sequences, learned from their times."""

    def __init__(self) -> None:
        self.share = 0.3
        """Time of one more token, as a share of the time of a step with one."""
        self._sums = np.zeros(5)
        """Of steps, with older ones fading: their number, and sums of tokens, seconds, squared tokens, products."""

    def begin(self, share: float) -> None:
        """Take a first measurement of `share`."""
        self.share = min(max(share, _LEAST_SHARE), 1.0)

    def note(self, num_tokens: int, seconds: float) -> None:
        """Fit a line through the times of steps by their tokens; where these hardly differ, the share stays.

        A step that the machine interrupted counts as one of twice the time expected.
        """
        count, tokens, total_s, *_ = (float(one) for one in self._sums)
        if count:
            usual_s = total_s / (count + self.share * (tokens - count))
            seconds = min(seconds, 2 * usual_s * (1 + self.share * (num_tokens - 1)))
        self._sums *= 1 - 1 / _STEPS
        self._sums += (1, num_tokens, seconds, num_tokens * num_tokens, num_tokens * seconds)
        count, tokens, total_s, squares, products = (float(one) for one in self._sums)
        mean, mean_s = tokens / count, total_s / count
        known = self.share * mean_s / (1 + self.share * (mean - 1))
        slope = (products - tokens * mean_s + _STEADY * known) / (squares - tokens * mean + _STEADY)
        single_s = mean_s - slope * (mean - 1)
        self.begin(slope / single_s if single_s > 0 else 1.0)


def widths(chances: Sequence[Sequence[float]], *, token_cost: float, num_tokens: int) -> list[int]:
    """Return how many proposed tokens of each sequence make the most tokens per second.

    A token joins the step as long as it is likelier to be right than the step is slower for it: so with few sequences
    unlikely ones pay, with many none.

    Args:
        chances: For each sequence, the likelihood of its proposed tokens, falling.
        token_cost: Time of one more token in a step, as a share of the time of a step with a single one.
        num_tokens: Tokens in the step without proposals; each makes one token.
    """
    taken = [0] * len(chances)
    cost, made = 1 + token_cost * (num_tokens - 1), float(num_tokens)
    best = [(-one[0], place) for place, one in enumerate(chances) if one]
    heapq.heapify(best)
    while best:
        chance, place = -best[0][0], best[0][1]
        if chance < _SMALLEST_RATE or chance * cost <= _MARGIN * token_cost * made:
            break
        taken[place] += 1
        made += chance
        cost += token_cost
        if taken[place] < len(chances[place]):
            heapq.heapreplace(best, (-chances[place][taken[place]], place))
        else:
            heapq.heappop(best)
    return taken
