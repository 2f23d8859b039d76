"""Margin matching: targets derived by hand, what they leave alone, and the claim that decisions follow confidence."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import load_dataset
from transformers import AutoImageProcessor, AutoModelForImageClassification

from hf_lotus import ForgetRetainSplit, UnlearningArguments, UnlearningTrainer
from hf_lotus.functional.margins import fitted_temperature, margins, matched_margins
from hf_lotus.methods import LossInputs, LoTUS, MarginMatching, SalUn, Task
from hf_lotus.methods.margin_matching import Targets
from tests.conftest import TINY_MODELS
from tests.support.every_method import SaveAt, build
from tests.support.method_helpers import (
    class_wise_parts,
    equal,
    log_softmax,
    pixels_of,
    record_batches,
    trained,
    weights,
)


def run_of(forget, forget_labels, unseen, unseen_labels, class_wise=False):
    """A run in which the teacher's logits are given."""
    given = {"forget": (forget, forget_labels), "unseen": (unseen, unseen_labels)}
    splits = {n: SimpleNamespace(logits=np.float32(z), labels=np.array(y)) for n, (z, y) in given.items()}
    return SimpleNamespace(class_wise=class_wise, num_forget=len(forget), teacher_predictions=splits.__getitem__)


def batch(logits, teacher, labels, is_forget, state, positions=None, seed=0):
    return LossInputs(
        logits=torch.as_tensor(logits, dtype=torch.float32),
        teacher_logits=torch.as_tensor(teacher, dtype=torch.float32),
        labels=torch.as_tensor(labels),
        is_forget=torch.as_tensor(is_forget),
        positions=torch.arange(len(labels)) if positions is None else torch.as_tensor(positions),
        state=state,
        generator=torch.Generator().manual_seed(seed),
    )


def targets_of(inputs):
    """The targets of a batch, read off the gradient: for cross-entropy, ∂loss/∂s = softmax(s)·Σtarget − target."""
    student = torch.zeros_like(inputs.logits, requires_grad=True)
    MarginMatching().loss(LossInputs(**{**vars(inputs), "logits": student})).sum().backward()
    return torch.softmax(student.detach(), dim=1) - student.grad


# Class 0: forget margins 3 and 1, unseen margins 1 and −2. Class 1: one margin of 2 against one of 0.5.
FORGET = [[4.0, 1.0, 0.0], [2.0, 1.0, -1.0], [0.0, 5.0, 3.0]], [0, 0, 1]
UNSEEN = [[1.0, 0.0, -1.0], [0.0, 2.0, 1.0], [1.5, 2.0, 0.0]], [0, 0, 1]


class TestByHand:
    def test_the_shifts_and_the_temperature(self):
        targets = MarginMatching(pool_below=1).prepare(run_of(*FORGET, *UNSEEN))
        assert targets.shifts.tolist() == [1 - 3, -2 - 1, 0.5 - 2] and targets.temperature == 1.0
        assert MarginMatching(temperature=1.3).prepare(run_of(*FORGET, *UNSEEN)).temperature == 1.3
        fitted = MarginMatching(fit_temperature=True).prepare(run_of(*FORGET, *UNSEEN)).temperature
        assert fitted == fitted_temperature(np.array(UNSEEN[0]), np.array(UNSEEN[1])) != 1

    def test_the_loss(self):
        """In float64, with a forget sample of shift −3 and T = 2: its logits become (−1, 1, −1)/2."""
        state = Targets(torch.tensor([-2.0, -3.0, -1.5]), temperature=2.0)
        student = [[0.3, -0.2, 0.1]]
        target = np.exp(log_softmax([[-0.5, 0.5, -0.5]]))
        expected = -(target * log_softmax(student)).sum(axis=1)
        given = MarginMatching().loss(batch(student, [[2.0, 1.0, -1.0]], [0], [True], state, positions=[1]))
        assert given.numpy() == pytest.approx(expected, rel=1e-6)

    def test_an_augmented_sample_keeps_its_shift(self):
        """The teacher sees the augmented image, and its logit there is shifted as far."""
        state = Targets(torch.tensor([-2.0]), temperature=1.0)
        target = targets_of(batch([[0.0] * 3], [[1.0, 2.5, 0.0]], [0], [True], state))
        torch.testing.assert_close(target, torch.softmax(torch.tensor([[-1.0, 2.5, 0.0]]), dim=1))

    def test_whole_classes_get_no_probability_and_need_no_unseen_set(self):
        run = SimpleNamespace(class_wise=True, num_forget=2)
        state = MarginMatching(temperature=2.0).prepare(run)
        assert state.shifts.tolist() == [-math.inf, -math.inf] and state.temperature == 2.0
        inputs = batch([[0.1, 0.2, 0.3]] * 2, [[9.0, 2.0, 0.0], [9.0, 2.0, 0.0]], [0, 2], [True, True], state)
        expected = torch.softmax(torch.tensor([[-math.inf, 1.0, 0.0], [4.5, 1.0, -math.inf]]), dim=1)
        torch.testing.assert_close(targets_of(inputs), expected, rtol=1e-5, atol=1e-6)
        assert torch.isfinite(MarginMatching().loss(inputs)).all()
        with pytest.raises(ValueError, match="fit_temperature needs unseen samples of the forgotten classes"):
            MarginMatching(fit_temperature=True).prepare(run)


