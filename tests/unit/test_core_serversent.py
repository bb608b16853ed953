"""Events of a stream: however it is cut, and bounded."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashore.core.errors import EngineFailed
from ashore.core.serversent import DONE, LINE_BYTES, ServerSent

STREAM = b': hello\nevent: x\ndata: {"a": 1}\r\n\ndata:{"b": "\xc3\xa9"}\n\ndata: [DONE]\n\ndata: cut'


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_events_are_the_same_however_the_bytes_come(cuts: list[int]) -> None:
    reader, ends = ServerSent("it"), [0, *sorted(cuts), len(STREAM)]
    found = [data for start, end in pairwise(ends) for data in reader.take(STREAM[start:end])]
    assert found == [b'{"a": 1}', b'{"b": "\xc3\xa9"}', DONE]


def test_a_line_without_end_is_refused() -> None:
    reader = ServerSent("the server")
    with pytest.raises(EngineFailed, match="the server sent a line"):
        for _ in range(LINE_BYTES // (1 << 20) + 1):
            reader.take(b"x" * (1 << 20))
