"""Values of files and command lines as the types of fields."""

import pytest

from hf_lotus.utils.values import convert


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        ("1e-3", float, 0.001),
        (3, float, 3.0),
        ("3", int, 3),
        ("yes", bool, True),
        (False, bool, False),
        (5, str, "5"),
        ([5, "8"], tuple[int, ...], (5, 8)),
        (5, tuple[int, ...], (5,)),
        (["a"], list[str], ["a"]),
        (None, int | None, None),
        ("2", int | None, 2),
        ({"a": 1}, dict | str | None, {"a": 1}),
        ("adamw", str | None, "adamw"),
        ("0.5", str | float, 0.5),
        ("text", str | float, "text"),
        ("none", None | str | list[str], "none"),
        (["a", "b"], None | str | list[str], ["a", "b"]),
    ],
)
def test_what_is_written_becomes_what_is_asked_for(value, hint, expected):
    found = convert(value, hint)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint", "told"),
    [
        ("two", float, "'two' is no number"),
        (2.5, int, "2.5 is no whole number"),
        ("maybe", bool, "'maybe' is neither true nor false"),
        ("x", int | None, "'x' is no whole number"),
        ([1, "b"], tuple[int, ...], "'b' is no whole number"),
    ],
)
def test_what_is_not_of_the_type_is_refused(value, hint, told):
    with pytest.raises(ValueError, match=told):
        convert(value, hint)