def random_logits(seed, count=120, classes=4):
    generator = np.random.default_rng(seed)
    return 1.5 * generator.normal(size=(count, classes)), generator.integers(classes, size=count)


class TestTargets:
    def test_margins_become_those_of_unseen_samples_and_other_logits_stay(self):
        forget, unseen = random_logits(0), random_logits(1)
        state = MarginMatching(pool_below=1).prepare(run_of(*forget, *unseen))
        logits = torch.as_tensor(forget[0], dtype=torch.float32)
        labels = forget[1]
        target = targets_of(batch(logits, logits, labels, [True] * len(labels), state)).double()
        expected = matched_margins(margins(*forget), labels, margins(*unseen), unseen[1], pool_below=1)
        np.testing.assert_allclose(margins(target.log().numpy(), labels), expected, atol=1e-3)
        # Of two classes that are not the sample's own, the ratio of probabilities is the teacher's.
        others = ~torch.nn.functional.one_hot(torch.as_tensor(labels), 4).bool()
        kept = [x[others].view(-1, 3) for x in (target.log(), logits.double())]
        torch.testing.assert_close(*(x - x[:, :1] for x in kept), rtol=0, atol=1e-3)

    def test_where_forget_and_unseen_are_one_sample_the_teachers_own_predictions_are_the_target(self):
        forget = random_logits(2)
        order = np.random.default_rng(0).permutation(len(forget[1]))
        run = run_of(*forget, forget[0][order], forget[1][order])
        for method in (MarginMatching(), MarginMatching(pool_below=1)):
            state = method.prepare(run)
            assert not state.shifts.any()
            inputs = batch(forget[0], forget[0], forget[1], [True] * 120, state)
            expected = torch.softmax(inputs.teacher_logits, dim=1)
            torch.testing.assert_close(targets_of(inputs), expected, rtol=1e-5, atol=1e-6)

    def test_retained_samples_have_the_targets_of_lotus(self):
        logits, labels = random_logits(3)
        state = Targets(torch.full((7,), -5.0), 2.0)  # fewer forget samples than the batch has samples
        inputs = batch(random_logits(4)[0], logits, labels, [False] * 120, state)
        again = LossInputs(
            **{**vars(inputs), "round_values": {"temperature": 3.0}, "generator": torch.Generator().manual_seed(0)}
        )
        torch.testing.assert_close(MarginMatching().loss(inputs), LoTUS().loss(again), rtol=0, atol=0)


