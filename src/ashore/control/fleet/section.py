"""`[fleet]`: engine nodes that come and go."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Self

from msgspec import Meta

from ashore.core.addresses import split_url
from ashore.core.errors import InvalidSpec, PermissionDenied
from ashore.core.foreign import foreign_errors
from ashore.core.nearest import did_you_mean
from ashore.kit.egress import LOOPBACK, check_url, entry_for, is_inside, parse_allow
from ashore.kit.section import Section, toml

CHAT_PREFIX: Final = "chat:"
"""Names of models begin with it whose servers take text (`data/engines/textonly`)."""
NODE_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"


class NodeSection(Section, frozen=True, kw_only=True):
    """An engine node that is there from the start: a server that takes token ids, or text for models
    named `chat:…`. Others come with `ashore fleet join`, which says the same."""

    node: Annotated[str, Meta(pattern=NODE_NAME, examples=['"gpu-1"'])]
    """Name of the node, for people. One node may serve several models."""
    address: Annotated[str, Meta(examples=['"http://10.0.0.2:8000"'])]
    """Its address without /v1. `networks` or `[egress] allow` must list its host, unless it is this machine."""
    model: Annotated[str, Meta(min_length=1, examples=['"chat"'])]
    """Alias of the model that it serves. Its [[model]] has [model.engine] fleet = true."""

    def checked(self, where: str) -> Self:
        if not self.address.startswith(("http://", "https://")) or len(self.address.split()) != 1:
            raise InvalidSpec(
                f"{where} address = {self.address!r}; expected http:// or https://",
                hint="write http://HOST:PORT without /v1",
            )
        return self


class FleetSection(Section, frozen=True, kw_only=True):
    """Engine nodes: servers of other machines, or of this one, that compute for models with `fleet = true`."""

    nodes: Annotated[tuple[NodeSection, ...], toml("node"), Meta(max_length=1024)] = ()
    networks: tuple[str, ...] = ()
    """Networks of nodes, such as `10.0.0.0/24`. Only their addresses may join, and host names that `[egress] allow`
    lists."""

    def checked(self, where: str) -> Self:
        for text in self.networks:
            with foreign_errors(f"{where} networks has {text!r}", InvalidSpec, hint='write "10.0.0.0/24"'):
                ipaddress.ip_network(text)
        return self

    def fits(self, others: Mapping[str, Any], where: str) -> None:
        served = [one.alias or one.name for one in others["model"] if one.engine.fleet]
        for one in self.nodes if others["model"] else ():
            if one.model not in served:
                raise InvalidSpec(
                    f"{where} [[fleet.node]] {one.node!r} serves {one.model!r}, which is no model with fleet = true",
                    hint=did_you_mean(one.model, served) if served else "add fleet = true to its [model.engine]",
                )
        texts = {one.alias or one.name: one.engine.key for one in others["model"] if one.name.startswith(CHAT_PREFIX)}
        for one in self.nodes:
            if one.model in texts:
                self._check_text(one, texts[one.model], others["egress"].allow, f"{where} [[fleet.node]] {one.node!r}")

    def _check_text(self, one: NodeSection, key: str, allow: Sequence[str], where: str) -> None:
        """Check that prompts leave the operator's networks over TLS alone, to a server that asks for a key."""
        if self.networks_of(split_url(one.address).hostname or ""):
            return
        try:
            entry = entry_for(check_url(one.address, parse_allow([*LOOPBACK, *allow])))
        except PermissionDenied:
            return  # refused with every other address that may not be called
        if is_inside(entry):
            return
        if not one.address.startswith("https://"):
            raise InvalidSpec(
                f"{where} sends prompts to {one.address}, outside of your networks, without TLS",
                hint="write https://; for a server of your own, list its network in [fleet] networks",
            )
        if not key:
            raise InvalidSpec(
                f"{where} sends prompts to {one.address}, outside of your networks, without a key",
                hint='set key = "env:NAME" or "file:PATH" in [model.engine]',
            )

    @property
    def calls(self) -> Mapping[str, str]:
        known = [one for one in self.nodes if not self.networks_of(split_url(one.address).hostname or "")]
        return {f"node {one.node!r}": one.address for one in known}

    def networks_of(self, host: str) -> tuple[str, ...]:
        """Return the networks that an address is in; none for a name."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return ()
        return tuple(text for text in self.networks if address in ipaddress.ip_network(text))
