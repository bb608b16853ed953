"""The Containerfile of ashore's image, for any builder of OCI images; no docker daemon is needed. Pure.

The context is a folder with `wheels/`: that of an unpacked bundle, or of `pip wheel`. Two builds from the same base and
wheels have one digest: nothing in a layer depends on the time, on the order of work or on a random seed.
"""

from __future__ import annotations

from typing import Final

from ashore.machine.deployment.forms.description import CONFIGURATION, HOME, MADE, UID, Description
from ashore.machine.deployment.forms.places import Places

PYTHON_BASE: Final = "docker.io/library/python:3.13-slim"
PREFIX: Final = "/opt/ashore"

_INSTALL: Final = rf"""RUN --mount=type=bind,source=wheels,target=/wheels \
    set -eu; umask 022; export PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1; \
    python3 -m venv {PREFIX}; \
    {PREFIX}/bin/python -m pip install --disable-pip-version-check --no-cache-dir --quiet --no-compile \
        --no-index --no-deps /wheels/*.whl; \
    {PREFIX}/bin/python -m pip uninstall --disable-pip-version-check --yes --quiet pip; \
    find {PREFIX} -depth -type d -name __pycache__ -exec rm -rf '{{}}' ';'; \
    {PREFIX}/bin/python -m compileall -q -j1 --invalidation-mode unchecked-hash {PREFIX} || true; \
    mkdir -p {HOME} {CONFIGURATION.rpartition("/")[0]}; chown {UID}:{UID} {HOME}; chmod 0700 {HOME}"""


def containerfile(places: Places, arguments: tuple[str, ...]) -> str:
    """Return the Containerfile for the accelerator that places.toml names."""
    cuda = places.image.accelerator == "cuda"
    base = places.image.base or (places.image.vllm if cuda else "") or ("" if cuda else PYTHON_BASE)
    default = f"ARG BASE={base}" if base else "ARG BASE"
    why = (
        "# vLLM's image, with its Python and its CUDA; ashore has an environment of its own beside it."
        if cuda
        else "# Any image with Python as in the file PYTHON of the bundle, and its venv module."
    )
    command = ", ".join(f'"{word}"' for word in arguments)
    return f"""\
# {MADE} Build it in a folder with wheels/, such as an unpacked bundle:
#   buildah build --timestamp 0 -f Containerfile -t {places.image.reference} FOLDER
# The same base and wheels give the same digest. Without user namespaces: BUILDAH_ISOLATION=chroot.
{why}
{default}
FROM ${{BASE}}
USER 0
# Bytecode is made here: the container may write none, and without it every start compiles everything. Its check is by
# no time: `unchecked-hash`. Files that no Python can compile, such as templates, are left out.
{_INSTALL}
ENV PATH={PREFIX}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
    ASHORE_HOME={HOME} PYTHONDONTWRITEBYTECODE=1
USER {UID}:{UID}
WORKDIR {HOME}
STOPSIGNAL SIGTERM
ENTRYPOINT ["{PREFIX}/bin/ashore"]
CMD [{command}]
"""


def image_files(deployed: Description) -> dict[str, str]:
    """Return the Containerfile, and what a builder leaves out of its context."""
    ignored = f"# {MADE}\n*\n!wheels/*.whl\n"
    return {"Containerfile": containerfile(deployed.places, deployed.arguments), ".containerignore": ignored}
