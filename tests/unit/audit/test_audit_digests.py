"""Digests of the record are HMAC-SHA256, to the letter: whoever has the key can make them with any tool."""

from __future__ import annotations

import hmac

from hypothesis import given
from hypothesis import strategies as st

from ashore.data.audit.digests import Digester


@given(key=st.binary(min_size=1, max_size=100), texts=st.lists(st.binary(max_size=200), max_size=3))
def test_a_digest_is_the_standard_s_whatever_was_digested_before(key: bytes, texts: list[bytes]) -> None:
    digester = Digester(key)
    for text in (*texts, b""):
        assert digester.digest(text) == hmac.digest(key, text, "sha256").hex()
