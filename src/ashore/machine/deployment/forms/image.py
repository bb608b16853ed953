"""The Containerfile of ashore's image, for any builder of OCI images; no docker daemon is needed. Pure.

The context is a stick as `make bundle` writes it: its tar is ashore with its own Python and C library, so the base
needs a shell alone. Two builds from the same base and tar have one digest.
"""

from __future__ import annotations

from typing import Final

from ashore.machine.deployment.forms.description import CONFIGURATION, HOME, MADE, UID, Description
from ashore.machine.deployment.forms.places import Places

PLAIN_BASE: Final = "docker.io/library/debian:13-slim"
PREFIX: Final = "/opt/ashore"
TAR: Final = "ashore-*-linux-*.tar.gz"


def containerfile(places: Places, arguments: tuple[str, ...]) -> str:
    """Return the Containerfile for the accelerator that places.toml names."""
    cuda = places.image.accelerator == "cuda"
    base = places.image.base or (places.image.vllm if cuda else "") or ("" if cuda else PLAIN_BASE)
    default = f"ARG BASE={base}" if base else "ARG BASE"
    why = (
        "# vLLM's image, with its Python and its CUDA; ashore has a Python of its own beside it."
        if cuda
        else "# Any image with sh, mkdir, chown and readlink."
    )
    command = ", ".join(f'"{word}"' for word in arguments)
    return f"""\
# {MADE} Build it in the directory of a stick, which `make bundle` writes:
#   buildah build --timestamp 0 -f Containerfile -t {places.image.reference} FOLDER
# The same base and tar give the same digest. Without user namespaces: BUILDAH_ISOLATION=chroot.
{why}
{default}
FROM ${{BASE}}
USER 0
ADD {TAR} {PREFIX.rpartition("/")[0]}/
RUN mkdir -p {HOME} {CONFIGURATION.rpartition("/")[0]}; chown {UID}:{UID} {HOME}; chmod 0700 {HOME}
ENV PATH={PREFIX}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
    ASHORE_HOME={HOME}
USER {UID}:{UID}
WORKDIR {HOME}
STOPSIGNAL SIGTERM
ENTRYPOINT ["{PREFIX}/bin/ashore"]
CMD [{command}]
"""


def image_files(deployed: Description) -> dict[str, str]:
    """Return the Containerfile, and what a builder leaves out of its context."""
    ignored = f"# {MADE}\n*\n!{TAR}\n"
    return {"Containerfile": containerfile(deployed.places, deployed.arguments), ".containerignore": ignored}
