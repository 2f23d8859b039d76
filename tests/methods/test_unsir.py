"""UNSIR: what the noise is, that it replaces every forget image, and impair before repair."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from transformers import TrainerCallback

from hf_lotus.methods import UNSIR, Batch, Task
from hf_lotus.methods.unsir import learn_noise
from tests.support.method_helpers import (
    HandRun,
    class_wise_parts,
    cross_entropy,
    equal,
    loss_inputs,
    pixels_of,
    trained,
    weights,
)

SMALL = {"noise_batch_size": 8, "noise_batches": 3, "retain_per_class": 5}
RANGE = (torch.full((3, 1, 1), -1.0), torch.full((3, 1, 1), 1.0))  # of a processor with mean and deviation 1/2


@dataclass(frozen=True)
class Recorded(UNSIR):
    """UNSIR that notes what its loss is given."""

    seen: list = field(default_factory=list)

    def loss(self, inputs):
        self.seen.append(inputs)
        return super().loss(inputs)


class Rates(TrainerCallback):
    def __init__(self):
        self.seen = []

    def on_step_begin(self, args, state, control, optimizer=None, **kwargs):
        self.seen.append((int(state.epoch), optimizer.param_groups[0]["lr"]))


def shown_in_training(trainer):
    """A list that fills with the images that the student is trained on."""
    shown = []

    def note(module, args, kwargs):
        if module.training:
            shown.append(kwargs["pixel_values"].detach().clone())

    trainer.model.register_forward_pre_hook(note, with_kwargs=True)
    return shown


def contains(images, image):
    return (images.flatten(1) - image.flatten()).abs().amax(dim=1).min() < 1e-5


def run_of(model, pixels, labels, class_wise):
    teacher = trained_copy(model)
    task = Task(model, class_wise, 10, (3,))
    options = {"task": task, "class_wise": class_wise, "seed": 0, "input_range": RANGE}
    return HandRun(model, teacher, {"forget": [({"pixel_values": pixels}, labels)]}, **options)


def trained_copy(model):
    copied = type(model)(model.config)
    copied.load_state_dict(model.state_dict())
    return copied.eval().requires_grad_(False)


def class_noise(method, run):
    """The noise images that a run learns for class 3."""
    size = method.noise_batch_size
    batch = Batch(
        inputs={"pixel_values": torch.zeros(size, 3, 16, 16)}, labels=torch.full((size,), 3),
        is_forget=torch.ones(size, dtype=torch.bool), positions=torch.arange(size), state=method.prepare(run),
    )  # fmt: skip
    return method.transform(batch, run.student).inputs["pixel_values"]


@pytest.fixture
def pixels(parts, processor):
    return pixels_of(parts["forget"], processor)


class TestNoise:
    def test_the_first_adam_step_by_hand(self):
        """Adam's first step is the rate times the gradient's sign, whatever the gradient's size."""
        slope = torch.tensor([1.0, -20.0, 0.3]).view(1, 3, 1, 1)
        first, moved = (
            learn_noise(lambda n: (slope * n).sum(), (4, 3, 2, 2), RANGE, steps, 0.1, torch.Generator().manual_seed(0))
            for steps in (0, 1)
        )
        torch.testing.assert_close(moved, (first - 0.1 * slope.sign()).clamp(-1, 1))
        drawn = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
        assert torch.equal(first, drawn.clamp(-1, 1)) and not moved.requires_grad

    @pytest.mark.parametrize("family", ["vit", "resnet"])
    def test_of_a_class_it_maximises_the_error_within_the_range_of_the_inputs(self, processor, pixels, family):
        model = trained(family, processor).train()
        run = run_of(model, *pixels, class_wise=True)
        first, learned = (class_noise(UNSIR(noise_steps=n, noise_batch_size=32), run) for n in (1, 40))
        labels = torch.full((32,), 3)

        def error(noise):
            with torch.no_grad():
                return F.cross_entropy(run.teacher(noise).logits, labels).item()

        assert error(learned) > error(first) + 1.0
        assert learned.min() >= -1.0 and learned.max() <= 1.0
        assert first.min() < -0.5  # the range of the normalised inputs, and not that of pixels
        # The penalty holds the norm down.
        free = class_noise(UNSIR(noise_batch_size=32, noise_weight=0.0), run)
        assert learned.square().mean() < 0.5 * free.square().mean()
        assert torch.equal(learned, class_noise(UNSIR(noise_batch_size=32), run))  # from the seed alone, 40 steps

    @pytest.mark.parametrize("family", ["vit", "resnet"])
    def test_of_samples_it_moves_the_outputs_away_from_theirs(self, processor, pixels, family):
        model = trained(family, processor).train()
        images, labels = pixels[0][:20], pixels[1][:20]
        forget = torch.arange(20) < 10

        def noise_after(steps):
            method = UNSIR(noise_steps=steps)
            batch = Batch(
                inputs={"pixel_values": images}, labels=labels, is_forget=forget, positions=torch.arange(20),
                state=method.prepare(run_of(model, *pixels, class_wise=False)),
                generator=torch.Generator().manual_seed(0),
            )  # fmt: skip
            return method.transform(batch, model).inputs["pixel_values"]

        def distance(shown):
            with torch.no_grad():
                logits = [trained_copy(model)(given[forget]).logits for given in (shown, images)]
            return F.mse_loss(*logits).item()

        first, learned, default = (noise_after(steps) for steps in (1, 5, None))
        assert distance(learned) > distance(first)
        assert torch.equal(default, learned)
        assert learned.min() >= -1.0 and learned.max() <= 1.0 and learned[forget].min() < -0.9
        assert torch.equal(learned[~forget], images[~forget])
        assert not any(contains(images, image) for image in learned[forget])

    @pytest.mark.parametrize("class_wise", [True, False])
    def test_learning_it_leaves_the_models_and_their_gradients_as_they_were(self, processor, pixels, class_wise):
        model = trained("resnet", processor).train()
        for number, parameter in enumerate(model.parameters()):
            parameter.grad = torch.full_like(parameter, float(number))
        before = weights(model)
        run = run_of(model, *pixels, class_wise=class_wise)
        method = UNSIR(noise_batch_size=4, noise_steps=2)
        batch = Batch(
            inputs={"pixel_values": pixels[0]}, labels=torch.full((60,), 3), is_forget=torch.arange(60) < 30,
            positions=torch.arange(60), state=method.prepare(run), generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        shown = method.transform(batch, model).inputs["pixel_values"]
        assert not torch.equal(shown, pixels[0])
        assert all((p.grad == number).all() for number, p in enumerate(model.parameters()))
        assert all(parameter.grad is None for parameter in run.teacher.parameters())
        assert equal(weights(model), before) and all(module.training for module in model.modules())

    def test_inputs_that_are_no_images_are_refused(self):
        run = HandRun(None, None, {"forget": [({"input_ids": torch.ones(2, 3)}, torch.tensor([0, 1]))]})
        with pytest.raises(TypeError, match="UNSIR learns noise images, and the model's inputs are input_ids"):
            UNSIR().prepare(run)


class TestClasses:
    @pytest.mark.parametrize("classes", [(3,), (3, 7)])
    def test_each_noise_image_is_shown_as_often_as_said_and_no_forget_image_ever(
        self, make, digits, processor, classes
    ):
        parts, method = class_wise_parts(digits, classes), Recorded(**SMALL, noise_steps=2)
        trainer = make(trained("resnet", processor), method, {"num_train_epochs": 3}, **parts)
        shown = shown_in_training(trainer)
        trainer.train()
        originals, _ = pixels_of(parts["forget_dataset"], processor)
        retained, _ = pixels_of(parts["retain_dataset"], processor)
        rounds = [[inputs for inputs in method.seen if inputs.round_index == index] for index in range(3)]
        impair = torch.cat([inputs.is_forget for inputs in rounds[0]])
        assert int(impair.sum()) == 24 * len(classes) and int((~impair).sum()) == 5 * (10 - len(classes))
        for repair in rounds[1:]:  # impair comes first and once
            assert sum(len(inputs.labels) for inputs in repair) == 5 * (10 - len(classes))
            assert not any(inputs.is_forget.any() for inputs in repair)
        images = torch.cat(shown)
        kept = ~torch.cat([inputs.is_forget for inputs in method.seen])
        labels = torch.cat([inputs.labels for inputs in method.seen])
        assert not any(contains(originals, image) for image in images)
        assert all(contains(retained, image) for image in images[kept])
        for label in classes:
            noise, times = images[~kept & (labels == label)].unique(dim=0, return_counts=True)
            assert noise.shape[0] == 8 and times.tolist() == [3] * 8
        assert set(labels[~kept].tolist()) == set(classes) and not set(labels[kept].tolist()) & set(classes)

    def test_the_rate_is_halved_for_repair(self, make, digits, processor):
        rates = Rates()
        arguments = {"num_train_epochs": 3, "learning_rate": 0.02}
        method = UNSIR(**SMALL, noise_steps=1)
        make(trained("vit", processor), method, arguments, callbacks=[rates], **class_wise_parts(digits)).train()
        assert {index: rate for index, rate in rates.seen} == {0: 0.02, 1: 0.01, 2: 0.01}


class TestSamples:
    def test_impair_shows_noise_under_the_labels_of_its_retain_batch_and_repair_the_retain_set(
        self, make, parts, processor
    ):
        method, rates = Recorded(retain_per_class=10), Rates()
        trainer = make(trained("resnet", processor), method, {"num_train_epochs": 2}, callbacks=[rates])
        shown = shown_in_training(trainer)
        trainer.train()
        originals, retained = (pixels_of(parts[name], processor)[0] for name in ("forget", "retain"))
        assert not any(contains(originals, image) for image in torch.cat(shown))
        impair = [inputs for inputs in method.seen if inputs.round_index == 0]
        sides = [(int(inputs.is_forget.sum()), int((~inputs.is_forget).sum())) for inputs in impair]
        assert sides == [(32, 32), (32, 32), (32, 32), (32, 4)]  # 100 of 180 retain samples, ten of each class
        # Each side in a forward pass of its own, the retained one first.
        for inputs, kept, noise in zip(impair, shown[0::2], shown[1::2], strict=False):
            partners = inputs.labels[~inputs.is_forget]
            assert inputs.labels[inputs.is_forget].tolist() == partners.repeat(8)[:32].tolist()
            assert (len(kept), len(noise)) == (len(partners), 32) and noise.abs().max() <= 1 + 1e-6
            assert all(contains(retained, image) for image in kept)
            assert not any(contains(retained, image) for image in noise)
        repair = [inputs for inputs in method.seen if inputs.round_index == 1]
        assert [len(inputs.labels) for inputs in repair] == [32, 32, 32, 4]
        assert not any(inputs.is_forget.any() for inputs in repair)
        assert {rate for _, rate in rates.seen} == {1e-3}

    @pytest.mark.parametrize("family", ["vit", "resnet"])
    def test_the_step_descends_on_the_sum_of_both_cross_entropies(self, make, processor, family):
        """Of two forward passes, as BatchNorm tells."""
        method, model = Recorded(), trained(family, processor)
        arguments = {"optim": "sgd", "learning_rate": 1.0, "weight_decay": 0.0, "max_steps": 1}
        trainer = make(model, method, {**arguments, "per_device_train_batch_size": 40})
        trainer.train()
        (given,) = method.seen
        again, images = trained(family, processor).train(), given.inputs["pixel_values"]
        for chosen in (given.is_forget, ~given.is_forget):
            F.cross_entropy(again(images[chosen]).logits, given.labels[chosen]).backward()
        for after, before in zip(trainer.model.parameters(), again.parameters(), strict=True):
            torch.testing.assert_close((before - after).detach(), before.grad, rtol=0, atol=2e-6)


def test_loss_against_float64():
    logits = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    labels, forget = torch.arange(12) % 5, torch.arange(12) < 6
    expected = cross_entropy(logits, labels.numpy())
    assert UNSIR().loss(loss_inputs(logits, labels, forget)).numpy() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("given", "num_labels", "count"), [(None, 99, 1000), (None, 100, 100), (None, None, 1000), (7, 100, 7)]
)
def test_a_hundred_retain_images_of_each_class_take_part_where_there_are_a_hundred_classes(given, num_labels, count):
    task = Task(None, False, num_labels)
    assert UNSIR(retain_per_class=given).streams(task).retain_per_class == count


