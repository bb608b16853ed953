"""The image: built twice without a daemon, run locked down, by itself and by every form for containers.

Slow, and needs programs of Debian: run by `make test-image`, which names those that are missing. It prints its figures.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from deploy_recipes import RECIPES
from oci_rig import Rig, missing, wait_ready

from ashore.cli.main import main
from ashore.machine.deployment.forms.description import UID

PROJECT = Path(__file__).parents[2]
pytestmark = [pytest.mark.full, pytest.mark.model, pytest.mark.timeout(1800)]
MOST_ARCHIVE_BYTES = 400_000_000
IMAGE = "localhost/ashore:test"
LOCKED = ("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp")


def show(figure: str) -> None:
    print(f"\n[image] {figure}", file=sys.__stderr__, flush=True)


@pytest.fixture(scope="module")
def cache() -> Path:
    folder = Path(os.environ.get("ASHORE_TEST_CACHE") or PROJECT / ".cache/test") / "image"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    if why := missing():
        pytest.skip(why)
    made = Rig(tmp_path_factory.mktemp("oci"))
    yield made
    made.podman("rm", "--all", "--force", "--time", "0")
    subprocess.run(["umount", "-R", "-l", str(made.folder / "graph/overlay")], capture_output=True, check=False)
    shutil.rmtree(made.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def context(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that an image is built in: a stick."""
    words = ["--home", str(demo_home), "--output", str(tmp_path_factory.mktemp("context"))]
    made = subprocess.run(
        [sys.executable, "-m", "deploy.bundle.make_bundle", *words], cwd=PROJECT, stdout=subprocess.PIPE, text=True,
        check=True, timeout=1200,
    )  # fmt: skip
    return Path(made.stdout.strip())


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> tuple[Path, Path, int]:
    """ashore.toml, places.toml and the port."""
    folder, port = tmp_path_factory.mktemp("spec"), free_port()
    (folder / "ashore.toml").write_text(
        f'[[model]]\nname = "smollm2"\nalias = "chat"\n[http]\nport = {port}\n[grpc]\nport = 0\n'
    )
    (folder / "places.toml").write_text(f'[image]\nreference = "{IMAGE}"\npull = "Never"\n[server]\nmemory = "3GiB"\n')
    return folder / "ashore.toml", folder / "places.toml", port


def render(form: str, spec: tuple[Path, Path, int], out: Path) -> Path:
    words = ["--config", str(spec[0]), "--places", str(spec[1]), "--out", str(out)]
    assert main(["deploy", "render", form, *words]) == 0
    return out


