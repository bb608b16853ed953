"""`[scim]`: an identity provider that pushes people and groups."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

from msgspec import Meta, field

from ashore.core.errors import InvalidRequest, InvalidSpec
from ashore.data.authority import check_name
from ashore.kit.section import Section

_ISSUER: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")


class ScimSection(Section, frozen=True, kw_only=True):
    """SCIM 2.0 under `/scim/v2`, for Entra ID, Okta and others. They show a key with the role `provisioner`."""

    enabled: bool = False
    """Answer under `/scim/v2`."""
    issuer: Annotated[str, Meta(examples=['"corp"'])] = ""
    """Accounts are ISSUER:USERNAME: the name of the `[[access.issuer]]` whose tokens these people have."""
    map: dict[str, Annotated[str, Meta(min_length=1, max_length=300)]] = field(default_factory=dict)
    """Groups here, each with the `displayName` of a group there: `ml = "ML Engineers"`. Others are kept, and count for
    nothing."""

    def checked(self, where: str) -> Self:
        if self.enabled and not _ISSUER.fullmatch(self.issuer):
            raise InvalidSpec(f"{where} issuer = {self.issuer!r}", hint="use the name of an [[access.issuer]]")
        try:
            for name in self.map:
                check_name(name, "group")
        except InvalidRequest as fault:
            raise InvalidSpec(f"{where} [scim.map]: {fault.message}", hint=fault.hint) from fault
        return self

    def fits(self, others: Mapping[str, Any], where: str) -> None:
        if self.enabled and others["directory"].named(self.issuer) is not None:
            raise InvalidSpec(
                f"{where} has SCIM and a directory for the same people, {self.issuer!r}",
                hint="let one of them follow an issuer",
            )
