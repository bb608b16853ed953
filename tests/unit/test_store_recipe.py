"""The recipe of a variant: kept as flat notes, read back as it was, its files found by what is in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashore.core.errors import CorruptBlob, InvalidRequest
from ashore.core.ids import Digest
from ashore.kit.store import DataUsed, VariantRecipe, data_used, versions_of

USED = DataUsed(role="calibration", digest=Digest("sha256:" + "a" * 64), num_bytes=7, name="our own  text.txt")
RECIPE = VariantRecipe(
    maker="quantize",
    parameters={"to": "int4", "group_size": "64"},
    data=tuple(DataUsed(role="train", digest=USED.digest, num_bytes=n, name=f"{n}.txt") for n in range(11)),
    versions={"ashore": "0.1.0", "nncf": "3.4.0"},
    seed=11,
    facts={"precision": "int4"},
)


def test_notes_give_the_recipe_back_with_its_files_in_order() -> None:
    notes = RECIPE.to_notes()
    assert VariantRecipe.from_notes(notes) == RECIPE
    assert notes["precision"] == "int4" and notes["parameter.to"] == "int4" and notes["data.1"].startswith("train sha")


def test_a_file_name_may_have_spaces() -> None:
    recipe = VariantRecipe(maker="quantize", data=(USED,))
    assert VariantRecipe.from_notes(recipe.to_notes()) == recipe


def test_what_was_pulled_has_no_recipe() -> None:
    assert VariantRecipe.from_notes({"precision": "fp16"}) is None


@pytest.mark.parametrize("facts", [{"maker": "x"}, {"data.1": "x"}, {"parameter.to": "x"}])
def test_a_fact_cannot_pose_as_something_else(facts: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="not a valid name"):
        VariantRecipe(maker="quantize", facts=facts).to_notes()


@pytest.mark.parametrize("notes", [{"data.1": "train"}, {"data.1": "train no 1 a"}, {"data.x": ""}, {"seed": "?"}])
def test_damaged_notes_are_told(notes: dict[str, str]) -> None:
    with pytest.raises(CorruptBlob, match="cannot be read"):
        VariantRecipe.from_notes({"maker": "quantize", **notes})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"calibration file .*none.*No such file"):
        data_used(tmp_path / "none.txt", "calibration")


def test_versions_name_ashore_and_the_tools() -> None:
    assert set(versions_of("numpy")) == {"ashore", "numpy"}