@pytest.mark.parametrize(
    ("num_retain", "forgotten", "shown"), [(45_000, (3,), 20), (700, (3,), 2), (3000, (3, 5), 5), (100, (3,), 1)]
)
def test_the_noise_of_classes_does_not_outnumber_the_retain_images(num_retain, forgotten, shown):
    """Batches of 256: 20 of them for one class and 9,000 images, as in the paper, and 700 // 256 for 700."""
    task = Task(None, True, 10, forgotten, num_retain)
    assert UNSIR().streams(task).forget_per_class == 256 * shown
    assert UNSIR(noise_batches=20).streams(task).forget_per_class == 256 * 20


@pytest.mark.parametrize(
    "fields",
    [{name: 0} for name in ("retain_per_class", "noise_steps", "noise_batch_size", "noise_batches")]
    + [{"noise_learning_rate": 0.0}, {"noise_learning_rate": math.nan}]
    + [{"noise_weight": -0.1}, {"noise_weight": math.nan}],
)  # fmt: skip
def test_fields_out_of_range_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        UNSIR(**fields)


@pytest.mark.parametrize(("family", "class_rate", "batch_size"), [("resnet", 2e-3, 128), ("vit", 5e-4, 32)])
def test_default_arguments_differ_for_classes_and_samples(tiny_model, family, class_rate, batch_size):
    classes, samples = (UNSIR().default_arguments(Task(tiny_model(family), each, 10, (3,))) for each in (True, False))
    assert classes == {
        "learning_rate": class_rate, "weight_decay": 0.0, "num_train_epochs": 2, "per_device_train_batch_size": 256
    }  # fmt: skip
    assert samples == {
        "learning_rate": 1e-3, "optim": "sgd", "optim_args": "momentum=0.9", "num_train_epochs": 2,
        "per_device_train_batch_size": batch_size,
    }  # fmt: skip
