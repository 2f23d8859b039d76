"""Entry points of other distributions in a table of ours: found, loaded when used, and blamed by name when broken."""

import sys

import pytest

from hf_lotus.utils.plugins import PluginError, Registry
from tests.support.plugins import write_distribution

GROUP = "hf_lotus.test_colours"


def check(name: str, thing: object) -> None:
    if not isinstance(thing, str):
        raise TypeError(f"a colour is text, got {thing!r}.")


@pytest.fixture
def registry(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    return Registry("colour", GROUP, {"red": "#f00"}, check)


def test_ours_come_first_and_those_of_others_are_listed_without_being_loaded(tmp_path, registry):
    entries = {"blue": "colours_a:BLUE", "azure": "colours_a:AZURE"}
    write_distribution(tmp_path, "colours-a", GROUP, entries, {"colours_a": "BLUE = '#00f'; AZURE = '#08f'"})
    assert list(registry) == ["red", "azure", "blue"] and len(registry) == 3
    assert "blue" in registry and "green" not in registry
    assert "colours_a" not in sys.modules
    assert registry["blue"] == "#00f" and registry["red"] == "#f00"
    assert registry.usable() == {"red": "#f00", "azure": "#08f", "blue": "#00f"}
    with pytest.raises(KeyError):
        registry["green"]


@pytest.mark.parametrize(
    ("value", "source", "message"),
    [
        ("colours_b:BLUE", "raise RuntimeError('no paint')", "cannot be loaded: RuntimeError: no paint"),
        ("colours_c:GREEN", "BLUE = '#00f'", "cannot be loaded: AttributeError"),
        ("colours_d:BLUE", "BLUE = 3", "cannot be used: a colour is text, got 3"),
        ("nowhere_at_all:BLUE", "", "cannot be loaded: ModuleNotFoundError"),
    ],
)
def test_a_broken_plugin_breaks_its_own_name_alone_and_is_named(tmp_path, registry, value, source, message):
    write_distribution(tmp_path, "broken-paint", GROUP, {"blue": value}, {value.split(":")[0]: source})
    if value.startswith("nowhere"):
        (tmp_path / "nowhere_at_all.py").unlink()
    with pytest.raises(PluginError, match=f"colour 'blue' of broken-paint 1.0 .*{message}"):
        registry["blue"]
    assert registry["red"] == "#f00" and "blue" in registry and registry.usable() == {"red": "#f00"}


def test_a_name_that_two_claim_is_refused_with_both_named(tmp_path, registry):
    write_distribution(tmp_path, "paint-one", GROUP, {"blue": "one:B", "red": "one:R"}, {"one": "B = '1'; R = '2'"})
    write_distribution(tmp_path, "paint-two", GROUP, {"blue": "two:B"}, {"two": "B = '3'"})
    with pytest.raises(PluginError, match=r"offered by paint-(one|two) 1\.0 and by paint-(one|two) 1\.0"):
        registry["blue"]
    with pytest.raises(PluginError, match=r"'red' is offered by hf_lotus and by paint-one 1\.0"):
        registry["red"]
    assert registry.own["red"] == "#f00" and list(registry) == ["red", "blue"]


def test_a_file_that_cannot_be_read_hides_no_other_distribution(tmp_path, registry):
    write_distribution(tmp_path, "good-paint", GROUP, {"blue": "good_paint:B"}, {"good_paint": "B = '1'"})
    write_distribution(tmp_path, "bad-paint", GROUP, {}, {})
    (tmp_path / "bad_paint-1.0.dist-info" / "entry_points.txt").write_text(f"[{GROUP}]\nno equals sign\n")
    with pytest.warns(UserWarning, match="entry_points.txt of bad-paint cannot be read"):
        assert list(registry) == ["red", "blue"]
    assert registry["blue"] == "1"
