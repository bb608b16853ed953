"""A real API server of Kubernetes with an etcd of its own, on this machine, which no controller and no kubelet serves.

The programs are those on PATH: no package of an index has `kube-apiserver`, so a test that needs it says so.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kube_schemas import SCHEMAS
from waiting import eventually

PROGRAMS = ("etcd", "kube-apiserver", "kubectl", "openssl")
PLURALS = {
    "LeaderWorkerSet": "leaderworkersets", "RayService": "rayservices", "LLMInferenceService": "llminferenceservices",
}  # fmt: skip
READY_S = 120.0


def missing() -> str:
    """Return what keeps this machine from running an API server; empty where nothing does."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"not on PATH: {', '.join(absent)}" if absent else ""


def definitions() -> list[dict[str, Any]]:
    """Return the definitions of the custom objects, with the schemas of tests/schemas."""
    found = []
    for file in sorted(SCHEMAS.glob("*_v*_*.json")):
        group, version, kind = file.stem.split("_")
        names = {"kind": kind, "plural": PLURALS[kind], "singular": kind.lower()}
        schema = {"openAPIV3Schema": json.loads(file.read_text())}
        served = {"name": version, "served": True, "storage": True, "schema": schema}
        found.append({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {
                "name": f"{PLURALS[kind]}.{group}",
                "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs"},
            },
            "spec": {"group": group, "names": names, "scope": "Namespaced", "versions": [served]},
        })  # fmt: skip
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeServer:
    """A running one."""

    config: Path
    """For kubectl."""

    def kubectl(self, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl against it."""
        return subprocess.run(
            ["kubectl", *words], input=text, env={**os.environ, "KUBECONFIG": str(self.config)},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def kube_server(folder: Path) -> Iterator[KubeServer]:
    """Run one, with the custom objects defined, until the block ends."""
    store, peer, port, token = _free_port(), _free_port(), _free_port(), secrets.token_hex(16)
    key = folder / "accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    (folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    at = f"http://127.0.0.1:{store}"
    commands = {
        "etcd": [
            f"--data-dir={folder}/etcd", f"--listen-client-urls={at}", f"--advertise-client-urls={at}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}", "--unsafe-no-fsync",
        ],
        "kube-apiserver": [
            f"--etcd-servers={at}", f"--cert-dir={folder}/certificates", f"--secure-port={port}",
            "--bind-address=127.0.0.1", "--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=RBAC",
            f"--token-auth-file={folder}/tokens.csv", "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
        ],
    }  # fmt: skip
    config = folder / "config"
    cluster = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    config.write_text(yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}], "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }))  # fmt: skip
    one = KubeServer(config=config)
    with ExitStack() as stack:
        for program, words in commands.items():
            sink = stack.enter_context(open(folder / f"{program}.log", "wb"))
            child = subprocess.Popen([program, *words], stdout=sink, stderr=sink)
            stack.callback(child.wait, 30)
            stack.callback(child.kill)
        eventually(
            lambda: one.kubectl("get", "--raw=/readyz").returncode == 0, limit_s=READY_S,
            told=lambda: "\n".join((folder / f"{name}.log").read_text(errors="replace")[-1500:] for name in commands),
        )  # fmt: skip
        defined = one.kubectl("create", "-f", "-", text=yaml.safe_dump_all(definitions()))
        assert defined.returncode == 0, defined.stderr
        names = [f"crd/{definition['metadata']['name']}" for definition in definitions()]
        words = ("wait", "--for=condition=Established", "--timeout=60s", *names)
        eventually(lambda: one.kubectl(*words).returncode == 0)  # it fails where there is no condition yet
        yield one
