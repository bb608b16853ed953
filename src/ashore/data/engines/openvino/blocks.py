"""The blocks of the KV cache: their holders, and reuse of computed blocks.

A block keeps the keys and values of `block_tokens` consecutive tokens. Computed blocks are remembered in a tree: a node
is reached only through its parent, and the root of a tree is a (partition, adapter) pair, so that no path leads from
one tenant or adapter to another's blocks. Keys are the token ids themselves, not hashes, so they cannot collide.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

Root = tuple[str, str]
"""(partition, adapter)."""

Parent = Root | int
"""A root, or the serial number of the node above."""

_SIBLINGS_LOOKED_AT = 64
_SHORTEST_TAIL = 4
"""Copying a block costs about as much as computing two tokens of the smallest model; fewer are computed afresh."""


@dataclass(slots=True)
class _Node:
    serial: int
    parent: Parent
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PrefixHit:
    """The computed part of a prompt. The caller holds the blocks from now on."""

    blocks: tuple[int, ...]
    parent: Parent
    """Node of the last whole block, for `publish`."""
    tail_block: int | None = None
    """A block whose first `tail_tokens` tokens go on in the same way; to be copied, never shared."""
    tail_tokens: int = 0


@dataclass(slots=True)
class BlockPool:
    """Blocks `0 .. num_blocks - 1`: each is free, held by sequences, or idle (cached and not held)."""

    num_blocks: int
    block_tokens: int
    _free: list[int] = field(init=False)
    _holders: list[int] = field(init=False)
    _idle: OrderedDict[int, None] = field(init=False, default_factory=OrderedDict)
    _nodes: dict[int, _Node] = field(init=False, default_factory=dict)
    _children: dict[Parent, dict[tuple[int, ...], int]] = field(init=False, default_factory=dict)
    _serial: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._free = list(range(self.num_blocks - 1, -1, -1))
        self._holders = [0] * self.num_blocks

    @property
    def num_available(self) -> int:
        """Blocks that `take` can return: free ones and idle ones."""
        return len(self._free) + len(self._idle)

    @property
    def num_held(self) -> int:
        return self.num_blocks - self.num_available

    def take(self) -> int | None:
        """Return a block to write to, evicting the least recently used idle one if none is free; None if all are
        held."""
        if self._free:
            block = self._free.pop()
        elif self._idle:
            block, _ = self._idle.popitem(last=False)
            self._forget(block)
        else:
            return None
        self._holders[block] = 1
        return block

    def release(self, blocks: list[int]) -> None:
        """Release a sequence's blocks. Later ones become idle first, so that a chain is evicted from its end."""
        for block in reversed(blocks):
            self._holders[block] -= 1
            if self._holders[block] < 0:
                raise AssertionError(f"block {block} was released more often than it was taken")
            if self._holders[block] == 0:
                if block in self._nodes:
                    self._idle[block] = None
                else:
                    self._free.append(block)

    def match(self, root: Root, ids: list[int], limit: int) -> PrefixHit:
        """Hold and return the computed blocks that match `ids[:limit]`, and a tail worth copying."""
        size = self.block_tokens
        parent: Parent = root
        blocks: list[int] = []
        while (len(blocks) + 1) * size <= limit:
            start = len(blocks) * size
            found = self._children.get(parent, {}).get(tuple(ids[start : start + size]))
            if found is None:
                break
            self._hold(found)
            blocks.append(found)
            parent = self._nodes[found].serial
        rest = ids[len(blocks) * size : min(limit, (len(blocks) + 1) * size)]
        tail_block, tail_tokens = self._longest_tail(parent, rest)
        return PrefixHit(tuple(blocks), parent, tail_block, tail_tokens)

    def count_match(self, root: Root, ids: list[int], limit: int) -> int:
        """Return how many tokens `match` would find in whole blocks, holding nothing."""
        size, count = self.block_tokens, 0
        parent: Parent = root
        while count + size <= limit:
            found = self._children.get(parent, {}).get(tuple(ids[count : count + size]))
            if found is None:
                break
            parent = self._nodes[found].serial
            count += size
        return count

    def publish(self, parent: Parent, ids: tuple[int, ...], block: int) -> int | None:
        """Cache that held `block` begins with `ids` after `parent`; return its node number.

        Returns None, and caches nothing, if another block already has the same content. A block published with few
        tokens may be published again with more.
        """
        siblings = self._children.setdefault(parent, {})
        known = siblings.get(ids)
        if known is not None:
            return self._nodes[block].serial if known == block else None
        if block in self._nodes:
            self._forget(block)
            siblings = self._children.setdefault(parent, {})
        self._serial += 1
        self._nodes[block] = _Node(self._serial, parent, ids)
        siblings[ids] = block
        return self._serial

    def publish_or_find(self, parent: Parent, ids: tuple[int, ...], block: int) -> int:
        """Cache `block` as `publish` does; return the number of the node with that content, whosever block it is."""
        node = self.publish(parent, ids, block)
        return self._nodes[self._children[parent][ids]].serial if node is None else node

    def serial(self, block: int) -> int | None:
        """Return the number of a block's node, None if it has none. A number is never used twice: a whole block has the
        same content as long as its number is the same. Callable from any thread."""
        node = self._nodes.get(block)
        return None if node is None else node.serial

    def forget(self, root: Root) -> None:
        """Free the idle blocks below `root`; none of them may be held."""
        found: list[int] = []
        above: list[Parent] = [root]
        while above:
            blocks = list(self._children.get(above.pop(), {}).values())
            above += [self._nodes[block].serial for block in blocks]
            found += blocks
        for block in found:
            del self._idle[block]
            self._forget(block)
            self._free.append(block)

    def _hold(self, block: int) -> None:
        if self._holders[block] == 0:
            del self._idle[block]
        self._holders[block] += 1

    def _forget(self, block: int) -> None:
        node = self._nodes.pop(block)
        siblings = self._children[node.parent]
        del siblings[node.ids]
        if not siblings:
            del self._children[node.parent]

    def _longest_tail(self, parent: Parent, rest: list[int]) -> tuple[int | None, int]:
        """Return the child of `parent` that shares the longest beginning with `rest`, and how long it is."""
        siblings = self._children.get(parent)
        if not siblings or len(rest) < _SHORTEST_TAIL:
            return None, 0
        best, best_tokens = None, _SHORTEST_TAIL - 1
        for _, (ids, block) in zip(range(_SIBLINGS_LOOKED_AT), reversed(siblings.items()), strict=False):
            if ids[: best_tokens + 1] != tuple(rest[: best_tokens + 1]):
                continue
            common = best_tokens + 1
            while common < len(rest) and common < len(ids) and ids[common] == rest[common]:
                common += 1
            best, best_tokens = block, common
            if common == len(rest):
                break
        return best, best_tokens if best is not None else 0
