"""The bundle: built, installed and asked with no route out. Slow: run by `make test-bundle`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

ASK = """
import http.client, json, os, subprocess, sys, time
sys.path.insert(0, sys.argv[3])
from loopback import raise_loopback
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


ENTER = """
root=$1; shift
mount -t proc proc "$root/proc"
exec chroot "$root" sh -c 'cd /bundle; exec "$@"' - "$@"
"""

pytestmark = [pytest.mark.full, pytest.mark.model, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def bundle(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked bundle, as it lies on the machine that it was carried to."""
    folder = tmp_path_factory.mktemp("bundle")
    script = str(PROJECT / "deploy/bundle/make_bundle.py")
    made = subprocess.run(
        [sys.executable, script, "--output", str(folder), "--home", str(demo_home)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    with tarfile.open(made.stdout.strip()) as archive:
        archive.extractall(folder / "copied", filter="data")
    (unpacked,) = (folder / "copied").iterdir()
    return unpacked


def needs_namespace(*words: str) -> None:
    """Skip where the kernel or the container does not permit this namespace."""
    probe = subprocess.run(["unshare", *words, "--", "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"namespaces are not permitted here: unshare {' '.join(words)}: {probe.stderr.strip()}")


def answer_of(command: Sequence[str], *, cwd: Path, home: str) -> str:
    """Install and ask inside a namespace without a route out; return what was said."""
    result = subprocess.run(
        command,
        cwd=cwd,
        env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return result.stdout


def test_it_names_what_is_inside(bundle: Path) -> None:
    bill = json.loads((bundle / "sbom.cdx.json").read_text())
    names = {component["name"] for component in bill["components"]}
    assert {"ashore", "openvino", "smollm2-int8"} <= names
    assert all(component["hashes"] for component in bill["components"])
    assert (bundle / "licences").is_dir()


def test_it_installs_and_answers_with_no_route_out(bundle: Path, tmp_path: Path) -> None:
    needs_namespace("--map-root-user", "--net")
    cut_off = ["unshare", "--map-root-user", "--net", "--"]
    where = [str(tmp_path / "ashore"), str(tmp_path / "home"), str(PROJECT / "tests/support")]
    said = answer_of([*cut_off, sys.executable, "-c", ASK, *where], cwd=bundle, home=str(tmp_path))
    assert "Paris" in said


def test_it_installs_and_answers_on_a_clean_debian_with_no_route_out(bundle: Path, tmp_path: Path) -> None:
    """A tree that debootstrap makes of the smallest Debian and its Python, and nothing of this machine in it."""
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        pytest.skip("needs debootstrap and root: apt-get install debootstrap")
    needs_namespace("--net", "--mount", "--pid", "--fork")
    root = tmp_path / "root"
    suite = next(
        line.partition("=")[2]
        for line in Path("/etc/os-release").read_text().splitlines()
        if line.startswith("VERSION_CODENAME=")
    )
    made = subprocess.run(
        ["debootstrap", "--variant=minbase", "--include=python3,python3-venv", suite, str(root)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    if made.returncode:
        pytest.skip(f"debootstrap could not make a tree of {suite}: {made.stdout[-300:]}{made.stderr[-300:]}")
    there = subprocess.run(
        ["chroot", str(root), "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    )
    if there.stdout != (bundle / "PYTHON").read_text():
        pytest.skip(f"{suite} has Python {there.stdout.strip()}; the bundle is for {(bundle / 'PYTHON').read_text()}")
    shutil.copytree(bundle, root / "bundle")
    shutil.copy(PROJECT / "tests/support/loopback.py", root / "bundle")
    cut_off = ["unshare", "--net", "--mount", "--pid", "--fork", "--", "sh", "-ec", ENTER, "-", str(root)]
    where = ["/opt/ashore", "/srv/ashore", "/bundle"]
    said = answer_of([*cut_off, "python3", "-c", ASK, *where], cwd=tmp_path, home="/root")
    assert "Paris" in said
    assert (root / "srv/ashore/state.db").is_file() and not (root / "root/.ashore").exists()


def test_a_spoilt_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "spoilt"
    shutil.copytree(bundle, copy, symlinks=True)
    (copy / "wheels" / min(os.listdir(copy / "wheels"))).write_bytes(b"not what it was")
    spoilt = subprocess.run(["sh", "install.sh", str(tmp_path / "again")], cwd=copy, capture_output=True, text=True)
    assert spoilt.returncode == 4 and "not what it was" in spoilt.stderr
