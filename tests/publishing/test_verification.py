"""Whether a folder is what its record says: everything that is changed in it is found."""

import contextlib
import os
import resource
import shutil
from dataclasses import replace

import pytest

from hf_lotus import ForgetSetRecord, LoTUS, Salt, UnlearningArguments, UnlearningResult, UnlearningTrainer
from hf_lotus.publishing.digests import find_rows, salted_digests, sample_contents
from hf_lotus.publishing.model_card import write_model_card
from hf_lotus.publishing.record import IN_PROGRESS, RECORD, salt_path
from hf_lotus.publishing.verification import Check, check_folder, check_salt, check_sample, is_finished, require_whole
from tests.conftest import TINY_MODELS

CARD, RESULTS = "README.md", "results.json"


@pytest.fixture(scope="module")
def published(tmp_path_factory, parts, processor):
    """The folder of a model that has unlearned one round, complete."""
    folder = tmp_path_factory.mktemp("published") / "model"
    args = UnlearningArguments(str(folder), num_train_epochs=1, use_cpu=True, save_strategy="no", seed=1)
    sets = {f"{name}_dataset": parts[name] for name in ("forget", "retain", "unseen")}
    trainer = UnlearningTrainer(
        TINY_MODELS["vit"](), args, LoTUS(stop_margin=2.0), **sets, eval_dataset=parts["test"],
        processing_class=processor,
    )  # fmt: skip
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    return folder


@pytest.fixture
def whole(published, tmp_path):
    """A copy of that folder, and of its salt beside it, to do things to."""
    shutil.copytree(published, tmp_path / "model")
    shutil.copy(salt_path(published), salt_path(tmp_path / "model"))
    return tmp_path / "model"


def failed(folder):
    return {check.name: check.detail for check in check_folder(folder)[1] if check.holds is False}


class TestVerification:
    def test_a_folder_without_a_record(self, tmp_path):
        record, checks = check_folder(tmp_path)
        assert record is None and str(checks[0]).startswith(f"FAILED  there is a record: {tmp_path} has no {RECORD}")
        assert "trainer.create_model_card() saves the model and writes record" in checks[0].detail

    @pytest.mark.parametrize(
        ("name", "old", "new", "what"),
        [
            ("model.safetensors", None, None, "the files are those of the record"),
            (RECORD, '"rows": 60', '"rows": 61', "the record's digests agree with its Merkle root and its counts"),
            (RECORD, '"seed": 1', '"seed": 2', "the card is the one that the record makes"),
            (RESULTS, '"forget_accuracy": 0.', '"forget_accuracy": 0.9', "results.json has the figures of the record"),
            (RESULTS, "{", "", "results.json has the figures of the record"),
            (CARD, "value: 0.", "value: 0.9", "the card is the one that the record makes"),
            (CARD, "| lotus    ", "| lotus!   ", "the card is the one that the record makes"),
            (CARD, "library_name", ": [", "the card is the one that the record makes"),
        ],
    )
    def test_whatever_is_changed_is_found(self, whole, name, old, new, what):
        path = whole / name
        if old is None:
            content = bytearray(path.read_bytes())
            content[-1] ^= 1
            path.write_bytes(content)
        else:
            text = path.read_text(encoding="utf-8")
            assert old in text
            path.write_text(text.replace(old, new, 1), encoding="utf-8")
        assert what in failed(whole)
        with pytest.raises(ValueError, match="is not whole. What should hold and does not"):
            require_whole(whole)

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "model-00001-of-00002.safetensors"])
    def test_further_weights_are_found(self, whole, name):
        (whole / name).write_bytes(b"other weights")
        assert failed(whole)["there is no other file"].startswith(f"{name} is not in the record")

    def test_missing_weights_are_found(self, whole):
        (whole / "model.safetensors").rename(whole / "weights")
        assert failed(whole)["the files are those of the record"] == "model.safetensors is missing"

    def test_a_forged_list_of_digests_is_found(self, whole):
        record = ForgetSetRecord.from_json(whole / RECORD)
        forged = {**record.digests, "samples": sorted(["00" * 32, *record.digests["samples"][1:]])}
        replace(record, digests=forged).to_json(whole / RECORD)
        assert "the root is not that of the digests" in failed(whole).values()

    def test_samples_are_in_or_out_and_no_other_salt_will_do(self, whole, parts):
        record, salt = require_whole(whole), Salt.read(salt_path(whole))
        assert check_salt(record, salt).holds and check_salt(record, Salt.new()).holds is False
        for part, inside in {"forget": True, "retain": False}.items():
            _, contents = sample_contents(parts[part].select(range(5)))
            for content in contents:
                told = check_sample(record, salt, "x", content.tobytes(), None)
                assert told.detail.startswith("IN" if inside else "NOT in")
                assert check_sample(record, salt, "x", content.tobytes(), not inside).holds is False

    def test_the_data_set_is_found_again(self, whole, digits, parts):
        record, salt = require_whole(whole), Salt.read(salt_path(whole))
        _, contents = sample_contents(digits)
        rows, missing = find_rows(salted_digests(contents, digits["label"], salt), record.digests["samples"])
        assert missing == 0 and digits.select(rows)["image"] == parts["forget"]["image"]

    def test_a_terminal_is_told_nothing_by_a_name(self):
        assert str(Check("a\x1b[2Jb\r", True, "c\nok      d")) == "ok      a\ufffd[2Jb\ufffd: c\ufffdok      d"

    def test_weights_that_did_not_change_fail(self, whole):
        record = require_whole(whole)
        assert record.base_weights is not None and not record.unchanged
        replace(record, unchanged=True).to_json(whole / RECORD)
        assert "unlearning changed the weights" in failed(whole)

    def test_unfinished_weights_are_told(self, whole):
        record = replace(require_whole(whole), status=IN_PROGRESS)
        assert is_finished(record).holds is False


@contextlib.contextmanager
def files_cannot_grow_beyond(limit):
    """What a full disk does to a writer, by a limit on the size of files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestFullDisk:
    def test_record_card_and_results_are_written_whole_or_not_at_all(self, whole):
        record, before = require_whole(whole), sorted(os.listdir(whole))
        result = UnlearningResult.from_json(whole / RESULTS)
        for write in (
            lambda: replace(record, created="later").to_json(whole / RECORD),
            lambda: write_model_card(whole, result, "lotus", replace(record, created="later")),
            lambda: result.to_json(whole / RESULTS),
        ):
            with files_cannot_grow_beyond(1000), pytest.raises(OSError, match="File too large"):
                write()
            assert require_whole(whole) == record and sorted(os.listdir(whole)) == before

    def test_half_written_weights_do_not_pass(self, whole, tiny_model):
        """safetensors itself keeps the last good file; one that is cut off is refused all the same."""
        weights = (whole / "model.safetensors").read_bytes()
        with files_cannot_grow_beyond(20_000), pytest.raises(Exception, match="File too large|os error 27"):
            tiny_model("deit").save_pretrained(whole)
        assert (whole / "model.safetensors").read_bytes() == weights
        (whole / "model.safetensors").write_bytes(weights[:20_000])
        with pytest.raises(ValueError, match="model.safetensors is another"):
            require_whole(whole)
