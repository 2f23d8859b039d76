"""A run that was broken off goes on to the same weights and the same log, wherever it was broken off."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hf_lotus.methods import SCRUB
from tests.support.every_method import EVERY_METHOD, KINDS, SHORT_SCRUB, SaveAt, build, by_kind, decisions, options_of
from tests.support.method_helpers import equal, trained, weights

ADAM = {"optim": "adamw_torch", "learning_rate": 1e-3, "weight_decay": 5e-4}


def resumed(folder, step, method, *args, **kwargs):
    """A freshly built trainer that goes on from a checkpoint."""
    trainer = build(folder, method, *args, **kwargs)
    trainer.train(str(folder / f"checkpoint-{step}"))
    return trainer


def losses(trainer):
    return [(e["step"], e["loss"], e.get("pass")) for e in trainer.state.log_history if "loss" in e]


@pytest.mark.parametrize("name", by_kind(EVERY_METHOD))
def test_every_method_ends_with_the_same_bits(tmp_path, name):
    """Three rounds; broken off within the second, and of each kind of method also before it was decided, and after it.

    UNSIR is broken off between impair and repair, and random labels are drawn for rounds before and after.
    """
    method, options = EVERY_METHOD[name], options_of(name)
    arguments = {**ADAM, "num_train_epochs": 3, "lr_scheduler_type": "cosine", "options": options}
    first = build(tmp_path / "first", method, **arguments)
    first.get_train_dataloader()
    border, within = first.sampler.first_step(1), first.sampler.first_step(1) + 2
    end = first.sampler.first_step(2)
    assert border < within < end
    whole = build(tmp_path, method, callbacks=[SaveAt(border, within, rounds=(2,))], **arguments)
    whole.train()
    assert not equal(weights(whole.model), weights(first.model))
    assert [entry["round"] for entry in decisions(whole)] == [0, 1, 2]
    for step in (border, within, end) if name in KINDS else (within,):
        again = resumed(tmp_path, step, method, **arguments)
        assert again.state.global_step == whole.state.global_step
        assert equal(weights(again.model), weights(whole.model))
        assert decisions(again) == decisions(whole)
        assert losses(again)[-1] == losses(whole)[-1]  # the last round was trained whole in both


@pytest.mark.parametrize(
    "family", by_kind(["vit", "vit with dropout", "resnet", "swin"], {"vit with dropout", "resnet"})
)
def test_every_family_ends_with_the_same_bits_beside_evaluation(tmp_path, family):
    arguments = {**ADAM, "num_train_epochs": 3, "save_strategy": "steps", "eval_strategy": "epoch"}
    method = EVERY_METHOD["lotus"]  # four steps a round
    whole = build(tmp_path, method, family, save_steps=1, **arguments)
    whole.train()
    assert whole.state.global_step == 12
    for step in (3, 5, 8):
        again = resumed(tmp_path, step, method, family, save_steps=20, **arguments)
        assert equal(weights(again.model), weights(whole.model)) and decisions(again) == decisions(whole)


@pytest.mark.parametrize(
    "name", by_kind(["neggrad_plus", "scrub", "unsir of samples", "salun of lotus"], {"scrub", "salun of lotus"})
)
def test_within_accumulated_steps_of_a_resnet_with_augmentation(tmp_path, name):
    arguments = {**ADAM, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 16, "crop_padding": 1}
    whole = build(tmp_path, EVERY_METHOD[name], "resnet", callbacks=[SaveAt(3)], horizontal_flip=True, **arguments)
    whole.train()
    again = resumed(tmp_path, 3, EVERY_METHOD[name], "resnet", horizontal_flip=True, **arguments)
    assert equal(weights(again.model), weights(whole.model)) and decisions(again) == decisions(whole)


# Of rounds of 4 + 6, 4 + 6 and 6 steps.
SCRUB_STEPS = {
    "within the first max pass": 2,
    "between the passes": 4,
    "within a min pass": 7,
    "within the second max pass": 12,
    "between rounds": 20,
    "within a round without max pass": 22,
    "at the end": 26,
}


def test_scrub_goes_on_from_within_either_pass(tmp_path):
    arguments = {**ADAM, "num_train_epochs": 3, "lr_scheduler_type": "cosine"}
    method = replace(SHORT_SCRUB, lr_decay_rounds=(1, 2))
    whole = build(tmp_path, method, callbacks=[SaveAt(*SCRUB_STEPS.values())], **arguments)
    whole.train()
    ends = [(step, side) for step, _, side in losses(whole)]
    assert ends == [(4, "max"), (10, "min"), (14, "max"), (20, "min"), (26, "min")]
    for place, step in SCRUB_STEPS.items():
        again = resumed(tmp_path, step, method, **arguments)
        assert equal(weights(again.model), weights(whole.model)), place
        assert decisions(again) == decisions(whole), place
        # Every pass that began after the checkpoint has its loss again.
        later = [entry for entry, end in zip(losses(whole), [0, 4, 10, 14, 20], strict=True) if end >= step]
        assert losses(again)[len(losses(again)) - len(later) :] == later, place


class TestRewind:
    """SCRUB+R whose best of four rounds is neither the first nor the last."""

    METHOD = SCRUB(alpha=0.5, gamma=1.0, temperature=2.0, msteps=2, forget_batch_size=32, rewind=True)
    ARGUMENTS = {"num_train_epochs": 4, "optim_args": "momentum=0.9", "learning_rate": 0.02}  # rounds of 8, 8, 6, 6

    def run(self, folder, processor, *callbacks, step=None, **arguments):
        trainer = build(folder, self.METHOD, "resnet", callbacks, **{**self.ARGUMENTS, **arguments})
        trainer.model.load_state_dict(trained("resnet", processor).state_dict())
        trainer.teacher.load_state_dict(trainer.model.state_dict())
        trainer.train(step and str(folder / f"checkpoint-{step}"))
        return trainer

    def test_the_best_round_is_found_again_whether_it_lies_before_or_after_the_checkpoint(self, tmp_path, processor):
        whole = self.run(tmp_path, processor, SaveAt(3, 8, 10, 16, 22, 25, rounds=(4,)))
        after = {e["after_round"]: e["distance"] for e in decisions(whole) if "after_round" in e}
        best = min(after, key=after.get)
        assert sorted(after) == [0, 1, 2, 3] and 0 < best < 3, after
        assert decisions(whole)[-1]["rewound_to_round"] == best
        last = type(whole.model).from_pretrained(tmp_path / "checkpoint-28")
        assert not equal(weights(last), weights(whole.model))
        for step in (3, 8, 10, 16, 22, 25, 28):
            again = self.run(tmp_path, processor, step=step)
            assert equal(weights(again.model), weights(whole.model)), step
            assert decisions(again) == decisions(whole), step

    def test_a_last_round_that_is_not_whole_is_left_behind(self, tmp_path, processor):
        """It is never measured, so that the run ends with the best of the whole ones."""
        first = self.run(tmp_path / "one", processor, num_train_epochs=1)
        longer = self.run(tmp_path / "more", processor, max_steps=11)
        assert longer.state.epoch == 1 + 3 / 8
        assert [e["rewound_to_round"] for e in decisions(longer) if "rewound_to_round" in e] == [0]
        assert equal(weights(longer.model), weights(first.model))


def test_a_finished_run_that_ended_within_a_round_takes_no_further_step(tmp_path):
    whole = build(tmp_path, SHORT_SCRUB, callbacks=[SaveAt(13)], max_steps=13)
    whole.train()
    again = resumed(tmp_path, 13, SHORT_SCRUB, max_steps=13)
    assert again.state.global_step == 13 and equal(weights(again.model), weights(whole.model))


def test_without_skipping_data_the_round_is_taken_once_more_from_its_first_pass(tmp_path, monkeypatch):
    build(tmp_path, SHORT_SCRUB, callbacks=[SaveAt(12)], num_train_epochs=3).train()
    again = build(tmp_path, SHORT_SCRUB, num_train_epochs=3, ignore_data_skip=True)
    seen, compute = [], again.compute_loss

    def recorded(model, inputs, *args, **kwargs):
        seen.append((again._rounds.current_pass.name, bool(inputs["is_forget"].any())))
        return compute(model, inputs, *args, **kwargs)

    monkeypatch.setattr(again, "compute_loss", recorded)
    again.train(str(tmp_path / "checkpoint-12"))
    # The second round whole, and of the third what the number of steps leaves.
    assert seen == [("max", True)] * 4 + [("min", False)] * 6 + [("min", False)] * 4
    assert again.state.global_step == 26


def test_the_mask_of_salun_is_that_of_the_original_after_a_resume(tmp_path):
    method = EVERY_METHOD["salun"]
    whole = build(tmp_path, method, callbacks=[SaveAt(9)], **ADAM)
    mask, original = method.mask(whole.run), weights(whole.model)
    whole.train()
    again = resumed(tmp_path, 9, method, **ADAM)
    assert all(torch.equal(mask[name], value) for name, value in method.mask(again.run).items())
    for name, parameter in again.model.named_parameters():
        assert torch.equal(parameter[~mask[name]], original[name][~mask[name]])
    moved = [(parameter != original[name])[mask[name]] for name, parameter in again.model.named_parameters()]
    assert torch.cat(moved).double().mean() > 0.9
