"""`[[directory]]`: what is read of it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashore.control.directory import DirectoriesSection
from ashore.core.errors import InvalidSpec
from ashore.machine.config import parse_spec, read_spec

GOOD = """
[egress]
allow = ["dc1.corp.example", "dc2.corp.example:389@10.0.0.0/8"]
[[directory]]
name = "corp"
kind = "ad"
urls = ["ldaps://dc1.corp.example", "ldap://dc2.corp.example"]
ca_file = "ca.pem"
bind_dn = "CN=ashore,DC=corp,DC=example"
bind_password = "x"
people = "DC=corp,DC=example"
groups = "DC=corp,DC=example"
every_s = "45s"
[directory.map]
ml = "CN=ML,DC=corp,DC=example"
"""


def test_a_directory_is_read(tmp_path: Path) -> None:
    (tmp_path / "ashore.toml").write_text(GOOD)
    section = read_spec(tmp_path / "ashore.toml").section("directory", DirectoriesSection)
    one = section.named("corp")
    assert one is not None and one.every_s == 45 and one.map == {"ml": "CN=ML,DC=corp,DC=example"}
    assert one.ca_file == str(tmp_path / "ca.pem") and one.login_attribute == "sAMAccountName"
    assert parse_spec("").section("directory", DirectoriesSection).all == ()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"corp"', '"Corp"', "name = 'Corp'"),
        ('"ldaps://dc1.corp.example", ', '"https://dc1.corp.example", ', "urls has 'https://dc1"),
        ('"ldaps://dc1.corp.example", ', '"ldaps://dc9.corp.example", ', "may not call"),
        ('kind = "ad"', 'kind = "nis"', "kind = 'nis'"),
        ("ml =", '"m l" =', "not a valid name for a group"),
        ('"45s"', '"1s"', "at least 5|5 to"),
        ('bind_password = "x"', 'bind_password = ""', "bind_password"),
        ('kind = "ad"', 'kind = "ad"\ndisabled = "left"', "disabled = 'left'"),
        ("[[directory]]", "[directory]", "is not a list of tables"),
        ("[egress]", "[[directory]]\n" + GOOD.partition("[[directory]]\n")[2] + "[egress]", "two directories"),
    ],
)
def test_what_is_refused(old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(InvalidSpec, match=says):
        parse_spec(GOOD.replace(old, new))
