"""What people give that cannot be used: refused in one line that names it, with status 2, and nothing left behind."""

import pytest

from tests.support.bad_inputs import BAD_INPUTS, BadInput, give
from tests.support.bad_materials import Materials


@pytest.fixture(scope="module")
def materials(tmp_path_factory, processor):
    return Materials(tmp_path_factory.mktemp("materials"), processor)


def test_there_are_enough_and_no_two_alike():
    assert len(BAD_INPUTS) >= 120
    assert len({(bad.command, bad.words, str(bad.files)) for bad in BAD_INPUTS}) == len(BAD_INPUTS)


# "executed" is what the code of a hostile repository or file would leave behind.
@pytest.mark.parametrize("bad", BAD_INPUTS, ids=str)
def test_bad_input(bad: BadInput, materials, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    bad.argv(materials)  # makes what it needs
    outcome = give(bad, materials, tmp_path)
    assert not outcome.trace, outcome.trace
    assert outcome.status == 2, outcome.error
    assert outcome.kind(bad.says) == "refused in one line", outcome.error
    assert outcome.error.startswith("hf-lotus ") and outcome.left == ()
