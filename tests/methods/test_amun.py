"""AMUN: each x′ is misclassified as y′, within its radius, and none is found at the radius before; it is learned."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from hf_lotus.data.images import PixelPipeline, ReadyImages
from hf_lotus.methods import AMUN, Batch, Task
from hf_lotus.methods.amun import Adversaries, lead_of_others, nearest_adversaries
from tests.support.every_method import build
from tests.support.method_helpers import HandRun, class_wise_parts, cross_entropy, equal, loss_inputs, trained, weights

WIDE = (torch.full((1, 1, 1), -100.0), torch.full((1, 1, 1), 100.0))


def plane(images):
    """Two classes on both sides of x₀ = 0: the logits are (x₀, −x₀), whatever the other values are."""
    first = images.flatten(1)[:, :1]
    return torch.cat([first, -first], dim=1)


def searched(images, labels, bounds=WIDE, classify=plane, **how):
    return nearest_adversaries(classify, images, torch.tensor(labels), bounds, **{"radius": 0.5, "growth": 2.0,
                                                                                  "steps": 50, **how})  # fmt: skip


class TestByHand:
    """Points at the distances 0.3, 0.95 and 3 from the plane, and one on the wrong side."""

    POINTS = torch.tensor([[0.3, 5.0], [0.95, -5.0], [3.0, 0.0], [-1.0, 2.0]]).view(4, 1, 1, 2)

    def test_each_is_found_at_the_first_radius_that_reaches_the_plane(self):
        """Steps of a tenth of the radius: 7 of 0.05 for 0.3, 10 of 0.1 for 0.95, 8 of 0.4 for 3."""
        found = searched(self.POINTS, [0, 0, 0, 0])
        assert found.radii.tolist() == [0.5, 1.0, 4.0, 0.0]
        assert found.labels.tolist() == [1, 1, 1, 1] and found.found.all()
        # A first coordinate of exactly 0 is a tie, of which the first class is predicted.
        assert found.distances.tolist() == pytest.approx([0.35, 1.0, 3.2, 0.0], abs=1e-5)
        assert torch.equal(found.images[3], self.POINTS[3])
        assert torch.equal(found.images[:, 0, 0, 1], self.POINTS[:, 0, 0, 1])  # straight to the plane

    def test_the_range_is_kept_and_what_it_does_not_reach_is_told(self):
        narrow = (torch.full((1, 1, 1), 0.1), torch.full((1, 1, 1), 5.0))
        found = searched(self.POINTS[:1].clamp(0.1, 5.0), [0], narrow)
        assert found.radii.tolist() == [-1] and not found.found.any() and found.labels.tolist() == [0]

    def test_the_ball_is_kept(self):
        """Of a classifier that nothing crosses the last iterate is on the ball, in the direction of the gradient."""
        seen = []

        def never(images):
            seen.append(images.detach().clone())
            return plane(images) + torch.tensor([1000.0, 0.0])

        searched(self.POINTS[:1], [0], classify=never, radius=0.5)
        within = torch.stack(seen[:52]).flatten(1) - self.POINTS[0].flatten()
        assert within.norm(dim=1).max() == pytest.approx(0.5, abs=1e-5)
        assert torch.stack(seen).min() >= -100 and torch.stack(seen).max() <= 100


class TestAscent:
    def test_the_gradient_is_that_of_the_cross_entropy_but_for_its_length(self):
        logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
        labels = torch.tensor([0, 1, 2, 3, 0, 1])
        (ours,) = torch.autograd.grad(lead_of_others(logits, labels).sum(), logits)
        (theirs,) = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), logits)
        torch.testing.assert_close(F.normalize(ours), F.normalize(theirs), rtol=1e-10, atol=1e-10)
        loss = F.cross_entropy(logits, labels, reduction="none")
        torch.testing.assert_close(F.softplus(lead_of_others(logits, labels)), loss, rtol=1e-10, atol=1e-10)

    def test_it_does_not_vanish_where_a_model_is_very_sure(self):
        """A confidence of 1 in float32: the cross-entropy has no gradient left."""
        logits = torch.tensor([[200.0, 0.0]]).requires_grad_()
        assert torch.autograd.grad(F.cross_entropy(logits, torch.tensor([0])), logits)[0].abs().max() == 0
        found = searched(torch.tensor([[2.0, 0.0]]).view(1, 1, 1, 2), [0], classify=lambda x: 1000 * plane(x))
        assert found.found.all()


@pytest.mark.parametrize(
    ("family", "class_wise"),
    [
        pytest.param("resnet", False, id="resnet-samples"),
        pytest.param("vit", True, id="vit-classes"),
        pytest.param("resnet", True, id="resnet-classes", marks=pytest.mark.exhaustive),
        pytest.param("vit", False, id="vit-samples", marks=pytest.mark.exhaustive),
    ],
)
class TestOnAModel:
    def test_misclassified_as_the_label_and_not_at_the_radius_before(
        self, make, processor, digits, family, class_wise
    ):
        parts = class_wise_parts(digits) if class_wise else {}
        trainer = make(trained(family, processor), AMUN(), **parts)
        before, mode = weights(trainer.teacher), trainer.teacher.training
        trainer.hooks.prepare(trainer.run)
        found = trainer.hooks.state
        assert equal(weights(trainer.teacher), before) and trainer.teacher.training == mode  # BatchNorm's, too
        rows = list(range(trainer.run.num_forget))
        images = trainer.run.inputs("forget", rows)["pixel_values"]
        labels = trainer.run.labels("forget")
        assert found.found.all() and len(found.labels) == len(rows)
        assert not (found.labels == labels).any()
        with torch.no_grad():
            assert torch.equal(trainer.teacher(pixel_values=found.images).logits.argmax(1), found.labels)
            given = trainer.teacher(pixel_values=images).logits.argmax(1)
        distances = (found.images - images).flatten(1).norm(dim=1)
        torch.testing.assert_close(found.distances, distances)
        assert (distances <= found.radii + 1e-5).all()
        # What the model gets wrong anyway is its own neighbour.
        assert torch.equal(found.radii == 0, given != labels)
        assert torch.equal(found.images[given != labels], images[given != labels])
        assert (found.radii > 0.1).any()  # else there is no radius before
        self.assert_no_nearer(trainer, found, images, labels)

    def assert_no_nearer(self, trainer, found, images, labels):
        """A plain walk within half of the radius, of one image at a time, ends where it began: in the true class."""
        low, high = trainer.run.input_range
        for row in (found.radii > 0.1).nonzero()[:4, 0].tolist():
            radius, start = float(found.radii[row]) / 2, images[row : row + 1]
            point = start.clone()
            for _ in range(50):
                point.requires_grad_()
                loss = F.cross_entropy(trainer.teacher(pixel_values=point).logits.double(), labels[row : row + 1])
                (gradient,) = torch.autograd.grad(loss, point)
                away = (point + radius / 10 * gradient / gradient.norm()).detach() - start
                point = (start + away * min(1, radius / float(away.norm()))).clamp(low, high)
                assert trainer.teacher(pixel_values=point).logits.argmax(1) == labels[row]


def test_all_that_is_found_lies_in_the_range_of_normalised_pixels(make, processor, digits):
    """Black and white lie at −1 and 1 with this processor; without the clamp the search would leave them."""
    trainer = make(trained("resnet", processor), AMUN(radius=4.0))
    trainer.hooks.prepare(trainer.run)
    found = trainer.hooks.state
    low, high = PixelPipeline(processor, digits[0]["image"]).range
    assert (found.images >= low - 1e-6).all() and (found.images <= high + 1e-6).all()
    assert bool(((found.images <= low) | (found.images >= high)).any())
    assert not torch.equal(low, torch.zeros_like(low))


def test_images_of_the_users_own_keep_to_the_range_that_the_forget_set_has(make, parts, processor):
    def samples(name):
        ready = ReadyImages(parts[name], processor)
        pixels = ready.finish(ready.__getitems__(range(len(ready))))["pixel_values"]
        return [{"pixel_values": pixel, "labels": label} for pixel, label in zip(pixels, ready.labels, strict=True)]

    sets = {f"{name}_dataset": samples(name) for name in ("forget", "retain", "unseen")}
    trainer = make(trained("resnet", processor), AMUN(), **sets, eval_dataset=None)
    assert trainer.run.input_range is None
    trainer.hooks.prepare(trainer.run)
    given = torch.stack([sample["pixel_values"] for sample in sets["forget_dataset"]])
    found = trainer.hooks.state.images
    assert (found.amin((0, 2, 3)) >= given.amin((0, 2, 3))).all()
    assert (found.amax((0, 2, 3)) <= given.amax((0, 2, 3))).all()


def state_of(count, missing=()):
    """Adversarial examples of the value 10 + place, under the label 3."""
    values = torch.arange(10.0, 10.0 + count)
    radii = torch.ones(count)
    radii[list(missing)] = -1
    labels = torch.where(radii < 0, 0, 3)
    return Adversaries(values.view(-1, 1, 1, 1), labels, torch.ones(count), radii)


def batch_of(state):
    return Batch(
        inputs={"pixel_values": torch.tensor([0.0, 1.0, 2.0]).view(3, 1, 1, 1)},
        labels=torch.tensor([0, 1, 2]),
        is_forget=torch.tensor([True, False, True]),
        positions=torch.tensor([1, 5, 0]),
        state=state,
    )


class TestWhatIsShown:
    def test_in_the_place_of_forget_samples(self):
        given = batch_of(state_of(2))
        shown = AMUN().transform(given, None)
        assert shown.inputs["pixel_values"].flatten().tolist() == [11.0, 1.0, 10.0]
        assert shown.labels.tolist() == [3, 1, 3]
        assert shown.is_forget.tolist() == [True, False, True] and shown.positions.tolist() == [1, 5, 0]
        assert given.inputs["pixel_values"].flatten().tolist() == [0.0, 1.0, 2.0]  # the batch itself is left alone

    def test_beside_them_without_retained_data(self):
        whole = batch_of(state_of(2))
        alone = Batch(
            inputs={"pixel_values": whole.inputs["pixel_values"][[0, 2]]}, labels=whole.labels[[0, 2]],
            is_forget=torch.tensor([True, True]), positions=torch.tensor([1, 0]), state=whole.state,
        )  # fmt: skip
        shown = AMUN(retain_fraction=0.0).transform(alone, None)
        assert shown.inputs["pixel_values"].flatten().tolist() == [0.0, 2.0, 11.0, 10.0]
        assert shown.labels.tolist() == [0, 2, 3, 3] and shown.positions.tolist() == [1, 0, 1, 0]
        assert shown.is_forget.all()

    def test_one_that_was_not_found_has_no_loss(self):
        shown = AMUN().transform(batch_of(state_of(2, missing=[0])), None)
        loss = AMUN().loss(loss_inputs(torch.zeros(3, 4), shown.labels, shown.is_forget))
        assert loss.tolist() == pytest.approx([math.log(4), math.log(4), 0.0])


def test_the_loss_by_hand():
    logits, labels = [[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], [2, 0]
    expected = cross_entropy(logits, labels)
    given = loss_inputs(logits, labels, [True, False])
    assert AMUN().loss(given).tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert AMUN(retain_fraction=0.0).loss(given).tolist() == pytest.approx((expected / 2).tolist(), rel=1e-6)


@dataclass(frozen=True)
class Recorded(AMUN):
    seen: list = field(default_factory=list)

    def loss(self, inputs):
        self.seen.append(inputs)
        return super().loss(inputs)


def test_every_forget_sample_is_shown_as_its_own_neighbour_each_round(make, processor):
    method = Recorded()
    trainer = make(trained("resnet", processor), method, {"horizontal_flip": True})
    trainer.train()
    found = trainer.hooks.state
    assert [entry["adversaries_found"] for entry in trainer.state.log_history if entry.get("round") == 0] == [1.0]
    forgotten = []
    for inputs in method.seen:
        places = inputs.positions[inputs.is_forget]
        assert torch.equal(inputs.inputs["pixel_values"][inputs.is_forget], found.images[places])
        assert torch.equal(inputs.labels[inputs.is_forget], found.labels[places])
        forgotten += places.tolist()
    assert sorted(forgotten) == sorted([*range(60), *range(60)])


class TestWithoutRetainedData:
    def test_the_step_is_the_mean_over_both_halves(self, make, processor):
        """One step of plain descent on the 60 forget samples and their 60 neighbours."""
        method = AMUN(retain_fraction=0.0)
        arguments = {"num_train_epochs": 1, "per_device_train_batch_size": 60, "learning_rate": 0.1, "optim": "sgd"}
        trainer = make(trained("vit", processor), method, {**arguments, "max_grad_norm": 0.0, "weight_decay": 0.0})
        reference = trained("vit", processor).train()
        trainer.train()
        assert trainer.state.global_step == 1
        found = trainer.hooks.state
        images = torch.cat([trainer.run.inputs("forget", range(60))["pixel_values"], found.images])
        labels = torch.cat([trainer.run.labels("forget"), found.labels])
        loss = F.cross_entropy(reference(pixel_values=images).logits, labels)
        loss.backward()
        for (name, parameter), (_, expected) in zip(
            trainer.model.named_parameters(), reference.named_parameters(), strict=True
        ):
            wanted = expected.detach() - 0.1 * expected.grad
            torch.testing.assert_close(parameter.detach(), wanted, rtol=1e-4, atol=1e-6, msg=name)
        (logged,) = (entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
        assert logged == pytest.approx(loss.item(), rel=1e-4)

    def test_nothing_retained_takes_part_and_small_batches_add_up(self, tmp_path):
        method = AMUN(retain_fraction=0.0, steps=5)
        runs = []
        for size, accumulation in ((32, 1), (8, 4)):
            arguments = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation}
            trainer = build(tmp_path, method, **arguments)
            assert trainer.hooks.streams().retain_fraction == 0 and len(trainer.train_dataset) == 60
            trainer.train()
            runs.append(trainer.model.state_dict())
        for name, value in runs[0].items():
            torch.testing.assert_close(runs[1][name], value, rtol=1e-5, atol=1e-5)


class TestRefused:
    @pytest.mark.parametrize(
        "inputs",
        [{"input_ids": torch.zeros(2, 4, dtype=torch.long)}, {"pixel_values": torch.zeros(2, 3, 4, 4).byte()}],
    )
    def test_inputs_that_are_not_continuous(self, inputs):
        run = HandRun(None, None, {"forget": [(inputs, torch.zeros(2))]})
        with pytest.raises(TypeError, match=f"inputs are {next(iter(inputs))}: where inputs are not continuous there"):
            AMUN().prepare(run)

    def test_a_model_that_predicts_one_class_whatever_it_is_shown(self):
        class Constant(torch.nn.Module):
            def forward(self, pixel_values):
                return SimpleNamespace(logits=pixel_values.flatten(1)[:, :2] * 0 + torch.tensor([1.0, 0.0]))

        images = torch.rand(3, 1, 2, 2)
        run = HandRun(None, Constant(), {"forget": [({"pixel_values": images}, torch.zeros(3).long())]}, num_forget=3)
        run.input_range, run.rank, run.ranks = WIDE, 0, 1
        run.inputs = lambda split, rows: {"pixel_values": images[list(rows)]}
        run.labels = lambda split: torch.zeros(3).long()
        with pytest.raises(ValueError, match="predicts one class whatever it is shown"):
            AMUN(steps=2).prepare(run)

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("steps", 0, "steps must be 1 or more"),
            ("radius", 0.0, "radius must be above 0"),
            ("growth", 1.0, "growth must be above 1"),
            ("retain_fraction", 1.5, "retain_fraction must lie between"),
        ],
    )
    def test_values_that_make_no_search(self, field, value, message):
        with pytest.raises(ValueError, match=message):
            AMUN(**{field: value})


def test_defaults_by_family(tiny_model):
    rates = [AMUN().default_arguments(Task(tiny_model(family), False, 10)) for family in ("resnet", "vit")]
    assert [rate["learning_rate"] for rate in rates] == [3e-3, 1e-3]
