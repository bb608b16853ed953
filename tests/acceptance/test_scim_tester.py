"""scim2-tester, as identity providers are tested, against a server's `/scim/v2`. Run by `make test-clients`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from served import call, start_served
from suite_venv import suite_python

pytestmark = pytest.mark.full
SCRIPT = """
import json, sys
import httpx2
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_tester import check_server
url, key = sys.argv[1:]
with httpx2.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60) as client:
    for one in check_server(SyncSCIMClient(client)):
        print(json.dumps([one.status.name, one.title, one.resource_type, str(one.reason)]))
"""
CONFIG = '[scim]\nenabled = true\nissuer = "pushed"\n'


def test_it_finds_the_one_deviation_that_is_on_purpose(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """An `active` that is removed means false here, so the person is out. RFC 7644 has the attribute gone."""
    python = suite_python("scim")
    server = start_served(
        tmp_path / "home", ("fake:echo",), store=None, port=free_port(), grpc_port=free_port(), config=CONFIG
    )
    try:
        officer = {"id": "sec", "roles": ["security-officer"], "key": {}}
        sec = call(server, "POST", "/admin/v1/users", server.key, officer)["key"]["key"]
        provider = {"id": "entra", "roles": ["provisioner"], "key": {}}
        key = call(server, "POST", "/admin/v1/service-accounts", sec, provider)["key"]["key"]
        words = [str(python), "-I", "-c", SCRIPT, f"{server.root_url}/scim/v2", key]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    finally:
        server.stop()
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(status == "SUCCESS" for status, *_ in rows) >= 120
    wrong = [(title, kind, reason) for status, title, kind, reason in rows if status not in ("SUCCESS", "SKIPPED")]
    assert wrong == [("check_remove_attribute", "User", "PATCH modify() did not remove attribute 'active'")]
