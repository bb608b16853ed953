"""Every attack on what a site reads is refused by name, and the last trusted state stays."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
from tests.support.site_centre import DAY_S, NOW_S, Centre, MemoryTree, Mirror

from ashore.control.sites.links import Pace
from ashore.control.sites.roles import new_key_file, read_metadata, sign_file
from ashore.control.sites.trust import CentreRefused, last_trusted
from ashore.core.errors import Conflict, NotFound


@pytest.fixture
def centre(tmp_path):
    (tmp_path / "keys").mkdir()
    made = Centre(tmp_path / "keys")
    made.want("north", made.release("one"))
    made.want("south", made.release("other"))
    return made


@pytest.fixture
def site(centre, tmp_path):
    """A site that trusts the first state, while the centre has a second one."""
    folder = tmp_path / "trusted"
    centre.at_site(folder)
    before = dict(centre.tree.files)
    centre.now_s += 60
    centre.want("north", centre.release("two"))
    return folder, before


def version_in(data):
    return json.loads(data)["signed"]["version"]


def refused(centre, folder, change, attack, **more):
    before = last_trusted(folder)
    with pytest.raises(CentreRefused) as caught:
        centre.at_site(folder, link=Mirror(centre.tree, change), **more)
    assert caught.value.attack == attack, caught.value.message
    assert last_trusted(folder).want == before.want and last_trusted(folder).parts == before.parts


def test_a_site_gets_what_it_shall_serve_and_its_parts(centre, tmp_path):
    found = centre.at_site(tmp_path / "t")
    assert found.want.serve[0].model in found.parts and found.root == 1
    assert last_trusted(tmp_path / "t") == found


def test_nothing_new_costs_two_requests_and_less_than_a_kibibyte(centre, tmp_path):
    centre.at_site(tmp_path / "t")
    centre.tree.requests.clear()
    centre.tree.num_bytes = 0
    centre.at_site(tmp_path / "t")
    assert centre.tree.requests == ["metadata/2.root.json", "metadata/timestamp.json"]
    assert centre.tree.num_bytes <= 1024


@pytest.mark.parametrize("what", ["root.json", "want.json", "timestamp.json", "sites.json", "models", "root_history"])
def test_what_a_power_loss_damaged_is_read_again(centre, tmp_path, what):
    found, path = centre.at_site(tmp_path / "t"), tmp_path / "t" / what
    if what == "root.json":
        path.unlink()  # as python-tuf does before it makes the next one
        assert last_trusted(tmp_path / "t") == found
    for file in [path] if path.suffix else path.iterdir():
        file.write_bytes(b"")
    assert last_trusted(tmp_path / "t") in (None, found, replace(found, signed_s=0))
    assert centre.at_site(tmp_path / "t") == found == last_trusted(tmp_path / "t")


@pytest.mark.parametrize("what", ["timestamp", "snapshot", "targets", "sites", "want.json", "models/"])
def test_changed_bytes_are_refused(centre, tmp_path, what):
    def change(path, data):
        return data.replace(b"n", b"m", 1) if data and what in path else data

    with pytest.raises(CentreRefused) as caught:
        centre.at_site(tmp_path / "t", link=Mirror(centre.tree, change))
    assert caught.value.attack in ("forged", "mixed") and last_trusted(tmp_path / "t") is None


def test_a_state_signed_by_other_keys_is_forged(centre, site, tmp_path):
    (tmp_path / "other").mkdir()
    other = Centre(tmp_path / "other", now_s=centre.now_s + 60)
    other.want("north", other.release("evil"))
    refused(centre, site[0], lambda path, data: other.tree.files.get(path), "forged")


def test_an_older_timestamp_is_a_roll_back(centre, site):
    folder, before = site
    centre.at_site(folder)
    refused(centre, folder, lambda path, data: before.get(path, data), "rolled back")


def test_an_older_assignment_in_a_newer_state_is_a_roll_back(centre, site, tmp_path):
    folder, _ = site
    centre.at_site(folder)
    centre.wants["north"] = centre.wants["north"].__class__(site="north", sequence=NOW_S)
    centre.publish("north")
    refused(centre, folder, lambda path, data: data, "rolled back")


def test_news_that_is_held_back_is_frozen_once_it_has_expired(centre, site):
    folder, before = site
    late_s = NOW_S + 4 * DAY_S
    refused(centre, folder, lambda path, data: before.get(path), "frozen", now_s=late_s)
    centre.now_s = late_s
    centre.publish()
    assert centre.at_site(folder).want.sequence > NOW_S


def test_a_clock_that_was_set_back_does_not_revive_expired_news(centre, tmp_path):
    centre.at_site(tmp_path / "t")
    held = dict(centre.tree.files)
    centre.now_s += 10 * DAY_S
    centre.publish()
    centre.at_site(tmp_path / "t", now_s=0)  # no clock: the newest signed time counts from here on
    stale = {**held, "metadata/timestamp.json": centre.tree.files["metadata/timestamp.json"]}
    refused(centre, tmp_path / "t", lambda path, data: stale.get(path), "frozen", now_s=centre.now_s + 4 * DAY_S)
    centre.now_s += 5 * DAY_S
    found = centre.at_site(tmp_path / "t", now_s=0) if centre.publish() else None
    assert found is not None and found.signed_s == centre.now_s


@pytest.mark.parametrize("what", ["2.root.json", "timestamp", "snapshot", "sites", "want.json"])
def test_endless_data_is_refused(centre, site, what):
    def change(path, data):
        return itertools.repeat(b"x" * 65536) if what in path else data

    refused(centre, site[0], change, "endless")


def test_a_trickle_is_refused_as_slow(centre, site):
    seconds = itertools.count(0, 10)  # each look at the clock is ten seconds later

    def trickle(data):
        pace = Pace("a mirror", 0, len(data), now=lambda: float(next(seconds)))
        for at in range(len(data)):
            pace.take(1)
            yield data[at : at + 1]

    refused(centre, site[0], lambda path, data: trickle(data) if "timestamp" in path else data, "slow")


@pytest.mark.parametrize("what", ["targets.json", "sites.json", "snapshot"])
def test_files_of_different_states_are_refused_as_mixed(centre, site, what):
    folder, before = site
    old = next(data for path, data in sorted(before.items(), reverse=True) if what in path)
    refused(centre, folder, lambda path, data: old if what in path else data, "mixed")


def test_a_file_that_is_missing_is_mixed(centre, site):
    refused(centre, site[0], lambda path, data: None if "snapshot" in path else data, "mixed")
    with pytest.raises(NotFound):
        centre.at_site(site[0], link=MemoryTree())


def test_the_assignment_of_another_site_is_refused(centre, tmp_path):
    files = centre.tree.files
    (other,) = [data for path, data in files.items() if "wants/south" in path]

    with pytest.raises(CentreRefused) as caught:
        centre.at_site(
            tmp_path / "t", link=Mirror(centre.tree, lambda path, data: other if "wants/north" in path else data)
        )
    assert caught.value.attack in ("mixed", "endless")
    centre.wants["north"] = centre.wants["south"]  # a director who mixes them up
    centre.publish("north")
    with pytest.raises(CentreRefused) as caught:
        centre.at_site(tmp_path / "t")
    assert caught.value.attack == "wrong site"


def test_a_centre_whose_clock_was_ahead_is_believed_once_it_is_right(centre, tmp_path):
    folder, right = tmp_path / "t", centre.now_s
    centre.now_s = right + 40 * DAY_S
    centre.want("north", *centre.models)
    centre.at_site(folder, now_s=right)
    for day in range(3):
        centre.now_s = right + day * DAY_S
        centre.want("north", *list(centre.models)[:1])
        assert centre.at_site(folder).want.sequence == centre.wants["north"].sequence


def test_the_director_alone_cannot_hand_out_a_model(centre, site):
    evil = "sha256:" + "e" * 64
    centre.want("north", evil)
    refused(centre, site[0], lambda path, data: data, "forged")


def test_one_of_three_root_keys_is_not_enough(centre, site):
    path = centre.folder / "staged.json"
    path.write_bytes(centre.signing.next_root(["timestamp"]).to_bytes())
    sign_file(path, centre.keys[0])
    stolen = path.read_bytes()
    refused(centre, site[0], lambda name, data: stolen if name.endswith("2.root.json") else data, "forged")


def test_a_root_that_was_skipped_is_refused(centre, site):
    staged = centre.signing.next_root([])
    staged.signed.version = 3
    path = centre.folder / "staged.json"
    path.write_bytes(staged.to_bytes())
    for key in centre.keys:
        sign_file(path, key)
    skipped = path.read_bytes()
    refused(centre, site[0], lambda name, data: skipped if name.endswith("2.root.json") else data, "mixed")


def test_versions_driven_far_ahead_are_recovered_by_new_keys(centre, tmp_path):
    folder = tmp_path / "t"
    centre.at_site(folder)
    right = centre.now_s
    centre.now_s = 2**31 - 1
    centre.publish("north")
    stolen = centre.tree.files.copy()
    centre.at_site(folder, now_s=right)
    # the centre was restored beside the thief's tree: its own files are as before
    centre.tree.files = {name: data for name, data in stolen.items() if str(2**31 - 1) not in name}
    centre.now_s = right + 60
    centre.tree.files.pop("metadata/timestamp.json")
    centre.install(centre.signing.next_root(["timestamp", "snapshot"]))
    centre.publish("north", "south")
    found = centre.at_site(folder)
    assert found.root == 2 and found.signed_s == right + 60


def test_an_expired_root_is_replaced_while_a_site_sleeps_through_two_rotations(centre, tmp_path):
    folder = tmp_path / "t"
    centre.at_site(folder)
    for rotate in (["timestamp", "snapshot", "targets", "director"], ["timestamp", "director"]):
        centre.now_s += 400 * DAY_S
        centre.install(centre.signing.next_root(rotate))
        centre.publish()
    centre.want("north", centre.release("three"))
    found = centre.at_site(folder)
    assert found.root == 3 and found.want.sequence == centre.now_s


def test_operators_replace_their_own_keys(centre, tmp_path):
    centre.at_site(tmp_path / "t")
    fresh = [tmp_path / f"new-{number}.pem" for number in (1, 2)]
    staged = centre.signing.next_root([], keys=[new_key_file(path) for path in fresh])
    centre.keys = [*centre.keys[:2], *fresh]
    centre.install(staged, keys=4)
    centre.keys = fresh
    centre.install(centre.signing.next_root([]))
    assert centre.at_site(tmp_path / "t").root == 3


def test_a_site_that_was_removed_is_no_longer_known(centre, tmp_path):
    centre.at_site(tmp_path / "t")
    del centre.wants["north"]
    centre.publish()
    assert centre.at_site(tmp_path / "t").want is None and last_trusted(tmp_path / "t").want is not None


def test_a_restored_centre_goes_on_above_what_sites_have_seen(centre, tmp_path):
    folder, backup = tmp_path / "t", (dict(centre.tree.files), dict(centre.wants))
    for _ in range(3):
        centre.now_s += 60
        centre.want("north", centre.release("two"))
    centre.at_site(folder)
    centre.now_s += 60
    centre.tree.files, centre.wants = backup
    centre.want("north", *centre.models)
    assert centre.at_site(folder).want.sequence == centre.now_s


def test_a_key_in_a_file_releases_models(tmp_path):
    (tmp_path / "keys").mkdir()
    centre = Centre(tmp_path / "keys")
    key = tmp_path / "targets.pem"
    centre.install(centre.signing.next_root(["targets"], targets=new_key_file(key)))
    digest = centre.release("one")
    with pytest.raises(Conflict):
        centre.publish()
    staged = tmp_path / "targets.json"
    staged.write_bytes(centre.signing.stage_targets(centre.models).to_bytes())
    with pytest.raises(Conflict):
        centre.signing.install(read_metadata(staged))
    sign_file(staged, key)
    centre.signing.install(read_metadata(staged))
    centre.publish(targets=read_metadata(staged))
    centre.want("north", digest)
    assert digest in centre.at_site(tmp_path / "t").parts


def test_what_is_current_is_not_signed_again(centre):
    assert centre.publish() == ()
    centre.now_s += 2 * DAY_S
    assert centre.publish() == ("timestamp",)
    centre.now_s += 16 * DAY_S
    assert set(centre.publish()) == {"sites", "snapshot", "timestamp"}


def test_metadata_that_nobody_names_any_more_goes_after_a_week(centre, tmp_path):
    for _ in range(3):
        centre.now_s += 60
        centre.want("north", *centre.models)
    many = len([path for path in centre.tree.files if "snapshot" in path])
    centre.now_s += 8 * DAY_S
    centre.publish()
    assert many == 5 and len([path for path in centre.tree.files if "snapshot" in path]) == 1
    assert centre.at_site(tmp_path / "t").root == 1
