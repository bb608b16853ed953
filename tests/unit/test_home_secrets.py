"""Secrets of a home: the keys of the audit and of kept prompts lie sealed, open where they must, and none is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from crash_steps import run_crashes

from ashore.cli.bootstrap import audit_opener, build_store, command_recorder, key_keeper, open_state, rekey
from ashore.cli.bootstrap.secrets import hold_home_secrets, list_home_secrets, seal_home_secrets, unseal_home_secrets
from ashore.control.audit import PRIVATE_KEYS, AuditService, verify_folder
from ashore.core.errors import CorruptBlob, InvalidRequest, SealingKeyMissing
from ashore.core.ids import TenantId
from ashore.core.principal import Principal
from ashore.data.audit import (
    PUBLIC_KEYS,
    AuditLink,
    Checkpoints,
    ContentSealer,
    Query,
    SqlSubjectKeys,
    digest_key,
    open_log,
    read_public_keys,
)
from ashore.kit.call import Actor
from ashore.kit.recorder import Act, MemoryRecorder
from ashore.kit.sealing import SecretFolder, opened_by_link
from ashore.kit.settings import Home, Settings
from ashore.kit.state import execute

ADA = Actor(principal=Principal(id="ada", tenant=TenantId("")))
CRASHES = Path(__file__).parents[1] / "support" / "secret_crashes.py"


def _settings(tmp_path: Path, *, key: bool = True, state: bool = True) -> Settings:
    home = Home(root=tmp_path / "home")
    home.create()
    return Settings(home=home, sealing_key=f"keyring:{tmp_path}/ring" if key else "", sealing_state=state)


def _begin(settings: Settings) -> tuple[bytes, bytes]:
    """Let a home sign once and keep a content key, in the clear; return digest key and content key."""
    Checkpoints(settings.home.audit, settings.home.audit_keys).make(1)
    state = open_state(settings)
    content = SqlSubjectKeys(state).current("ada").secret
    state.close()
    return digest_key(SecretFolder(settings.home.audit_keys)), content


def _forms(settings: Settings) -> dict[str, str]:
    return {one.place: one.form for one in list_home_secrets(settings) if one.form != "stays clear"}


def test_keys_of_the_audit_are_sealed_and_the_same_record_goes_on(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    home = settings.home
    digest, content = _begin(settings)
    pem = (home.audit_keys / "signing-key.pem").read_bytes()
    assert set(_forms(settings).values()) == {"clear"} and len(_forms(settings)) == 3

    dry = seal_home_secrets(settings, key_keeper(settings), dry_run=True)
    assert len(dry.changed) == 3 and set(_forms(settings).values()) == {"clear"} and not (tmp_path / "ring").exists()
    report = seal_home_secrets(settings, key_keeper(settings))
    assert report.changed == dry.changed and set(_forms(settings).values()) == {"sealed"}
    files = {path: path.read_bytes() for path in home.audit_keys.iterdir()}
    assert not any(pem.splitlines()[1] in data or digest.hex().encode() in data for data in files.values())
    assert content.hex().encode() not in home.state_db.read_bytes()
    assert seal_home_secrets(settings, key_keeper(settings)).changed == ()

    opener = audit_opener(home, key_keeper(settings))
    assert digest_key(SecretFolder(home.audit_keys, opener)) == digest
    checkpoints = Checkpoints(home.audit, home.audit_keys, opener)
    assert checkpoints.make(2, force=True) is not None
    checkpoints.rotate(3)
    assert set(_forms(settings).values()) == {"sealed"}, "a key that came later is sealed from the beginning"
    assert len(read_public_keys(home.audit_keys / PUBLIC_KEYS)) == 2
    assert checkpoints.make(4, force=True) is not None
    service = AuditService(home.audit, home.audit_keys, MemoryRecorder(), opener=opener)
    assert service.verify(ADA).ok
    service.export(tmp_path / "out", Query(), "jsonl", ADA)

    assert len(unseal_home_secrets(settings, key_keeper(settings)).changed) == 3
    assert set(_forms(settings).values()) == {"clear"}
    assert digest_key(SecretFolder(home.audit_keys)) == digest
    assert Checkpoints(home.audit, home.audit_keys).make(5, force=True) is not None
    assert service.verify(ADA).ok


def test_processes_of_the_supervisor_open_them_by_what_it_holds(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    digest, content = _begin(settings)
    held = hold_home_secrets(settings, key_keeper(settings))
    home = settings.home
    link = AuditLink(path=str(home.audit), keys=str(home.audit_keys), key=str(home.audit_key))
    open_log(link, "api-0").close()
    assert digest_key(SecretFolder(home.audit_keys, link.opener)) == digest
    command = audit_opener(home, key_keeper(_settings(tmp_path, key=False)))
    assert Checkpoints(home.audit, home.audit_keys, command).make(2, force=True) is not None, "with no key source"
    state = open_state(settings)
    sealed = ContentSealer(SqlSubjectKeys(state)).seal("ada", b"prompt", b"answer")
    assert sealed is not None and ContentSealer(SqlSubjectKeys(state)).open(sealed) == (b"prompt", b"answer")
    assert SqlSubjectKeys(state).current("ada").secret == content
    SqlSubjectKeys(state).current("bob")
    assert set(_forms(settings).values()) == {"sealed"}
    state.close()
    for key in held:
        key.close()
    with pytest.raises(SealingKeyMissing, match="sealed"):
        digest_key(SecretFolder(home.audit_keys, opened_by_link(home.audit_key)))


def test_a_fresh_home_never_writes_them_clear(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    held = hold_home_secrets(settings, key_keeper(settings))
    home = settings.home
    link = AuditLink(path=str(home.audit), keys=str(home.audit_keys), key=str(home.audit_key))
    open_log(link, "api-0").close()
    Checkpoints(home.audit, home.audit_keys, link.opener).make(1)
    assert _forms(settings) == {"audit-keys/signing-key.pem": "sealed", "audit-keys/digest-key": "sealed"}
    for key in held:
        key.close()


def test_without_the_key_signing_says_what_cannot_be_done_and_verifying_goes_on(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    home = settings.home
    _begin(settings)
    seal_home_secrets(settings, key_keeper(settings))
    ring = (tmp_path / "ring").rename(tmp_path / "elsewhere")
    opener = audit_opener(home, key_keeper(settings))
    with pytest.raises(SealingKeyMissing, match=r"nothing can be signed.*keyring") as told:
        Checkpoints(home.audit, home.audit_keys, opener).make(2, force=True)
    assert "verify" in told.value.hint and "sealing.md" in told.value.hint
    with pytest.raises(SealingKeyMissing, match="nothing can be signed"):
        hold_home_secrets(settings, key_keeper(settings))
    with pytest.raises(SealingKeyMissing, match="no key source"):
        hold_home_secrets(_settings(tmp_path, key=False), key_keeper(_settings(tmp_path, key=False)))
    with command_recorder(home, key_keeper(settings)) as recorder:
        recorder.record(Act(action="audit:search", actor="ada", resource="audit/record"))
    service = AuditService(home.audit, home.audit_keys, MemoryRecorder(), opener=opener)
    report = service.verify(ADA)
    assert report.ok and report.checkpoints.count == 1
    with pytest.raises(SealingKeyMissing, match="no export"):
        service.export(tmp_path / "out", Query(), "jsonl", ADA)
    state = open_state(settings)
    assert SqlSubjectKeys(state).erase("ada") == 1, "a person is erased without the key too"
    with state.read() as connection:
        assert set(execute(connection, "SELECT secret FROM audit_subject").scalar_one()) == {"0"}
    state.close()

    (tmp_path / "elsewhere").rename(tmp_path / "ring")
    assert ring == tmp_path / "elsewhere"
    assert Checkpoints(home.audit, home.audit_keys, opener).make(3, force=True) is not None
    assert service.verify(ADA).num_records > report.num_records - 1


def test_another_key_or_another_file_is_found_out(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    home = settings.home
    _begin(settings)
    seal_home_secrets(settings, key_keeper(settings))
    opener = audit_opener(home, key_keeper(settings))
    signing, digest = (home.audit_keys / name for name in ("signing-key.pem", "digest-key"))
    kept = signing.read_bytes()
    signing.write_bytes(digest.read_bytes())
    with pytest.raises(CorruptBlob, match="nothing can be signed"):
        Checkpoints(home.audit, home.audit_keys, opener).make(2, force=True)
    signing.write_bytes(kept)
    (home.audit_keys / "envelope.json").rename(tmp_path / "envelope.json")
    with pytest.raises(SealingKeyMissing, match=r"envelope\.json, is missing"):
        Checkpoints(home.audit, home.audit_keys, opener).make(2, force=True)


def test_rekeying_wraps_the_keys_of_the_audit_anew(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    home = settings.home
    digest, _ = _begin(settings)
    seal_home_secrets(settings, key_keeper(settings))
    files = {name: (home.audit_keys / name).read_bytes() for name in ("signing-key.pem", "envelope.json")}
    report = rekey(settings, build_store(home, settings), to=None, new_key=True)
    assert report.rewrapped == ("audit", "state")
    assert (home.audit_keys / "signing-key.pem").read_bytes() == files["signing-key.pem"]
    assert (home.audit_keys / "envelope.json").read_bytes() != files["envelope.json"]
    assert digest_key(SecretFolder(home.audit_keys, audit_opener(home, key_keeper(settings)))) == digest


def test_sealing_without_a_source_or_against_the_settings_is_refused(tmp_path: Path) -> None:
    for settings in (_settings(tmp_path, key=False), _settings(tmp_path, state=False)):
        with pytest.raises(InvalidRequest, match=r"key source|state is false"):
            seal_home_secrets(settings, key_keeper(settings))


def test_the_list_names_what_stays_clear_and_why(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    _begin(settings)
    (settings.home.root / "backup").mkdir()
    for name in ("first-key", "backup/key"):
        (settings.home.root / name).write_text("secret-value")
    found = {one.place: one for one in list_home_secrets(settings)}
    assert found["backup/key"].form == "stays clear" and "unattended" in found["backup/key"].why
    assert "first-key" in found and "audit-keys/signing-key.pem" in found
    assert any(place.startswith("state/audit-content-key/") for place in found)
    assert "secret-value" not in str(found)


@pytest.mark.parametrize("verb", ["seal", "unseal", "rekey"])
def test_no_key_is_lost_at_whichever_step_it_is_killed(verb: str) -> None:
    assert run_crashes(CRASHES, verb) > 6


def test_private_keys_are_all_that_is_sealed() -> None:
    assert set(PRIVATE_KEYS) == {"signing-key.pem", "next-signing-key.pem", "digest-key"}


def test_after_a_key_that_is_lost_for_good_a_new_record_begins(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    home = settings.home
    _begin(settings)
    seal_home_secrets(settings, key_keeper(settings))
    (tmp_path / "ring").unlink()
    for folder in (home.audit, home.audit_keys):
        folder.rename(tmp_path / folder.name)
    state = open_state(settings)
    with state.write() as connection:  # as docs/reference/sealing.md says
        execute(connection, "DELETE FROM secret")
        execute(connection, "UPDATE audit_subject SET erased_s = created_s WHERE erased_s IS NULL")
    for key in hold_home_secrets(settings, key_keeper(settings)):
        key.close()
    assert Checkpoints(home.audit, home.audit_keys, audit_opener(home, key_keeper(settings))).make(2) is not None
    assert SqlSubjectKeys(state).current("ada").secret
    state.close()
    trusted = read_public_keys(tmp_path / "audit-keys" / PUBLIC_KEYS)
    assert verify_folder(tmp_path / "audit", trusted=trusted).ok
