"""Which models derive from one, over real HTTP: through pages, generations, circles, and to whom it may be told."""

import pytest

from hf_lotus.cli.main import main
from hf_lotus.publishing.lineage import DerivedModel, derived_models
from tests.support import hub_server
from tests.support.hub_client import local_hub
from tests.support.hub_repos import Repo

CARD = "---\nbase_model: {base}\ntags: {tags}\n{more}---\n\n# A model\n"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with local_hub(tmp_path, monkeypatch) as server:
        publish(server, "lab/original")
        yield server


def publish(hub, name, base="[]", *, tags="[]", relation=None, private=False):
    more = f"base_model_relation: {relation}\n" if relation else ""
    repo = hub.repos["models", name] = Repo("models", name, {"visibility": "private"} if private else {})
    repo.commit("card", {"README.md": CARD.format(base=base, tags=tags, more=more).encode()})
    return repo


def test_every_generation_with_what_its_cards_say(hub):
    publish(hub, "a/child", "lab/original", relation="finetune")
    publish(hub, "b/unlearned", "lab/original", tags="[machine-unlearning, lotus]", relation="finetune")
    grandchild = publish(hub, "c/grandchild", "[x/other, a/child]", relation="merge")
    publish(hub, "d/stranger", "x/other")
    publish(hub, "e/namesake", "lab/original-2")
    first, second, third = derived_models("lab/original")
    assert (first.id, first.relation, first.depth, first.unlearned) == ("a/child", "finetune", 1, False)
    assert second == DerivedModel("c/grandchild", "a/child", "merge", 2, False, grandchild.commits[-1].sha)
    assert (third.id, third.depth, third.unlearned) == ("b/unlearned", 1, True)


def test_cards_that_name_each_other(hub):
    publish(hub, "a/one", "[lab/original, a/two]")
    publish(hub, "a/two", "a/one")
    publish(hub, "lab/original", "a/two")
    assert [(model.id, model.depth) for model in derived_models("lab/original")] == [("a/one", 1), ("a/two", 2)]


def test_more_than_a_page(hub, monkeypatch):
    monkeypatch.setattr(hub_server, "PAGE", 3)
    for number in range(10):
        publish(hub, f"many/model-{number}", "lab/original")
    assert [model.id for model in derived_models("lab/original")] == [f"many/model-{n}" for n in range(10)]
    listings = [path for method, path in hub.requests if path == "/api/models"]
    assert len(listings) == 4 + 10  # the pages, and one for each model that nothing derives from


def test_private_models_are_their_owners_to_see(hub):
    publish(hub, "a/hidden", "lab/original", private=True)
    publish(hub, "a/open", "lab/original")
    assert [model.id for model in derived_models("lab/original")] == ["a/hidden", "a/open"]
    assert [model.id for model in derived_models("lab/original", token="hf_strangers")] == ["a/open"]


def test_an_original_that_is_not_there(hub):
    with pytest.raises(OSError, match="derive from lab/absent were not listed: 404, there is no such repository"):
        derived_models("lab/absent")
    with pytest.raises(ValueError, match="is not the id of a model on the Hub"):
        derived_models("not an id")


def test_the_command(hub, capsys):
    publish(hub, "a/child", "lab/original", relation="finetune")
    publish(hub, "a/grandchild", "a/child", tags="[machine-unlearning]")
    assert main(["lineage", "lab/original"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("a/child at ") and lines[0].endswith(": finetune of lab/original")
    assert lines[1].startswith("  a/grandchild at ") and lines[1].endswith("derived of a/child, unlearned by its card")
    assert lines[3] == "2 published models say that they derive from lab/original."
    assert lines[4] == "1 of them do not say that they were made to forget anything."
    assert main(["lineage", "lab/absent"]) == 2
