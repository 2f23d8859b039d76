"""A run goes on only from its own checkpoints, and says what is wrong with others."""

from __future__ import annotations

import json
import time

import pytest
import torch
from datasets import Dataset

from hf_lotus.methods import SCRUB, SSD, Finetune, LoTUS
from hf_lotus.publishing.digests import sample_contents
from hf_lotus.trainer.checkpoints import MARK, read_mark
from hf_lotus.trainer.fingerprint import differences, run_identity
from tests.conftest import divided
from tests.support.every_method import SHORT_SCRUB, SaveAt, build, kept_scans
from tests.support.method_helpers import equal, trained, weights

SHORT = {"num_train_epochs": 2, "save_strategy": "epoch"}


def parts_without(row):
    parts = divided(kept_scans())
    rows = [number for number in range(len(parts["forget"])) if number != row]
    return {"forget_dataset": parts["forget"].select(rows)}


def swapped_for_one_of_its_class():
    """As many samples to forget and the same labels, but another sample in the middle."""
    parts = divided(kept_scans())
    both = {name: list(range(len(parts[name]))) for name in ("forget", "retain")}
    label = parts["forget"]["label"][30]
    other = next(row for row, found in enumerate(parts["retain"]["label"]) if found == label)
    swapped = {name: kept_scans() for name in both}
    numbers = {name: parts[name]._indices.column(0).to_pylist() for name in both}
    numbers["forget"][30], numbers["retain"][other] = numbers["retain"][other], numbers["forget"][30]
    return {f"{name}_dataset": swapped[name].select(numbers[name]) for name in both}


