"""The forms by their names.

The Containerfile of ashore's image, for any builder of OCI images; no docker daemon is needed. Pure.

The context is a stick as `make bundle` writes it: its tar is ashore with its own Python and C library, so the base
needs a shell alone. Two builds from the same base and tar have one digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ashore.core.errors import InvalidSpec
from ashore.kit.yaml import write_yaml
from ashore.machine.deployment.forms.compose import compose_files
from ashore.machine.deployment.forms.description import CONFIGURATION, HOME, MADE, UID, Description
from ashore.machine.deployment.forms.helm import helm_files
from ashore.machine.deployment.forms.kubernetes import kubernetes_objects
from ashore.machine.deployment.forms.places import Places
from ashore.machine.deployment.forms.quadlet import quadlet_files
from ashore.machine.deployment.forms.secrets import refuse_leaks

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One way to deploy."""

    files: Callable[[Description], Mapping[str, str]]


def kubernetes_files(deployed: Description) -> dict[str, str]:
    """Return the objects as files that `kubectl apply -f FOLDER` reads in their order."""
    secrets = "".join(f" \\\n    --from-file={deployed.secret_key(one)}=FILE" for one in deployed.secrets)
    name = deployed.places.secrets.name or deployed.name
    namespace = deployed.places.kubernetes.namespace
    create = f"\nIts Secret, once:\n  kubectl -n {namespace} create secret generic {name}{secrets}" if secrets else ""
    return {
        group.file: f"# {MADE}{_comment(deployed.about_cards)}{_comment(create if number == 0 else '')}\n"
        + "".join(f"---\n{write_yaml(one)}" for one in group.objects)
        for number, group in enumerate(kubernetes_objects(deployed))
    }


def _comment(text: str) -> str:
    return "".join(f"\n# {line}".rstrip() for line in text.strip("\n").splitlines())


def bundle_files(deployed: Description) -> dict[str, str]:
    """Return every form that can express the deployment, each in its folder, with the limits of the others, and
    checksums.
    """
    files: dict[str, str] = {}
    refused = []
    for name, form in FORMS.items():
        if name == "bundle":
            continue
        try:
            files |= {f"{name}/{path}": text for path, text in form.files(deployed).items()}
        except InvalidSpec as fault:
            refused.append(f"{name}: {fault.message}; {fault.hint}")
    if not any(path.startswith(("compose/", "k8s/")) for path in files):
        raise InvalidSpec(f"no form can say what is asked: {'; '.join(refused)}", hint="change places.toml as it says")
    files["README"] = _readme(deployed, refused)
    sums = [f"{hashlib.sha256(text.encode()).hexdigest()}  {path}\n" for path, text in sorted(files.items())]
    return {**files, "SHA256SUMS": "".join(sums)}


def _readme(deployed: Description, refused: list[str]) -> str:
    lines = [
        MADE,
        "",
        f"Image {deployed.image}: build it by image/Containerfile in the directory of a stick, beside its tar.",
        "",
        *(f"{form}/   {what}" for form, what in HOW.items() if form not in {one.partition(":")[0] for one in refused}),
        *([""] if refused else []),
        *(f"not here: {one}" for one in refused),
        *([""] if deployed.secrets else []),
        *(f"secret {deployed.secret_key(one)}: {one.what}" for one in deployed.secrets),
        "",
        "Check what was copied: sha256sum --check SHA256SUMS",
    ]
    return "\n".join(lines) + "\n"


HOW: Final = MappingProxyType(
    {
        "compose": "docker compose up -d, or podman-compose up -d",
        "quadlet": "copy into /etc/containers/systemd, then systemctl daemon-reload",
        "k8s": "kubectl apply -f k8s/",
        "helm": "helm install NAME helm/ --namespace NAMESPACE",
    }
)
FORMS: Final[Mapping[str, Form]] = MappingProxyType(
    {
        "image": Form(files=image_files),
        "compose": Form(files=compose_files),
        "quadlet": Form(files=quadlet_files),
        "k8s": Form(files=kubernetes_files),
        "helm": Form(files=helm_files),
        "bundle": Form(files=bundle_files),
    }
)


def render_form(name: str, deployed: Description) -> dict[str, str]:
    """Return the text of each file of a form, by its path.

    Raises:
        InvalidSpec: the form cannot express the deployment.
        Bug: a file would contain a secret.
    """
    files = dict(FORMS[name].files(deployed))
    refuse_leaks(files.values(), deployed.values)
    return files
