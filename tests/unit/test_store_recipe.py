"""The recipe of a variant: kept as flat notes, read back as it was, its files found by what is in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashore.core.errors import InvalidRequest
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


def test_notes_have_the_whole_recipe_with_its_files_in_order() -> None:
    notes = RECIPE.to_notes()
    assert [notes[f"data.{n + 1}"].split(" ")[2:] for n in range(11)] == [[str(n), f"{n}.txt"] for n in range(11)]
    assert (notes["maker"], notes["seed"], notes["version.nncf"]) == ("quantize", "11", "3.4.0")
    assert notes["precision"] == "int4" and notes["parameter.to"] == "int4" and notes["data.1"].startswith("train sha")


@pytest.mark.parametrize("facts", [{"maker": "x"}, {"data.1": "x"}, {"parameter.to": "x"}])
def test_a_fact_cannot_pose_as_something_else(facts: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="not a valid name"):
        VariantRecipe(maker="quantize", facts=facts).to_notes()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"calibration file .*none.*No such file"):
        data_used(tmp_path / "none.txt", "calibration")


def test_versions_name_ashore_and_the_tools() -> None:
    assert set(versions_of("numpy")) == {"ashore", "numpy"}
