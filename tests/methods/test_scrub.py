"""SCRUB: max and min passes in turn, their losses, the decay of the rate, and the rewind."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from hf_lotus.methods import SCRUB, Task
from tests.support.method_helpers import (
    class_wise_parts,
    cross_entropy,
    divergence,
    equal,
    loss_inputs,
    pixels_of,
    record_batches,
    trained,
    weights,
)

SMALL_SCALE = {"alpha": 0.5, "gamma": 1.0, "temperature": 2.0}


def passes_of(trainer):
    return [entry for entry in trainer.state.log_history if "pass" in entry]


class Rates(TrainerCallback):
    """The learning rate of every step."""

    def __init__(self):
        self.seen = []

    def on_step_begin(self, args, state, control, optimizer=None, **kwargs):
        self.seen.append(optimizer.param_groups[0]["lr"])


class TestLoss:
    def test_by_hand_with_the_squared_temperature(self):
        """Teacher (ln 9, 0) at T = 2: (3/4, 1/4). The student is undecided."""
        kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
        logits, teacher = torch.zeros(2, 2), torch.tensor([[math.log(9), 0.0]]).expand(2, 2)
        loss = SCRUB(**SMALL_SCALE).loss(loss_inputs(logits, [0, 0], [True, False], teacher_logits=teacher))
        assert loss.tolist() == pytest.approx([-4 * kl, math.log(2) + 0.5 * 4 * kl], rel=1e-6)

    @pytest.mark.parametrize("method", [SCRUB(), SCRUB(**SMALL_SCALE), SCRUB(gamma=0.0, alpha=2.0, temperature=0.5)])
    def test_against_float64(self, method):
        generator = torch.Generator().manual_seed(0)
        student, teacher = (2 * torch.randn(20, 5, generator=generator) for _ in range(2))
        labels, forget = torch.arange(20) % 5, torch.arange(20) % 3 == 0
        kl = method.temperature**2 * divergence(teacher, student, method.temperature)
        keep = method.gamma * cross_entropy(student, labels.numpy()) + method.alpha * kl
        loss = method.loss(loss_inputs(student, labels, forget, teacher_logits=teacher))
        assert loss.numpy() == pytest.approx(np.where(forget, -kl, keep), rel=1e-5)


class TestPasses:
    def test_max_comes_first_in_the_first_rounds_only_and_sides_never_mix(self, make, monkeypatch):
        method = SCRUB(**SMALL_SCALE, msteps=2, forget_batch_size=25)
        trainer = make("vit", method, {"num_train_epochs": 3, "per_device_train_batch_size": 64})
        seen = record_batches(trainer, monkeypatch)
        trainer.train()
        max_pass, min_pass = [(True, 25), (True, 25), (True, 10)], [(False, 64), (False, 64), (False, 52)]
        assert all(len(batch.is_forget.unique()) == 1 for batch in seen)
        sizes = [(bool(batch.is_forget[0]), len(batch.is_forget)) for batch in seen]
        assert sizes == (max_pass + min_pass) * 2 + min_pass
        assert [entry["pass"] for entry in passes_of(trainer)] == ["max", "min", "max", "min", "min"]
        assert [entry["epoch"] for entry in passes_of(trainer)] == [0.5, 1.0, 1.5, 2.0, 3.0]
        for shown in (seen[:3], seen[6:9]):
            assert sorted(torch.cat([batch.position for batch in shown]).tolist()) == list(range(60))

    def test_the_default_batches_are_of_32_forgotten_and_128_retained(self, make, monkeypatch):
        open_arguments = ("learning_rate", "num_train_epochs", "per_device_train_batch_size")
        trainer = make("vit", SCRUB(), {**dict.fromkeys(open_arguments), "max_steps": 4})
        seen = record_batches(trainer, monkeypatch)
        trainer.train()
        assert [len(batch.is_forget) for batch in seen] == [32, 28, 128, 52]
        assert [bool(batch.is_forget[0]) for batch in seen] == [True, True, False, False]

    def test_without_max_rounds_the_forget_set_is_never_shown(self, make, monkeypatch):
        trainer = make("vit", SCRUB(msteps=0))
        seen = record_batches(trainer, monkeypatch)
        trainer.train()
        assert not torch.cat([batch.is_forget for batch in seen]).any()

    @pytest.mark.parametrize("family", ["vit", "resnet"])
    def test_the_losses_and_the_divergence_tell_the_passes_apart(self, make, parts, processor, monkeypatch, family):
        """Max losses are negative and the forget set's divergence from the teacher rises; min losses are positive."""
        pixels, _ = pixels_of(parts["forget"], processor)
        arguments = {"num_train_epochs": 3, "optim": "sgd", "optim_args": "momentum=0.9", "learning_rate": 5e-3}
        trainer = make(trained(family, processor), SCRUB(**SMALL_SCALE, msteps=3), arguments)
        seen = record_batches(trainer, monkeypatch)
        trainer.train()
        losses = {name: [e["loss"] for e in passes_of(trainer) if e["pass"] == name] for name in ("max", "min")}
        assert len(losses["max"]) == len(losses["min"]) == 3
        assert losses["max"][0] <= 1e-6 and all(loss < 0 for loss in losses["max"][1:])
        assert all(loss > 0 for loss in losses["min"])

        def forget_divergence(values):
            model = trained(family, processor).eval()
            model.load_state_dict(values)
            with torch.no_grad():
                return divergence(trainer.teacher(pixels).logits, model(pixels).logits, 2.0).mean()

        # A round is 2 max and 6 min batches.
        borders = [forget_divergence(seen[step].weights) for step in (8, 10, 16, 18)]
        assert borders[1] > borders[0] and borders[3] > borders[2]

    def test_the_first_max_pass_does_nothing_where_student_and_teacher_agree_exactly(self, make, processor):
        """Without dropout or BatchNorm the student starts as the teacher: KL is at its minimum, its gradient zero.

        Such a model leaves the teacher in the first min pass, and only a second max pass has anything to raise.
        """
        arguments = {"optim": "sgd", "learning_rate": 5e-4, "weight_decay": 0.0, "per_device_train_batch_size": 256}
        moved = {}
        for family in ("vit", "resnet"):
            trainer = make(
                trained(family, processor), SCRUB(forget_batch_size=60), {**arguments, "max_steps": 1}
            )  # one max batch
            before = weights(trainer.model)
            trainer.train()
            named = trainer.model.named_parameters()
            moved[family] = max((value.detach() - before[name]).abs().max().item() for name, value in named)
        assert moved["vit"] < 1e-7 and moved["resnet"] > 1e-5  # in training a ResNet sees the batch's statistics


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_the_rate_is_divided_by_ten_after_the_decay_rounds(make, schedule):
    """A round is 2 + 3 steps, or 3 without a max pass: 16 steps in four rounds, decayed after the first and third."""
    rates = Rates()
    method = SCRUB(msteps=2, forget_batch_size=32, lr_decay_rounds=(1, 3))
    arguments = {"num_train_epochs": 4, "per_device_train_batch_size": 64, "learning_rate": 1e-3}
    make("vit", method, {**arguments, "lr_scheduler_type": schedule}, callbacks=[rates]).train()
    factors = [1.0] * 5 + [0.1] * 5 + [0.1] * 3 + [0.01] * 3
    line = [1.0 if schedule == "constant" else 1 - step / 16 for step in range(16)]
    assert rates.seen == pytest.approx([1e-3 * f * part for f, part in zip(factors, line, strict=True)], rel=1e-9)


