"""Settings: the environment, the file behind it, and what a mistake gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashore.core.errors import InvalidSpec
from ashore.kit.settings import Home, Settings, read_settings


def test_the_home_is_in_the_users_home_by_default() -> None:
    assert read_settings({"HOME": "/home/ada"}).home == Home(root=Path("/home/ada/.ashore"))


def test_the_environment_wins_over_the_file() -> None:
    settings = read_settings(
        {"ASHORE_HOME": "/srv/a", "ASHORE_DRAIN_TIMEOUT_S": "5"}, {"drain_timeout_s": 9, "offline": True}
    )
    assert settings == Settings(home=Home(root=Path("/srv/a")), drain_timeout_s=5.0, offline=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ASHORE_OFFLINE", "maybe"),
        ("ASHORE_LOG_LEVEL", "loud"),
        ("ASHORE_START_TIMEOUT_S", "soon"),
        ("ASHORE_START_TIMEOUT_S", "0"),
        ("ASHORE_START_TIMEOUT_S", "nan"),
        ("ASHORE_HF_ENDPOINT", "mirror.example"),
    ],
)
def test_a_malformed_value_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(InvalidSpec, match=name):
        read_settings({"ASHORE_HOME": "/srv/a", name: value})


def test_an_unknown_variable_is_told_with_the_nearest() -> None:
    settings = read_settings({"ASHORE_HOME": "/srv/a", "ASHORE_OFLINE": "1", "ASHORE_TEST_CACHE": "/tmp"})
    assert len(settings.warnings) == 1
    assert "ASHORE_OFLINE" in settings.warnings[0] and "'ASHORE_OFFLINE'" in settings.warnings[0]
    assert not settings.offline


def test_an_unknown_key_of_the_file_is_an_error() -> None:
    with pytest.raises(InvalidSpec) as caught:
        read_settings({"ASHORE_HOME": "/srv/a"}, {"log_levle": "info"})
    assert "'log_level'" in caught.value.hint


def test_the_key_is_not_shown() -> None:
    assert "ash_secret" not in repr(read_settings({"ASHORE_HOME": "/srv/a", "ASHORE_API_KEY": "ash_secret"}))


def test_the_home_is_private(tmp_path: Path) -> None:
    home = Home(root=tmp_path / "h")
    home.create()
    home.create()
    assert home.root.stat().st_mode & 0o777 == 0o700
    assert home.run_models.is_dir()
