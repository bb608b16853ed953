"""The bundle: built, installed and asked with no route out. Slow: run by `make test-bundle`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

ASK = """
import http.client, json, os, subprocess, sys, time
sys.path.insert(0, sys.argv[3])
from ask_cut_off import raise_loopback
raise_loopback()
prefix, home = sys.argv[1:3]
own = {**os.environ, "ASHORE_HOME": home, "PYTHON": sys.executable}
subprocess.run(["sh", "install.sh", prefix], check=True, env=own)
server = subprocess.Popen([prefix + "/venv/bin/ashore", "up", "--offline"], env=own)
def request(method, path, body=None):
    link = http.client.HTTPConnection("127.0.0.1", 8080, timeout=60)
    key = open(home + "/first-key").read().strip()
    link.request(method, path, body, {"authorization": "Bearer " + key, "content-type": "application/json"})
    answer = link.getresponse()
    return answer.status, answer.read()
end = time.monotonic() + 120
while True:
    try:
        if request("GET", "/readyz")[0] == 200:
            break
    except OSError:
        pass
    if server.poll() is not None or time.monotonic() > end:
        raise SystemExit("it did not start")
    time.sleep(0.2)
question = {"role": "user", "content": "What is the capital of France?"}
body = json.dumps({"model": "smollm2", "messages": [question], "temperature": 0, "max_tokens": 32})
print("answer:", request("POST", "/v1/chat/completions", body)[1].decode())
server.terminate()
raise SystemExit(server.wait(60))
"""


@pytest.mark.full
@pytest.mark.model
@pytest.mark.timeout(1200)
def test_the_bundle_installs_and_answers_with_no_route_out(demo_home: Path, tmp_path: Path) -> None:
    namespace = ["unshare", "--map-root-user", "--net", "--"]
    probe = subprocess.run([*namespace, "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"network namespaces are not permitted here: {probe.stderr.strip()}")
    made = subprocess.run(
        [
            sys.executable,
            str(PROJECT / "deploy/bundle/make_bundle.py"),
            "--output",
            str(tmp_path),
            "--home",
            str(demo_home),
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    with tarfile.open(made.stdout.strip()) as archive:
        archive.extractall(tmp_path / "copied", filter="data")
    (bundle,) = (tmp_path / "copied").iterdir()
    bill = json.loads((bundle / "sbom.cdx.json").read_text())
    names = {component["name"] for component in bill["components"]}
    assert {"ashore", "openvino", "smollm2-int8"} <= names
    assert all(component["hashes"] for component in bill["components"])
    assert (bundle / "licences").is_dir()
    result = subprocess.run(
        [
            *namespace,
            sys.executable,
            "-c",
            ASK,
            str(tmp_path / "ashore"),
            str(tmp_path / "home"),
            str(PROJECT / "tests/support"),
        ],
        cwd=bundle,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert "Paris" in result.stdout
    (bundle / "wheels" / next(iter(sorted(os.listdir(bundle / "wheels"))))).write_bytes(b"not what it was")
    spoilt = subprocess.run(["sh", "install.sh", str(tmp_path / "again")], cwd=bundle, capture_output=True, text=True)
    assert spoilt.returncode == 4 and "not what it was" in spoilt.stderr
