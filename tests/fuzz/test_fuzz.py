"""A few seconds of fuzzing: every reader of files that anybody may have written, on files that are nearly right.

`python -m tests.fuzz.run --minutes 30` goes on for as long as it is told.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutations import damaged, documents
from tests.fuzz.published import publish
from tests.fuzz.targets import restore, targets

_EXAMPLES = 25


@pytest.fixture(scope="module")
def published(tmp_path_factory, processor):
    return publish(tmp_path_factory.mktemp("fuzz"), processor)


@pytest.fixture(scope="module")
def all_targets(published, tmp_path_factory):
    folder = tmp_path_factory.mktemp("targets")
    with targets(folder, published) as found:
        yield folder, found


def test_good_files_are_taken(all_targets):
    folder, found = all_targets
    for target in found:
        assert target.run(folder, target.content(target.good)) is None, target.name


@pytest.mark.parametrize("number", range(21))
def test_bad_files_are_refused_in_words_of_ours(all_targets, number):
    folder, found = all_targets
    assert len(found) == 21
    target, refused = found[number], []

    @settings(max_examples=_EXAMPLES, deadline=None, database=None, derandomize=True, print_blob=False,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.data())
    def once(data):
        good = target.content(target.good)
        if isinstance(target.good, bytes) or data.draw(st.integers(0, 3)) == 0:
            content = data.draw(damaged(good))
        else:
            content = target.content(data.draw(documents(target.good)))
        refused.append(target.run(folder, content) is not None)

    try:
        once()
    finally:
        restore(target, folder)
    assert any(refused) or target.name in ("card's licence", "card, verified", "results, verified", "record, verified")
