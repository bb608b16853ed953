"""Operations that train, as jobs of a server, to their end: each leaves what its command would leave in the store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from served import Served, call, start_served
from tiny_models import make_tiny_model
from waiting import eventually

pytestmark = [pytest.mark.train, pytest.mark.timeout(600)]
SENTENCES = [f"the {one} lies on the table" for one in ("red cup", "red hat", "blue cup", "blue hat", "green cup")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A server of one tiny model with data that its jobs may read."""

    server: Served
    data: Path
    key: str

    def ended(self, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Ask for an operation, and return its job once it has ended."""
        made = call(self.server, "POST", f"/admin/v1{path}", self.key, asked)
        found = eventually(lambda: self._final(made["id"]), limit_s=300)
        assert isinstance(found, dict)
        return found

    def _final(self, job_id: str) -> dict[str, Any] | None:
        job: dict[str, Any] = call(self.server, "GET", f"/admin/v1/jobs/{job_id}", self.key)
        return job if job["finished"] is not None else None

    def stored(self) -> set[str]:
        items = call(self.server, "GET", "/admin/v1/models/stored", self.key)["items"]
        return {one["reference"] for one in items}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Site]:
    home, data = tmp_path_factory.mktemp("training-home"), tmp_path_factory.mktemp("training-data")
    make_tiny_model(data / "tiny", "llama")
    (data / "text.txt").write_text("\n".join(SENTENCES * 40), encoding="utf-8")
    chats = [{"messages": [{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": one}]}
             for n, one in enumerate(SENTENCES * 4)]  # fmt: skip
    (data / "chats.jsonl").write_text("".join(json.dumps(one) + "\n" for one in chats), encoding="utf-8")
    config = f'[[model]]\nname = "fake:echo"\n\n[jobs]\nfolders = ["{data}"]\n'
    server = start_served(home, (), store=None, port=free_port(), grpc_port=0, config=config)
    try:
        sam = {"id": "sam", "roles": ["system-administrator"], "key": {}}
        made = call(server, "POST", "/admin/v1/users", server.key, sam)
        site = Site(server=server, data=data, key=made["key"]["key"])
        assert site.ended("/models/pull", {"source": str(data / "tiny"), "name": "tiny"})["state"] == "succeeded"
        yield site
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("path", "asked", "made"),
    [
        ("/optimize/quantize", {"model": "tiny", "to": "int8"}, "tiny@int8"),
        ("/optimize/prune", {"model": "tiny", "remove": "10%", "kind": "width", "heal": "text.txt",
                             "heal_tokens": 2000}, "tiny-pruned10"),
        ("/optimize/distill", {"teacher": "tiny", "layers": 1, "data": ["chats.jsonl"], "text": ["text.txt"],
                               "max_tokens": 4000}, "tiny-distilled"),
        ("/optimize/evaluate", {"model": "tiny", "text": ["text.txt"], "limit": 4, "speed": False}, ""),
        ("/train/sft", {"model": "tiny", "data": "chats.jsonl", "max_tokens": 4000, "max_length": 64, "merge": True},
         "tiny-sft"),
    ],
)  # fmt: skip
def test_an_operation_that_trains_runs_to_its_end(site: Site, path: str, asked: dict[str, Any], made: str) -> None:
    def placed(value: Any) -> Any:
        if isinstance(value, list):
            return [placed(one) for one in value]
        return str(site.data / value) if isinstance(value, str) and (site.data / value).is_file() else value

    job = site.ended(path, {name: placed(value) for name, value in asked.items()})
    assert job["state"] == "succeeded", (job["error_message"], job["operation"]["log"])
    assert any(one.startswith(made) for one in site.stored()), sorted(site.stored())
    assert job["operation"]["stage"], "it says how far it is"
