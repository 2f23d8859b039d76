"""What the trainer leaves in its folder: a record, results, a figure and a card that belong together."""

import json
import stat

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from hf_lotus import (
    SSD,
    BadTeacher,
    ForgetRetainSplit,
    ForgetSetRecord,
    Salt,
    UnlearningResult,
)
from hf_lotus.data.batches import read_dataset_labels
from hf_lotus.publishing.digests import salted_digests, sample_contents
from hf_lotus.publishing.disclosure import read_owners_record, rounded_result
from hf_lotus.publishing.record import RECORD, owner_path, salt_path
from hf_lotus.publishing.verification import check_folder, require_whole

CARD, RESULTS = "README.md", "results.json"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def trained(make):
    """A trainer that has unlearned, saved, and written its card."""
    trainer = make(arguments={"num_train_epochs": 1})
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    return trainer


def failed(folder):
    return {check.name: check.detail for check in check_folder(folder)[1] if check.holds is False}


class TestTrainer:
    def test_train_and_save_leave_a_record(self, make, folder, parts):
        trainer = make(arguments={"num_train_epochs": 1})
        trainer.train()
        trainer.save_model()
        record = ForgetSetRecord.from_json(folder / RECORD)
        salt = Salt.read(salt_path(folder))
        assert stat.S_IMODE(salt_path(folder).stat().st_mode) == 0o600 and not list(folder.glob("*.salt"))
        _, contents = sample_contents(parts["forget"])
        digests = salted_digests(contents, parts["forget"]["label"], salt)
        assert record.digests["samples"] == sorted(digests) and record.rows == 60
        assert record.results is None and record.seconds > 0 and record.task == "image-classification"
        assert record.method == {"name": "lotus", "alpha": 2.0, "retain_fraction": 0.3, "stop_margin": 2.0}
        assert record.seeds == {"seed": 1, "data_seed": 1} and record.versions["torch"] == torch.__version__
        assert (record.arguments["learning_rate"], record.arguments["batch_size"]) == (1e-3, 32)
        assert failed(folder) == {"the card is the one that the record makes": "there is no README.md: "
                                  "trainer.create_model_card() or hf-lotus card writes it"}  # fmt: skip

    def test_card_results_and_figure_belong_to_the_record(self, trained, folder):
        record = require_whole(folder)
        assert (folder / "entropy.png").stat().st_size > 10_000
        measured = UnlearningResult.from_json(folder / RESULTS)
        assert record.result.models == measured.models != trained.measured[0].models
        sizes = measured.provenance["samples"]
        assert measured.models == rounded_result(trained.measured[0], sizes).models
        card = ModelCard.load(folder / CARD)
        assert record.digest in card.text and record.digests["merkle_root"] in card.text
        assert "![Entropy of the predictions" in card.text and "hf-lotus verify MODEL" in card.text

    def test_figures_of_earlier_weights_are_not_kept(self, trained, folder):
        trained.train()
        trained.save_model()
        assert ForgetSetRecord.from_json(folder / RECORD).results is None
        assert {"results.json has the figures of the record"} <= failed(folder).keys()
        with pytest.raises(ValueError, match="results.json is of other weights.*hf-lotus card"):
            require_whole(folder)
        trained.create_model_card()
        require_whole(folder)

    def test_a_card_is_of_the_weights_that_were_measured(self, trained, folder):
        """Also where nobody saved them: the figures of one model never stand beside the weights of another."""
        before = (folder / "model.safetensors").read_bytes()
        trained.train()
        trained.create_model_card()
        full = json.loads(owner_path(folder).read_text())
        assert full["results"]["models"] == [model.to_dict() for model in trained.measured[0].models]
        assert (
            read_owners_record(owner_path(folder), require_whole(folder)).result.models == trained.measured[0].models
        )
        saved = load_file(folder / "model.safetensors")
        assert (folder / "model.safetensors").read_bytes() != before
        torch.testing.assert_close(saved["classifier.bias"], trained.run.student.classifier.bias.data)

    def test_a_salt_that_is_there_is_kept(self, trained, make, folder, parts):
        before, digests = Salt.read(salt_path(folder)), ForgetSetRecord.from_json(folder / RECORD).digests
        again = make()
        again.save_model()
        assert Salt.read(salt_path(folder)) == before
        assert ForgetSetRecord.from_json(folder / RECORD).digests == digests

    def test_a_record_of_the_users_is_completed(self, make, folder, digits, parts):
        split = ForgetRetainSplit.from_column(digits, "user_id", ["u7", "u13"])
        given = ForgetSetRecord.of_split(split, Salt.new(), name="someone/digits", requests=["r1"], previous="ab" * 32)
        unseen = {"unseen_dataset": None, "eval_dataset": None}
        trainer = make(
            method=SSD(), forget_dataset=split.forget, retain_dataset=split.retain, forget_set=given, **unseen
        )
        trainer.train()
        trainer.save_model()
        record = ForgetSetRecord.from_json(folder / RECORD)
        assert (record.digests, record.selector, record.dataset["id"]) == (
            given.digests, given.selector, "someone/digits"
        )  # fmt: skip
        assert (record.requests, record.previous, record.method["name"]) == (["r1"], "ab" * 32, "ssd")
        assert not salt_path(folder).exists()

    def test_a_record_of_another_set_is_refused(self, make, digits):
        other = ForgetSetRecord.of_split(ForgetRetainSplit.from_indices(digits, [1, 2, 3]), Salt.new())
        with pytest.raises(ValueError, match="the record of 3 samples, and the forget set has 60"):
            make(forget_set=other)

    def test_samples_that_are_no_images(self, make, folder, parts):
        trainer = make()
        inputs = {name: as_inputs(trainer, name) for name in ("forget", "retain", "unseen")}
        other = make(**{f"{name}_dataset": data for name, data in inputs.items()}, eval_dataset=None)
        other.save_model()
        record = ForgetSetRecord.from_json(folder / RECORD)
        assert record.digests["content"] == "values" and record.rows == 60

    def test_samples_that_change_leave_a_record_without_digests(self, make, folder, caplog):
        trainer = make()
        inputs = {name: as_inputs(trainer, name, noise=True) for name in ("forget", "retain", "unseen")}
        other = make(**{f"{name}_dataset": data for name, data in inputs.items()}, eval_dataset=None)
        other.save_model()
        assert ForgetSetRecord.from_json(folder / RECORD).digests is None

    def test_the_license_and_the_name_of_the_base_model(self, make, tiny_model, folder, tmp_path):
        tiny_model().save_pretrained(tmp_path / "base")
        (tmp_path / "base" / "README.md").write_text("---\nlicense: mit\n---\n")
        model = type(tiny_model()).from_pretrained(tmp_path / "base")
        model.add_model_tags("digits")
        trainer = make(model)
        trainer.save_model()
        trainer.create_model_card(language="en", tags="small", model_name="my model")
        base = ForgetSetRecord.from_json(folder / RECORD).base_model
        assert base == {"name": "base", "id": None, "revision": None, "license": {"license": "mit"}}
        data = ModelCard.load(folder / CARD).data
        assert (data.license, data.language, data.model_name) == ("mit", "en", "my model")
        assert data.tags == ["machine-unlearning", "lotus", "hf-lotus", "small", "digits"]
        assert str(tmp_path) not in (folder / CARD).read_text() + (folder / RECORD).read_text()

    def test_the_papers_of_the_method_are_cited(self, make, folder):
        trainer = make(method=BadTeacher())
        trainer.save_model()
        trainer.create_model_card()
        text = (folder / CARD).read_text(encoding="utf-8")
        assert "2205.08096" in text and "2503.18314" in text

    def test_what_would_tell_of_the_selection_stays_at_home(self, make, folder, digits):
        split = ForgetRetainSplit.from_file(digits, rows_file(folder.parent, "alice_smith.json"))
        trainer = make(
            forget_dataset=split.forget, retain_dataset=split.retain, unseen_dataset=None, eval_dataset=None,
            method=SSD(), forget_set=ForgetSetRecord.of_split(split, Salt.new()),
        )  # fmt: skip
        trainer.save_model()
        trainer.compare(selector=dict(split.selector), split_digest=split.digest)
        trainer.create_model_card()
        told = "".join((folder / name).read_text(encoding="utf-8") for name in (RECORD, RESULTS, CARD))
        assert "alice" not in told and split.digest not in told

    def test_optimizer_states_are_not_published(self, make):
        for strategy in ("checkpoint", "all_checkpoints"):
            with pytest.raises(ValueError, match=f"hub_strategy='{strategy}' would publish optimizer states"):
                make(arguments={"push_to_hub": True, "hub_strategy": strategy})


def rows_file(folder, name):
    (folder / name).write_text(json.dumps(list(range(40))))
    return folder / name


def as_inputs(trainer, split, noise=False):
    """A split as model inputs of the user's own making."""
    ready = trainer.splits[split]

    class Inputs(torch.utils.data.Dataset):
        labels = read_dataset_labels(ready)

        def __len__(self):
            return len(ready)

        def __getitem__(self, row):
            pixels = ready.finish({"pixel_values": ready[row]["pixel_values"][None]})["pixel_values"][0]
            return {"pixel_values": pixels + noise * torch.rand(()), "labels": self.labels[row]}

    return Inputs()