@pytest.fixture(scope="module")
def digest(
    rig: Rig, context: Path, cache: Path, places: tuple[Path, Path, int], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The image, built; its digest."""
    file = render("image", places, tmp_path_factory.mktemp("image")) / "Containerfile"
    base = rig.base(cache / "base.tar")
    build = ["build", "--quiet", "--timestamp", "0", "--no-cache", "--network", "none", "--build-arg", f"BASE={base}"]
    digests = []
    for tag in (IMAGE, IMAGE + "-again"):
        began = time.monotonic()
        rig.build(*build, "--file", str(file), "--tag", tag, str(context))
        show(f"built in {time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f}")
        digests.append(rig.build("inspect", "--type", "image", "--format", "{{.FromImageDigest}}", tag).strip())
    assert digests[0] == digests[1] and digests[0].startswith("sha256:")
    return digests[0]


@pytest.fixture(scope="module")
def home(rig: Rig, digest: str, demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the model, which the image itself imported."""
    folder, tars = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("tars")
    os.chown(folder, UID, UID)
    for path in (folder.parent, folder, tars):
        path.chmod(0o755)
    for name in ("smollm2", "smollm2@int8"):
        ashore = [str(Path(sys.executable).with_name("ashore")), "model", "export", name, str(tars / f"{name}.tar")]
        subprocess.run(ashore, env={**os.environ, "ASHORE_HOME": str(demo_home)}, check=True, capture_output=True)
        (tars / f"{name}.tar").chmod(0o644)
        mounts = ["-v", f"{folder}:/var/lib/ashore", "-v", f"{tars}:/in:ro"]
        rig.podman("run", "--rm", "--network", "none", *LOCKED, *mounts, IMAGE, "model", "import", f"/in/{name}.tar")
    return folder


def ask(port: int, home: Path) -> str:
    question = {"role": "user", "content": "Name the capital of France in a full sentence."}
    body = json.dumps({"model": "chat", "messages": [question], "temperature": 0, "max_tokens": 24}).encode()
    headers = {"authorization": f"Bearer {(home / 'first-key').read_text().strip()}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return str(json.load(answer)["choices"][0]["message"]["content"])


def test_two_builds_have_one_digest_and_the_archive_is_small(rig: Rig, digest: str, tmp_path: Path) -> None:
    archive = tmp_path / "ashore.tar"
    rig.build("push", "--quiet", IMAGE, f"oci-archive:{archive}:{IMAGE}")
    show(f"digest {digest}, archive {archive.stat().st_size / 1e6:.0f} MB")
    assert archive.stat().st_size <= MOST_ARCHIVE_BYTES


def test_it_answers_read_only_as_nobody_with_no_capability_and_stops_cleanly(
    rig: Rig, home: Path, places: tuple[Path, Path, int], tmp_path: Path
) -> None:
    config = render("compose", places, tmp_path / "c") / "ashore.toml"
    mounts = ["-v", f"{home}:/var/lib/ashore", "-v", f"{config}:/etc/ashore/ashore.toml:ro"]
    rig.podman("run", "--detach", "--name", "alone", "--network", "host", *LOCKED, *mounts, IMAGE)
    ready_s = wait_ready(places[2], at_most_s=120, logs=lambda: rig.podman("logs", "alone"))
    status = rig.podman("exec", "alone", "cat", "/proc/1/status")
    assert f"Uid:\t{UID}\t{UID}\t{UID}\t{UID}" in status and "CapEff:\t0000000000000000" in status
    assert "Paris" in ask(places[2], home)
    began = time.monotonic()
    rig.podman("stop", "--time", "90", "alone")
    show(f"ready in {ready_s:.1f} s, stopped in {time.monotonic() - began:.1f} s, load {os.getloadavg()[0]:.1f}")
    assert rig.podman("inspect", "--format", "{{.State.ExitCode}}", "alone").strip() == "0"
    rig.podman("rm", "alone")


def test_the_compose_file_starts_it(rig: Rig, home: Path, places: tuple[Path, Path, int], tmp_path: Path) -> None:
    folder = render("compose", places, tmp_path / "c")
    file = folder / "compose.yaml"
    document = yaml.safe_load(file.read_text())
    (server,) = document["services"].values()
    server["volumes"][0] = f"{home}:/var/lib/ashore"
    # Rules of a bridge would stay in the kernel of this machine when a test dies.
    del server["networks"], server["ports"], document["networks"]
    server["network_mode"] = "host"
    file.write_text(yaml.safe_dump(document))
    rig.podman("up", "--detach", program="podman-compose", cwd=folder)
    try:
        wait_ready(places[2], at_most_s=120, logs=lambda: rig.podman("logs", "ashore_ashore_1"))
        assert "Paris" in ask(places[2], home)
    finally:
        rig.podman("down", program="podman-compose", cwd=folder)


def test_podman_plays_the_pod_of_the_stateful_set(
    rig: Rig, home: Path, places: tuple[Path, Path, int], tmp_path: Path
) -> None:
    """podman knows no StatefulSet: its template is played as a pod, with a folder for the claim of the home."""
    folder = render("k8s", places, tmp_path / "k")
    trees = [one for path in sorted(folder.iterdir()) for one in yaml.safe_load_all(path.read_text()) if one]
    (config,) = (one for one in trees if one["kind"] == "ConfigMap")
    (server,) = (one for one in trees if one["kind"] == "StatefulSet")
    pod = {"apiVersion": "v1", "kind": "Pod", **server["spec"]["template"]}
    pod["metadata"]["name"] = "ashore"
    pod["spec"]["hostNetwork"] = True
    pod["spec"]["volumes"].append({"name": "home", "hostPath": {"path": str(home), "type": "Directory"}})
    played = tmp_path / "play.yaml"
    played.write_text(yaml.safe_dump_all([config, pod]))
    rig.podman("kube", "play", str(played))
    try:
        wait_ready(places[2], at_most_s=120, logs=lambda: rig.podman("logs", "ashore-ashore"))
        assert "Paris" in ask(places[2], home)
    finally:
        rig.podman("kube", "down", str(played))


def test_podman_makes_services_of_the_quadlet_units(rig: Rig, places: tuple[Path, Path, int], tmp_path: Path) -> None:
    places_of_it = map(Path, ("/usr/libexec/podman/quadlet", "/usr/lib/podman/quadlet"))
    generator = next((one for one in places_of_it if one.is_file()), None)
    if generator is None:
        pytest.skip("podman's quadlet generator is not installed")
    recipe = RECIPES["vllm"]
    (tmp_path / "ashore.toml").write_text(recipe.config.replace("replicas = 2\n", ""))
    (tmp_path / "places.toml").write_text(recipe.places.replace('claim = "models"', 'host = "/srv/models"'))
    folder = render("quadlet", (tmp_path / "ashore.toml", tmp_path / "places.toml", 0), tmp_path / "q")
    made = subprocess.run(
        [str(generator), "-dryrun"],
        env={**os.environ, "QUADLET_UNIT_DIRS": str(folder)},
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    assert "unsupported key" not in made.stderr and "error" not in made.stderr.lower(), made.stderr
    for words in ("--read-only", "--cap-drop all", "--user 10001:10001", "VLLM_API_KEY", "--entrypoint vllm"):
        assert words in made.stdout, words
