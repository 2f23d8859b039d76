"""Good documents made bad: by hypothesis, which finds the smallest one that still is."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

# Values that break readers: of every kind, of no size, of too much, and those that terminals and languages obey.
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**400]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["", "\x1b[2J", "\x00", "../../up", "a" * 5000, "1e999", "nan", "{{ x }}", "\ud800", "‮", "0" * 64]
    ),
    st.just([]),
    st.just({}),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
    st.recursive(st.none(), lambda inner: st.lists(inner, max_size=2), max_leaves=8),
)


@st.composite
def documents(draw: st.DrawFn, good: Any) -> Any:
    """A document like a good one, with one to three places changed, left out, or added."""
    document = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            return draw(ODD)
        holder, key = draw(st.sampled_from(places))
        what = draw(st.sampled_from(["change", "change", "drop", "add", "swap"]))
        if what == "change":
            holder[key] = draw(ODD)
        elif what == "drop":
            del holder[key]
        elif isinstance(holder, dict):
            holder[draw(st.text(max_size=8))] = draw(ODD) if what == "add" else copy.deepcopy(holder.get(key))
        else:
            holder.insert(0, draw(ODD))
    return document


def _places(document: Any) -> Any:
    """Every (mapping or list, key or place) within."""
    if isinstance(document, dict | list):
        for key in list(document) if isinstance(document, dict) else range(len(document)):
            yield document, key
            yield from _places(document[key])


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """Bytes like good ones, cut off, with some flipped, and some put in."""
    content = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        what = draw(st.sampled_from(["flip", "cut", "insert", "repeat"]))
        if what == "flip" and content:
            content[place] ^= draw(st.integers(1, 255))
        elif what == "cut":
            del content[place:]
        elif what == "insert":
            content[place:place] = draw(st.binary(min_size=1, max_size=12))
        else:
            content[place:place] = content[max(0, place - draw(st.integers(1, 200))) : place]
    return bytes(content)
