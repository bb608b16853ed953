"""The certificate that ashore makes: who trusts it, who may read its key, when it is made again."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ashore.core.errors import InvalidSpec
from ashore.machine.edge import (
    CertificateFacts,
    EdgeSection,
    keep_certificate,
    keep_tls,
    names_for,
    needs_renewal,
    remove_other_keys,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("names", "days_left", "why"),
    [
        (("a",), 60, ""),
        (("a", "b"), 60, "it does not name b"),
        (("a",), 29, "it ends on"),
        (("a",), -1, "it ends on"),
    ],
)
def test_when_a_certificate_is_replaced(names: tuple[str, ...], days_left: int, why: str) -> None:
    facts = CertificateFacts(names=frozenset({"a"}), not_after=NOW + timedelta(days=days_left))
    told = needs_renewal(facts, names, NOW)
    assert told.startswith(why) and bool(told) == bool(why)


def test_it_is_made_once_renewed_in_time_and_stays_under_one_authority(tmp_path: Path) -> None:
    folder = tmp_path / "edge"
    first = keep_certificate(folder, ("localhost", "127.0.0.1"), NOW)
    assert first.made == "there was none"
    assert keep_certificate(folder, ("localhost", "127.0.0.1"), NOW).made == ""
    authority = first.authority_file.read_bytes()
    later = keep_certificate(folder, ("localhost", "127.0.0.1"), NOW + timedelta(days=70))
    assert later.made.startswith("it ends on") and later.chain_pem != first.chain_pem
    assert later.authority_file.read_bytes() == authority
    named = keep_certificate(folder, ("localhost", "models.example"), NOW)
    assert named.made == "it does not name models.example"
    assert len(list(folder.glob("edge-*.key"))) == 3, "whoever was told of an earlier one may read it still"
    remove_other_keys(named.key_file)
    assert [path.name for path in folder.glob("edge-*.key")] == [named.key_file.name], "old keys do not pile up"
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())


def test_python_takes_certificate_and_key_as_a_pair_and_trusts_the_authority(tmp_path: Path) -> None:
    made = keep_certificate(tmp_path, ("localhost",), datetime.now(UTC))
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "edge.pem", made.key_file)
    context = ssl.create_default_context(cafile=str(made.authority_file))
    assert len(context.get_ca_certs()) == 1


def test_a_lost_key_means_a_new_certificate(tmp_path: Path) -> None:
    made = keep_certificate(tmp_path, ("a",), NOW)
    made.key_file.unlink()
    assert keep_certificate(tmp_path, ("a",), NOW).made == "its key was gone"


class Cut(BaseException):
    """The process ends here."""


def cut_off(monkeypatch: pytest.MonkeyPatch, changes: int, work: Callable[[], object]) -> bool:
    """Do some work on files, but end it after so many of them were put in place or removed; return whether it ended."""
    left = changes
    replace, unlink = os.replace, Path.unlink

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def do(path: Path | str, *args: Any, **options: Any) -> Any:
            nonlocal left
            if Path(path).exists():
                if not left:
                    raise Cut
                left -= 1
            return change(path, *args, **options)

        return do

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", counted(replace))
        patched.setattr(Path, "unlink", counted(unlink))
        try:
            work()
        except Cut:
            return True
    return False


def make_none(folder: Path) -> None:
    return


def make_old(folder: Path) -> None:
    keep_certificate(folder, ("a",), NOW - timedelta(days=3640))
    keep_certificate(folder, ("a",), NOW - timedelta(days=40))


def lose_key(folder: Path) -> None:
    keep_certificate(folder, ("a",), NOW)
    (folder / "ca.key").unlink()


def lose_authority(folder: Path) -> None:
    keep_certificate(folder, ("a",), NOW)
    (folder / "ca.pem").unlink()


@pytest.mark.parametrize("before", [make_none, make_old, lose_key, lose_authority])
def test_wherever_making_is_cut_off_the_next_time_everything_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: Callable[[Path], None]
) -> None:
    for changes in range(20):
        folder = tmp_path / str(changes)
        before(folder)
        if not cut_off(monkeypatch, changes, lambda: keep_certificate(folder, ("a",), NOW)):  # noqa: B023 - called here
            break
        made = keep_certificate(folder, ("a",), NOW)
        leaf = x509.load_pem_x509_certificate(made.chain_pem.encode())
        authority = x509.load_pem_x509_certificate(made.authority_file.read_bytes())
        leaf.verify_directly_issued_by(authority)
        for certificate, key in ((leaf, made.key_file), (authority, folder / "ca.key")):
            private = load_pem_private_key(key.read_bytes(), None)
            assert private.public_key() == certificate.public_key()
        assert authority.not_valid_after_utc > NOW + timedelta(days=100)
        assert keep_certificate(folder, ("a",), NOW).made == ""
    assert changes >= 4, "it was cut off everywhere"


def test_a_key_of_the_authority_that_is_none_is_named_and_stays(tmp_path: Path) -> None:
    keep_certificate(tmp_path, ("a",), NOW)
    (tmp_path / "ca.key").write_text("mine")
    with pytest.raises(InvalidSpec, match=r"ca\.key, cannot be read"):
        keep_certificate(tmp_path, ("a",), NOW)
    assert (tmp_path / "ca.key").read_text() == "mine"


def test_names_cover_this_machine_and_what_the_operator_adds() -> None:
    names = names_for("10.1.2.3", ("models.example",))
    assert {"localhost", "127.0.0.1", "::1", "10.1.2.3", "models.example"} <= set(names)
    assert "0.0.0.0" not in names_for("0.0.0.0", ())


def test_files_of_the_operator_are_checked(tmp_path: Path) -> None:
    ours = keep_certificate(tmp_path / "ours", ("a",), NOW)
    other = keep_certificate(tmp_path / "other", ("a",), NOW)
    chain = str(tmp_path / "ours" / "edge.pem")
    spec = EdgeSection(tls="files", certificate=chain, key=str(ours.key_file))
    tls, _ = keep_tls(spec, tmp_path, now_s=NOW.timestamp())
    assert tls is not None and tls.certificate_pem == ours.chain_pem
    cases = {
        "does not match": EdgeSection(tls="files", certificate=chain, key=str(other.key_file)),
        "cannot be read": EdgeSection(tls="files", certificate=chain, key=chain),
        "No such file": EdgeSection(tls="files", certificate=chain, key=str(tmp_path / "absent")),
    }
    for words, wrong in cases.items():
        with pytest.raises(InvalidSpec, match=words):
            keep_tls(wrong, tmp_path, now_s=NOW.timestamp())
    with pytest.raises(InvalidSpec, match="ended on"):
        keep_tls(spec, tmp_path, now_s=(NOW + timedelta(days=91)).timestamp())
