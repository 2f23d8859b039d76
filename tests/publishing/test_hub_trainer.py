"""`UnlearningTrainer` and a Hub: what it pushes, when, and what happens when it cannot."""

import logging

import pytest
from huggingface_hub import ModelCard

from hf_lotus.cli.main import main
from hf_lotus.publishing.hub import PublishError, fetch
from hf_lotus.publishing.record import salt_path
from hf_lotus.publishing.verification import check_folder, require_whole
from tests.support.hub_client import NAMES, build, local_hub, repository
from tests.support.hub_server import TOKEN, Fault

# The client's own, of its own HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with local_hub(tmp_path, monkeypatch) as server:
        yield server


class TestTrainer:
    def test_push_to_hub(self, hub, parts, processor, tmp_path):
        trainer = build(tmp_path / "out", parts, processor, hub_model_id="me/model")
        trainer.train()
        commit = trainer.push_to_hub(tags=["digits"], private=True)
        repo = repository(hub)
        assert commit.oid == repo.commits[-1].sha and len(repo.commits) == 2
        assert sorted(repo.files) == [".gitattributes", *NAMES]
        data = ModelCard.load("me/model").data
        assert data.tags[-1] == "digits" and data.model_name == "model" and len(data.eval_results) > 5
        assert require_whole(fetch("me/model")).results["name"] == "lotus"
        assert main(["verify", "me/model"]) == 0
        assert salt_path(tmp_path / "out").read_bytes().strip() not in b"".join(repo.files.values())

    def test_not_waiting_for_the_upload(self, hub, parts, processor, tmp_path):
        trainer = build(tmp_path / "out", parts, processor, hub_model_id="me/model")
        with pytest.raises(ValueError, match="unlearning changed the weights: .* nothing was unlearned"):
            trainer.push_to_hub()
        trainer.train()
        assert trainer.push_to_hub(blocking=False).result(timeout=30).oid == repository(hub).commits[-1].sha

    def test_pushes_at_saves_are_whole_and_say_that_they_are_not_finished(self, hub, parts, processor, tmp_path):
        options = {"num_train_epochs": 2, "save_strategy": "epoch", "push_to_hub": True, "hub_model_id": "me/model"}
        trainer = build(tmp_path / "out", parts, processor, hub_token=TOKEN, **options)
        trainer.train()
        repo = repository(hub)
        assert [c.message for c in repo.commits[1:]] == [f"Unlearning in progress, step {n}" for n in (4, 8)]
        assert sorted(repo.files) == [
            ".gitattributes",
            *(n for n in NAMES if n not in ("entropy.png", "results.json")),
        ]
        record, checks = check_folder(fetch("me/model"))
        assert record.status == "in progress" and not [check for check in checks if check.holds is False]
        card = ModelCard.load("me/model")
        assert "**Unlearning has not ended.**" in card.text and "unfinished" in card.data.tags
        assert main(["verify", "me/model"]) == 1
        trainer.save_model()  # pushes, as in Trainer
        assert repo.commits[-1].message == "Model save" and require_whole(fetch("me/model")).status == "finished"
        assert main(["verify", "me/model"]) == 0
        everything = b"".join(data for commit in repo.commits for data in commit.files.values())
        assert TOKEN.encode() not in everything

    def test_a_push_that_fails_does_not_stop_the_run(self, hub, parts, processor, tmp_path, monkeypatch):
        options = {"num_train_epochs": 2, "save_strategy": "epoch", "push_to_hub": True, "hub_model_id": "me/model"}
        trainer = build(tmp_path / "out", parts, processor, **options)
        hub.faults.append(Fault("POST", "/commit/", 403))
        warned = []
        monkeypatch.setattr("hf_lotus.trainer.publisher.logger.warning", warned.append)
        trainer.train()
        assert trainer.state.global_step == 8 and len(repository(hub).commits) == 2
        assert "403, the token may not write there" in warned[0] and "The run goes on" in warned[0]

    def test_without_a_token_nothing_is_trained(self, hub, parts, processor, tmp_path, monkeypatch):
        monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(PublishError, match="The repository me/model cannot be made: 401, .* or there is none"):
            build(tmp_path / "out", parts, processor, push_to_hub=True, hub_model_id="me/model")

    def test_no_token_in_any_log_or_file(self, hub, parts, processor, tmp_path, caplog):
        token = TOKEN
        with caplog.at_level(logging.DEBUG):
            trainer = build(tmp_path / "out", parts, processor, push_to_hub=True, hub_model_id="me/model",
                            hub_token=token)  # fmt: skip
            trainer.train()
            trainer.push_to_hub()
        assert token not in caplog.text
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert "training_args.bin" in {path.name for path in files}
        assert not [path for path in files if token.encode() in path.read_bytes()]
