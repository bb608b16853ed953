"""`[[directory]]`: LDAP and Active Directory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

from msgspec import Meta, field
from msgspec.structs import replace

from ashore.core.errors import InvalidRequest, InvalidSpec
from ashore.data.authority import check_name
from ashore.kit.section import AFile, Section

NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
"""As of an `[[access.issuer]]`: accounts are NAME:LOGIN."""
Kind = Literal["ad", "openldap", "389ds"]
Dn = Annotated[str, Meta(min_length=1, max_length=1000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """How a kind of directory calls what is read of it."""

    guid: str
    login: str
    person: tuple[tuple[str, str], ...]
    """Attributes with values that every person has."""
    groups: tuple[str, ...]
    """Classes of groups, of which a group has one."""


NAMES: Final[Mapping[Kind, Names]] = {
    "ad": Names(
        guid="objectGUID", login="sAMAccountName", groups=("group",),
        person=(("objectCategory", "person"), ("objectClass", "user")),
    ),
    "openldap": Names(
        guid="entryUUID", login="uid", groups=("groupOfNames", "groupOfUniqueNames"),
        person=(("objectClass", "inetOrgPerson"),),
    ),
    "389ds": Names(
        guid="nsUniqueId", login="uid", groups=("groupOfNames", "groupOfUniqueNames"),
        person=(("objectClass", "inetOrgPerson"),),
    ),
}  # fmt: skip


class DirectorySection(Section, frozen=True, kw_only=True):
    """A directory, LDAP or Active Directory, whose people and groups ashore follows. One for each domain."""

    name: Annotated[str, Meta(examples=['"corp"'])]
    """Accounts are NAME:LOGIN. An `[[access.issuer]]` of the same name is of the same people."""
    kind: Annotated[Kind, Meta(examples=['"ad"'])]
    """What the directory is: `ad` (Active Directory, Samba), `openldap` or `389ds` (also FreeIPA)."""
    urls: Annotated[tuple[str, ...], Meta(min_length=1, max_length=8, examples=['["ldaps://dc1.corp.example"]'])]
    """Servers of the directory, tried in this order: `ldaps://HOST`, or `ldap://HOST`, which is used with StartTLS
    alone. Hosts must be in `[egress] allow`, as `HOST:636@NETWORK` where their addresses are private."""
    ca_file: AFile = ""
    """PEM file with the authorities that sign the servers' certificates; empty: those of the system."""
    bind_dn: Annotated[Dn, Meta(examples=['"CN=ashore,OU=Services,DC=corp,DC=example"'])]
    """The account that reads the directory. It needs no right to write."""
    bind_password: Annotated[str, Meta(min_length=1, examples=['{ from_file = "/run/secrets/ldap" }'])]
    """Its password, better as `{ from_file = "…" }`."""
    people: Annotated[Dn, Meta(examples=['"OU=People,DC=corp,DC=example"'])]
    """Where people are, at any depth below."""
    groups: Annotated[Dn, Meta(examples=['"OU=Groups,DC=corp,DC=example"'])]
    """Where groups are, at any depth below: the mapped ones, and those in them."""
    login: str = ""
    """Attribute with the name that people type; empty: `sAMAccountName` or `uid`."""
    disabled: Annotated[str, Meta(examples=['"employeeType=left"'])] = ""
    """ATTRIBUTE=VALUE of people who are disabled, beside what the kind of directory says itself."""
    tenant: str = "default"
    """Tenant of the accounts."""
    every_s: Annotated[float, Meta(ge=5, le=86_400)] = 30.0
    """Between two looks at what changed of the people and groups that ashore knows."""
    whole_every_s: Annotated[float, Meta(ge=60, le=366 * 86_400)] = 3600.0
    """Between two whole syncs where no look found a change."""
    most_gone: Annotated[float, Meta(ge=0, le=1)] = 0.05
    """Largest share of the people that one sync disables. With more, it changes nothing; `ashore directory sync
    --even-so` then does it. A few people may always go."""
    log_in: bool = True
    """Let people log in to the console with the password of the directory."""
    map: dict[str, Dn] = field(default_factory=dict)
    """Groups here, each with the distinguished name of a group there, `ml = "CN=ML,OU=Groups,DC=corp,DC=example"`. It
    is resolved once. People in any of them, at any depth, get an account; nobody else does."""

    def checked(self, where: str) -> Self:
        if not NAME.fullmatch(self.name):
            raise InvalidSpec(
                f"{where} name = {self.name!r}", hint="use lower-case letters, digits and -, at most 32 characters"
            )
        for url in self.urls:
            parts = urlsplit(url)
            if parts.scheme not in ("ldap", "ldaps") or not parts.hostname or parts.path.strip("/"):
                raise InvalidSpec(f"{where} urls has {url!r}", hint="write ldaps://HOST, or ldap://HOST for StartTLS")
        if self.disabled and not all(self.disabled.partition("=")):
            raise InvalidSpec(f"{where} disabled = {self.disabled!r}", hint="write ATTRIBUTE=VALUE")
        try:
            for name in self.map:
                check_name(name, "group")
        except InvalidRequest as fault:
            raise InvalidSpec(f"{where} [directory.map]: {fault.message}", hint=fault.hint) from fault
        return self

    @property
    def names(self) -> Names:
        """How the directory calls what is read of it."""
        return NAMES[self.kind]

    @property
    def login_attribute(self) -> str:
        return self.login or self.names.login


class DirectoriesSection(Section, frozen=True, kw_only=True):
    """Every `[[directory]]`."""

    TABLES: ClassVar[str] = "all"
    all: tuple[DirectorySection, ...] = ()

    def checked(self, where: str) -> Self:
        names = [one.name for one in self.all]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise InvalidSpec(f"{where} has two directories of the name {twice!r}", hint="give each its own")
        return self

    def beside(self, folder: Path) -> Self:
        each = (
            replace(one, ca_file=str(folder / Path(one.ca_file).expanduser())) if one.ca_file else one
            for one in self.all
        )
        return replace(self, all=tuple(each))

    @property
    def calls(self) -> Mapping[str, str]:
        return {f"{one.name!r} {url}": url for one in self.all for url in one.urls}

    def named(self, name: str) -> DirectorySection | None:
        """Return one directory."""
        return next((one for one in self.all if one.name == name), None)