class TestARun:
    @pytest.mark.parametrize("family", ["vit", "resnet"])
    def test_each_sample_of_a_batch_gets_its_own_shift(self, make, parts, processor, monkeypatch, family):
        trainer = make(trained(family, processor), MarginMatching(pool_below=5), {"num_train_epochs": 1})
        seen = record_batches(trainer, monkeypatch)
        trainer.train()
        original = {split: trainer.evaluator.original_predictions(split) for split in ("forget", "unseen")}
        assert original["forget"].labels.tolist() == parts["forget"]["label"]
        before, there = (margins(p.logits, p.labels) for p in original.values())
        labels = original["forget"].labels
        expected = matched_margins(before, labels, there, original["unseen"].labels, pool_below=5) - before
        np.testing.assert_allclose(trainer.hooks.state.shifts.numpy(), expected, atol=1e-5)
        assert len(np.unique(np.round(expected, 4))) > 30  # a mix-up would be seen
        met = []
        for given in seen:
            rows = given.position[given.is_forget]
            assert given.labels[given.is_forget].tolist() == labels[rows].tolist()
            with torch.no_grad():
                images = trainer.splits["forget"]
                pixels = images.finish({k: v for k, v in images.__getitems__(rows.tolist()).items() if k != "labels"})
                logits = trainer.teacher(**pixels).logits
            torch.testing.assert_close(logits.numpy(), original["forget"].logits[rows], rtol=1e-4, atol=1e-4)
            met += rows.tolist()
        assert sorted(met) == list(range(60))

    def test_the_original_is_asked_once(self, make, processor):
        trainer = make(trained("vit", processor), MarginMatching())
        trainer.run.teacher_predictions("forget"), trainer.run.teacher_predictions("unseen")
        asked = []
        trainer.teacher.register_forward_hook(lambda *_: asked.append(1))
        trainer.method.prepare(trainer.run)
        assert not asked

    def test_resumed_within_a_round_it_ends_with_the_same_bits(self, tmp_path):
        whole = build(tmp_path, MarginMatching(), callbacks=[SaveAt(5)])
        whole.train()
        resumed = build(tmp_path, MarginMatching())
        resumed.train(str(tmp_path / "checkpoint-5"))
        assert equal(weights(resumed.model), weights(whole.model))

    def test_an_unseen_set_is_needed(self, make):
        with pytest.raises(ValueError, match="MarginMatching needs unseen_dataset"):
            make("vit", MarginMatching(), unseen_dataset=None)

    def test_an_unseen_set_of_other_classes_is_refused(self, make, digits):
        labels = np.array(digits["label"])
        pick = lambda condition: digits.select(np.flatnonzero(condition))  # noqa: E731
        middle = np.arange(len(labels)) % 2 == 0
        sets = {"forget_dataset": pick((labels < 2) & middle), "retain_dataset": pick((labels < 2) & ~middle)}
        trainer = make("vit", MarginMatching(), unseen_dataset=pick(labels > 5), eval_dataset=None, **sets)
        with pytest.raises(ValueError, match=r"no sample of any class of the forget set \(0, 1\)"):
            trainer.train()

    def test_within_salun_only_masked_weights_move_by_the_same_targets(self, make, processor):
        trainer = make(trained("resnet", processor), SalUn(MarginMatching(), saliency=0.3))
        mask, original = trainer.method.mask(trainer.run), weights(trainer.model)
        trainer.train()
        alone = make(trained("resnet", processor), MarginMatching())
        assert torch.equal(trainer.hooks.state.shifts, alone.method.prepare(alone.run).shifts)
        moved = {name: parameter.detach() != original[name] for name, parameter in trainer.model.named_parameters()}
        assert not any((moved[name] & ~mask[name]).any() for name in moved)
        assert torch.cat([moved[name][mask[name]] for name in moved]).double().mean() > 0.99


def mislabelled(parts):
    """The parts with a quarter of all labels wrong, which can be memorised and not be known of unseen samples."""
    generator, given = np.random.default_rng(0), {}
    for name, part in parts.items():
        wrong = generator.random(len(part)) < 0.25
        labels = (np.array(part["label"]) + wrong * generator.integers(1, 10, len(part))) % 10
        feature = part.features["label"]
        given[name] = part.remove_columns("label").add_column("label", labels, feature=feature)
    return given