# What another run was given → what is said of it.
OTHERS = {
    "another method": ({"method": Finetune()}, "differs in: alpha (2.0 there, not given here)"),
    "another field of the method": ({"method": LoTUS(alpha=4.0, stop_margin=2.0)}, "alpha (2.0 there, 4.0 here)"),
    "one sample less": ({"options": parts_without(3)}, "the forget set"),
    "another sample": ({"options": swapped_for_one_of_its_class()}, "the forget set; the retain set"),
    "no unseen set": ({"options": {"unseen_dataset": None}}, "the unseen set"),
    "another seed": ({"seed": 2}, "data_seed (1 there, 2 here); seed (1 there, 2 here)"),
    "another rate": ({"learning_rate": 0.1}, "learning_rate (0.05 there, 0.1 here)"),
    "larger batches": ({"per_device_train_batch_size": 64}, "per_device_train_batch_size (32 there, 64 here)"),
    "accumulation": ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps (1 there, 2 here)"),
    "another schedule": ({"lr_scheduler_type": "linear"}, "lr_scheduler_type (constant there, linear here)"),
    "another optimizer": ({"optim": "adamw_torch"}, "optim (sgd there, adamw_torch here)"),
    "half precision": ({"bf16": True}, "mixed_precision (no there, bf16 here)"),
    "augmentation": ({"horizontal_flip": True}, "horizontal_flip (False there, True here)"),
    "another model": ({"family": "deit"}, "the model's weights (give the original model, not a checkpoint)"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a LoTUS run with two checkpoints."""
    folder = tmp_path_factory.mktemp("run")
    build(folder, LoTUS(stop_margin=2.0), **SHORT).train()
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-4", "checkpoint-8"]
    return folder


@pytest.mark.parametrize("given", [True, "checkpoint-4"])
@pytest.mark.parametrize("other", OTHERS)
def test_another_run_is_refused_and_told_apart(finished, other, given):
    changed, message = OTHERS[other]
    arguments = {**SHORT, "method": LoTUS(stop_margin=2.0), **changed}
    if arguments.get("options") == {"unseen_dataset": None}:
        arguments["method"] = Finetune()  # LoTUS does not do without
    trainer = build(finished, arguments.pop("method"), **arguments)
    start = weights(trainer.model)
    with pytest.raises(ValueError) as error:
        trainer.train(resume_from_checkpoint=given if given is True else str(finished / given))
    assert message in str(error.value) and "is of another run, which differs in" in str(error.value)
    assert "give what it was given. To begin anew, leave resume_from_checkpoint out" in str(error.value)
    assert equal(weights(trainer.model), start) and not trainer.state.log_history


@pytest.mark.parametrize(
    "changed",
    [{"logging_strategy": "steps"}, {"save_strategy": "no"}, {"eval_strategy": "epoch"}, {"num_train_epochs": 3}],
)
def test_what_changes_no_weights_makes_no_other_run(finished, tmp_path, changed):
    """More rounds neither, where the schedule does not depend on their number."""
    again = build(tmp_path, LoTUS(stop_margin=2.0), **{**SHORT, **changed})
    again.train(resume_from_checkpoint=str(finished / "checkpoint-4"))
    whole = build(tmp_path / "whole", LoTUS(stop_margin=2.0), **{**SHORT, **changed})
    whole.train()
    assert equal(weights(again.model), weights(whole.model))


def test_more_rounds_are_another_run_where_the_schedule_falls_to_its_end(tmp_path):
    arguments = {"save_strategy": "epoch", "lr_scheduler_type": "cosine"}
    build(tmp_path, Finetune(), **arguments).train()
    with pytest.raises(ValueError, match=r"num_train_epochs \(2 there, 3 here\)"):
        build(tmp_path, Finetune(), num_train_epochs=3, **arguments).train(resume_from_checkpoint=True)
    with pytest.raises(ValueError, match=r"max_steps \(not given there, 5 here\); num_train_epochs"):
        build(tmp_path, Finetune(), max_steps=5, **arguments).train(resume_from_checkpoint=True)


def test_a_checkpoint_given_as_the_model_is_refused(finished):
    trainer = build(finished, LoTUS(stop_margin=2.0), **SHORT)
    started = type(trainer.model).from_pretrained(finished / "checkpoint-8").state_dict()
    trainer.model.load_state_dict(started), trainer.teacher.load_state_dict(started)
    with pytest.raises(ValueError, match="differs in: the model's weights .give the original model, not a checkpoint"):
        trainer.train(resume_from_checkpoint=True)


class TestWhichCheckpoint:
    def test_the_last_of_its_own_and_not_the_last_of_the_folder(self, tmp_path, caplog):
        build(tmp_path, Finetune(), num_train_epochs=3, save_strategy="epoch").train()  # 6, 12, 18
        build(tmp_path, LoTUS(stop_margin=2.0), callbacks=[SaveAt(5)]).train()
        again = build(tmp_path, LoTUS(stop_margin=2.0))
        assert again.checkpoints.begin(True) == str(tmp_path / "checkpoint-5")

    def test_one_without_a_mark_is_refused(self, tmp_path):
        build(tmp_path, Finetune(), **SHORT).train()
        for text in (None, "not json", "[]", "{}", '{"run": 3, "seconds": 1}'):
            for path in tmp_path.glob(f"*/{MARK}"):
                path.unlink() if text is None else path.write_text(text)
            for given in (True, str(tmp_path / "checkpoint-6")):
                with pytest.raises(ValueError, match="does not say which run it is of.*An older version of hf-lotus"):
                    build(tmp_path, Finetune(), **SHORT).train(given)
            for folder in tmp_path.iterdir():
                (folder / MARK).write_text("broken")

    def test_one_that_was_not_written_to_its_end_is_passed_over_or_refused(self, tmp_path):
        build(tmp_path, Finetune(), **SHORT).train()
        state = tmp_path / "checkpoint-12" / "trainer_state.json"
        for text in (state.read_text()[:-9], None):
            state.unlink() if text is None else state.write_text(text)
            assert build(tmp_path, Finetune(), **SHORT).checkpoints.begin(True) == str(tmp_path / "checkpoint-6")
            with pytest.raises(ValueError, match="checkpoint-12' was not written to its end.*Give an earlier one"):
                build(tmp_path, Finetune(), **SHORT).checkpoints.begin(str(tmp_path / "checkpoint-12"))

    def test_one_of_weights_alone_is_refused(self, tmp_path):
        build(tmp_path, Finetune(), save_only_model=True, **SHORT).train()
        with pytest.raises(ValueError, match="weights alone, without the optimizer's state .save_only_model=True."):
            build(tmp_path, Finetune(), **SHORT).train(True)

    @pytest.mark.parametrize("method", [Finetune(), SSD()])
    def test_none_at_all(self, tmp_path, method):
        with pytest.raises(ValueError, match="no checkpoint in .* leave resume_from_checkpoint out"):
            build(tmp_path, method).train(resume_from_checkpoint=True)

    def test_an_edit_of_another_method_or_not_finished(self, tmp_path):
        build(tmp_path, SSD(alpha=1.0), **SHORT).train()
        with pytest.raises(ValueError, match=r"alpha \(1.0 there, 2.0 here\)"):
            build(tmp_path, SSD(alpha=2.0), **SHORT).train(resume_from_checkpoint=True)
        (tmp_path / "checkpoint-0" / MARK).unlink()  # it is written last
        with pytest.raises(ValueError, match="does not say which run"):
            build(tmp_path, SSD(alpha=1.0), **SHORT).train(resume_from_checkpoint=True)


def test_the_best_round_of_another_run_is_not_taken_for_its_own(tmp_path, processor):
    """SCRUB+R whose best round lies before the checkpoint that it goes on from, and was written over since."""

    def run(seed, resume=None, *callbacks):
        method = SCRUB(alpha=0.5, gamma=1.0, temperature=2.0, msteps=2, forget_batch_size=32, rewind=True)
        arguments = {"num_train_epochs": 4, "optim_args": "momentum=0.9", "learning_rate": 0.02, "seed": seed}
        trainer = build(tmp_path, method, "resnet", callbacks, **arguments)
        for model in (trainer.model, trainer.teacher):
            model.load_state_dict(trained("resnet", processor).state_dict())
        trainer.train(resume and str(tmp_path / resume))
        return trainer

    first = run(1, None, SaveAt(28))
    assert first.state.log_history[-1]["rewound_to_round"] < 3
    assert equal(weights(run(1, "checkpoint-28").model), weights(first.model))
    run(2)
    with pytest.raises(ValueError, match="no longer holds the weights that this run kept there"):
        run(1, "checkpoint-28")


def test_seconds_are_carried_over_and_evaluation_is_not_counted(tmp_path, monkeypatch):
    arguments = {**SHORT, "eval_strategy": "epoch"}
    whole = build(tmp_path, SHORT_SCRUB, **arguments)
    measure = whole.student_predictions
    monkeypatch.setattr(whole, "student_predictions", lambda: (time.sleep(0.5), measure())[1])
    started = time.perf_counter()
    whole.train()
    assert whole.unlearning_seconds < time.perf_counter() - started - 1.0  # that two evaluations took at least
    path = tmp_path / "checkpoint-20" / MARK
    mark = read_mark(path.parent)
    assert 0 < mark["seconds"] <= whole.unlearning_seconds
    path.write_text(json.dumps({**mark, "seconds": 1000.0}))
    again = build(tmp_path, SHORT_SCRUB, **arguments)
    again.train(resume_from_checkpoint=True)
    assert 1000 < again.unlearning_seconds < 1010
    anew = build(tmp_path / "new", SHORT_SCRUB)
    anew.train()
    assert anew.unlearning_seconds < 10


class TestIdentity:
    def test_it_is_the_same_in_every_process_and_json(self, tmp_path):
        def identity():
            trainer = build(tmp_path, LoTUS(alpha=3.0), learning_rate=1e-4)
            return run_identity(trainer.method, trainer.teacher, trainer.splits, trainer.args)

        first = identity()
        assert first == identity() == json.loads(json.dumps(first)) and differences(first, identity()) == []
        assert "u3" not in str(first) and len(first["model"]) == 64

    def test_samples_made_ready_are_read_once(self, tmp_path, monkeypatch):
        trainer, read = build(tmp_path, LoTUS()), []
        names = ("forget", "retain", "unseen")
        splits = {name: trainer.splits[name].select(range(50)) for name in names}
        monkeypatch.setattr(
            "hf_lotus.trainer.fingerprint.sample_contents", lambda one: read.append(one) or sample_contents(one)
        )
        first, again = (run_identity(trainer.method, trainer.teacher, splits, trainer.args) for _ in range(2))
        assert first == again and len(read) == 3
        splits["forget"] = trainer.splits["forget"].select(range(10, 60))
        other = run_identity(trainer.method, trainer.teacher, splits, trainer.args)
        assert differences(first, other) == ["the forget set"] and len(read) == 4

    def test_reading_samples_that_change_draws_no_numbers_of_the_run(self, tmp_path):
        class Noisy(torch.utils.data.Dataset):
            labels = torch.arange(20) % 10

            def __len__(self):
                return 20

            def __getitem__(self, row):
                return {"pixel_values": torch.rand(3, 16, 16), "labels": int(self.labels[row])}

        trainer = build(
            tmp_path, Finetune(), options={f"{n}_dataset": Noisy() for n in ("forget", "retain", "unseen")}
        )
        state = torch.random.get_rng_state()
        first = run_identity(trainer.method, trainer.teacher, trainer.splits, trainer.args)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert first == run_identity(trainer.method, trainer.teacher, trainer.splits, trainer.args)

    def test_tokens_and_other_columns(self, tmp_path):
        rows = {"input_ids": [[row, 1, 2] for row in range(100)], "labels": [0] * 100}
        changed = {**rows, "input_ids": [*rows["input_ids"][:99], [7, 7, 7]]}
        trainer = build(tmp_path, Finetune())
        first, second = (
            run_identity(trainer.method, trainer.teacher, {"forget": Dataset.from_dict(given)}, trainer.args)
            for given in (rows, changed)
        )
        assert differences(first, second) == ["the forget set"]