class TestRewind:
    # Ascent at this rate destroys the forget accuracy at once; then it returns, past the reference.
    ARGUMENTS = {"num_train_epochs": 5, "optim": "sgd", "optim_args": "momentum=0.9", "learning_rate": 0.02}
    METHOD = SCRUB(**SMALL_SCALE, msteps=2)

    def test_the_run_ends_with_the_weights_of_the_round_nearest_to_the_unseen_accuracy(
        self, make, parts, processor, tmp_path
    ):
        arguments = {**self.ARGUMENTS, "save_strategy": "epoch", "save_total_limit": 9}
        saved = make(trained("resnet", processor), self.METHOD, arguments)
        saved.train()
        folders = sorted((tmp_path / "out").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        models = [type(saved.model).from_pretrained(folder) for folder in folders]
        assert len(models) == 5 and equal(weights(models[-1]), weights(saved.model))

        def correct(model, split):
            pixels, labels = pixels_of(parts[split], processor)
            with torch.no_grad():
                return (model.eval()(pixels).logits.argmax(dim=1) == labels).double(), labels

        # The accuracy on unseen data class by class, each weighted by its share of the forget set.
        hits, labels = correct(saved.teacher, "unseen")
        forget = torch.tensor(parts["forget"]["label"])
        reference = sum((forget == c).double().mean() * hits[labels == c].mean() for c in forget.unique()).item()
        assert abs(reference - hits.mean().item()) > 1e-3  # the test can tell the weighting
        distances = [abs(correct(model, "forget")[0].mean().item() - reference) for model in models]
        best = distances.index(min(distances))
        assert best < 4  # else there is nothing to rewind

        rewound = make(trained("resnet", processor), replace(self.METHOD, rewind=True), self.ARGUMENTS)
        rewound.train()
        assert equal(weights(rewound.model), weights(models[best]))
        assert not equal(weights(rewound.model), weights(saved.model))
        logged = [entry["distance"] for entry in rewound.state.log_history if "after_round" in entry]
        assert logged == pytest.approx(distances, abs=1e-9)
        ends = [entry for entry in rewound.state.log_history if "rewound_to_round" in entry]
        assert [entry["rewound_to_round"] for entry in ends] == [best]

    def test_the_reference_of_whole_classes_is_zero_and_needs_no_unseen_set(self, make, digits, processor):
        parts = class_wise_parts(digits, (3,))
        model = trained("resnet", processor)
        trainer = make(model, replace(self.METHOD, rewind=True), {**self.ARGUMENTS, "num_train_epochs": 2}, **parts)
        trainer.train()
        after = [entry for entry in trainer.state.log_history if "after_round" in entry]
        best = min(after, key=lambda entry: entry["distance"])
        pixels, labels = pixels_of(parts["forget_dataset"], processor)
        with torch.no_grad():
            accuracy = (trainer.model.eval()(pixels).logits.argmax(dim=1) == labels).double().mean().item()
        assert accuracy == pytest.approx(best["distance"], abs=1e-12)

    def test_without_it_no_distance_is_taken_and_with_it_unseen_data_is_needed(self, make):
        assert SCRUB().round_distance(None) is None
        assert (SCRUB().needs_unseen, SCRUB(rewind=True).needs_unseen) == (False, True)
        make("vit", SCRUB(), unseen_dataset=None)
        with pytest.raises(ValueError, match="SCRUB needs"):
            make("vit", SCRUB(rewind=True), unseen_dataset=None)


@pytest.mark.parametrize(
    "fields",
    [{"alpha": -0.1}, {"alpha": math.nan}, {"gamma": -1.0}, {"temperature": 0.0}, {"temperature": math.nan}]
    + [{"msteps": -1}, {"forget_batch_size": 0}],
)  # fmt: skip
def test_fields_out_of_range_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        SCRUB(**fields)


@pytest.mark.parametrize("family", ["resnet", "vit"])
def test_defaults_are_the_papers_at_large_scale_but_for_whole_classes(tiny_model, family):
    method = SCRUB()
    assert method.default_arguments(Task(tiny_model(family), True, 10, (3,)))["learning_rate"] == 1e-4
    assert (method.gamma, method.alpha, method.temperature, method.msteps) == (0.99, 0.001, 4.0, 2)
    assert method.default_arguments(Task(tiny_model(family), False, 10, ())) == {
        "learning_rate": 5e-4,
        "optim": "sgd",
        "optim_args": "momentum=0.9",
        "num_train_epochs": 3,
        "per_device_train_batch_size": 128,
    }
    assert SCRUB(lr_decay_rounds=[5, 8, 9]).lr_decay_rounds == (5, 8, 9)