@pytest.fixture(scope="module")
def memorised(parts, processor):
    """A function that gives a copy of a model that has learned all of the mislabelled samples by heart."""
    given = mislabelled(parts)
    pixels, labels = (
        torch.cat(both) for both in zip(*(pixels_of(given[n], processor) for n in ("forget", "retain")), strict=True)
    )
    model = TINY_MODELS["resnet"]()
    torch.manual_seed(0)
    model.apply(model._init_weights)
    optimizer = torch.optim.Adam(model.train().parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(pixels).logits, labels).backward()
        optimizer.step()
    return lambda: copy.deepcopy(model)


class TestTheClaim:
    ARGUMENTS = {"num_train_epochs": 30, "learning_rate": 1e-3}

    def unlearned(self, make, model, method, **options):
        trainer = make(model, method, self.ARGUMENTS, **options)
        trainer.train()
        return trainer.evaluator.yardstick.original, trainer.student_predictions()

    def test_decisions_follow_confidence(self, make, memorised, parts):
        """The forget accuracy of a model that has memorised goes to the unseen accuracy, where LoTUS leaves it."""
        distances, given = {}, mislabelled(parts)
        sets = {f"{name}_dataset": given[name] for name in ("forget", "retain", "unseen")}
        for method in (LoTUS(), MarginMatching()):
            before, after = self.unlearned(make, memorised(), method, **sets, eval_dataset=given["test"])
            assert before["forget"].accuracy > before["unseen"].accuracy + 0.3
            distances[type(method)] = after["forget"].accuracy - before["unseen"].accuracy
            assert after["retain"].accuracy > 0.9
        assert abs(distances[MarginMatching]) < 0.5 * distances[LoTUS]

    def test_of_whole_classes_nothing_is_left(self, make, processor, digits):
        before, after = self.unlearned(
            make, trained("resnet", processor), MarginMatching(), **class_wise_parts(digits)
        )
        assert before["forget"].accuracy > 0.9 and after["forget"].accuracy == 0
        assert after["retain"].accuracy > before["retain"].accuracy - 0.05


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"temperature": math.nan}, "temperature must be above 0"),
        ({"temperature": math.inf}, "temperature must be above 0"),
        ({"temperature": 1.2, "fit_temperature": True}, "not both"),
        ({"pool_below": 0}, "pool_below must be 1 or more samples, got 0"),
        ({"retain_fraction": 1.5}, "retain_fraction"),
    ],
)
def test_fields_out_of_range_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        MarginMatching(**fields)


@pytest.mark.parametrize("family", ["vit", "resnet"])
def test_rounds_rate_and_batch_are_those_of_lotus(tiny_model, family):
    task = Task(tiny_model(family), False, 10, ())
    assert MarginMatching().default_arguments(task) == LoTUS().default_arguments(task)
    assert MarginMatching().streams(task) == LoTUS().streams(task)


def test_the_real_checkpoint_forgets_to_the_bound(shared, tmp_path):
    """500 of the 5,000 rows and 1,500 retained ones; the known figures, of all rows, are in the documentation."""
    folder = shared / "checkpoints" / "cifar10-resnet"
    data = load_dataset(str(shared / "data" / "cifar10"))
    whole = ForgetRetainSplit.from_file(data["train"], folder / "forget_rows.json")
    held_out = ForgetRetainSplit.from_fraction(data["test"], 0.2)
    trainer = UnlearningTrainer(
        AutoModelForImageClassification.from_pretrained(folder / "original"),
        UnlearningArguments(str(tmp_path), use_cpu=True, disable_tqdm=True, save_strategy="no"),
        MarginMatching(),
        forget_dataset=whole.forget.select(range(500)),
        retain_dataset=whole.retain.select(range(1500)),
        unseen_dataset=held_out.forget,
        processing_class=AutoImageProcessor.from_pretrained(folder / "original", backend="pil"),
    )
    assert trainer.run.teacher_accuracy("unseen") == pytest.approx(0.80, abs=0.02)
    trainer.train()
    before, after = trainer.evaluator.yardstick.original, trainer.student_predictions()
    assert before["forget"].accuracy == pytest.approx(0.95, abs=0.02)
    assert after["forget"].accuracy == pytest.approx(before["unseen"].accuracy, abs=0.05)
    assert after["retain"].accuracy > before["retain"].accuracy - 0.02
    assert after["unseen"].accuracy > before["unseen"].accuracy - 0.02
