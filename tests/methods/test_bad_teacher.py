"""Bad Teacher: a truly random teacher for what is forgotten, the original for what is kept."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hf_lotus.methods import BadTeacher
from hf_lotus.trainer.round_data import draw_subset
from tests.support.method_helpers import divergence, equal, loss_inputs, pixels_of, trained, weights

FAMILIES = ["vit", "resnet"]


def bad_teacher_of(teacher, seed=1):
    return BadTeacher().prepare(SimpleNamespace(teacher=teacher, seed=seed))


@pytest.fixture(params=FAMILIES)
def loaded(request, processor, tmp_path):
    """A trained model that was saved and loaded again, as a model of the Hub is."""
    model = trained(request.param, processor)
    model.save_pretrained(tmp_path / "checkpoint")
    return type(model).from_pretrained(tmp_path / "checkpoint")


def test_the_bad_teacher_of_a_loaded_checkpoint_is_random_throughout(loaded):
    bad, again, other = (bad_teacher_of(loaded, seed) for seed in (1, 1, 2))
    matrices = [name for name, weight in loaded.named_parameters() if weight.ndim > 1]
    # The position embeddings and the class token may be drawn as zeros; everything else of a body is a matrix.
    assert any(name.startswith("classifier") for name in matrices) and len(matrices) > 5
    for name in matrices:
        assert not torch.equal(bad.state_dict()[name], loaded.state_dict()[name])
        assert not torch.equal(bad.state_dict()[name], other.state_dict()[name])
        assert bad.state_dict()[name].std() > 0
    assert equal(weights(bad), weights(again))
    given, taken = (np.concatenate([m.state_dict()[n].flatten() for n in matrices]) for m in (loaded, bad))
    assert abs(np.corrcoef(given, taken)[0, 1]) < 0.1  # nothing of what was learned is left


def test_the_bad_teacher_is_frozen_and_shares_no_storage(loaded):
    before = weights(loaded)
    bad = bad_teacher_of(loaded)
    storage = {value.data_ptr() for value in loaded.state_dict().values()}
    assert storage.isdisjoint(value.data_ptr() for value in bad.state_dict().values())
    assert not any(module.training for module in bad.modules())
    assert not any(parameter.requires_grad for parameter in bad.parameters())
    assert equal(weights(loaded), before)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_loss_against_float64_and_the_bad_teacher_sees_forget_samples_alone(temperature):
    generator = torch.Generator().manual_seed(0)
    student, teacher, bad = (2 * torch.randn(6, 4, generator=generator) for _ in range(3))
    forget, shown = torch.tensor([True, False, False, True, True, False]), []

    def bad_model(pixel_values):
        shown.extend(pixel_values.tolist())
        return SimpleNamespace(logits=bad[pixel_values])

    inputs = loss_inputs(
        student, torch.zeros(6, dtype=torch.long), forget, teacher_logits=teacher, state=bad_model,
        inputs={"pixel_values": torch.arange(6)},
    )  # fmt: skip
    targets = torch.where(forget[:, None], bad, teacher)
    loss = BadTeacher(temperature).loss(inputs)
    assert loss.numpy() == pytest.approx(divergence(targets, student, temperature), rel=1e-5)
    assert shown == [0, 3, 4]


def test_loss_by_hand():
    """The bad teacher is undecided, (1/2, 1/2); the teacher says (3/4, 1/4), as the student does."""
    teacher = torch.tensor([[math.log(3), 0.0]]).expand(2, 2)
    inputs = loss_inputs(
        teacher, [0, 0], [True, False], teacher_logits=teacher, inputs={"x": torch.zeros(2, 1)},
        state=lambda x: SimpleNamespace(logits=torch.zeros(len(x), 2)),
    )  # fmt: skip
    forget = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert BadTeacher().loss(inputs).tolist() == pytest.approx([forget, 0.0], abs=1e-6)


def test_a_third_of_the_retain_set_is_drawn_once_and_mixed_with_the_forget_set(make, parts):
    trainer = make("vit", BadTeacher())
    loader, rounds = trainer.get_train_dataloader(), []
    for index in range(2):
        trainer.sampler.set_epoch(index)
        batches = list(loader)
        assert all(0 < batch["is_forget"].float().mean() < 1 for batch in batches) and len(batches) == 4
        rounds.append(torch.cat([batch["position"] for batch in batches]).tolist())
    assert rounds[0] != rounds[1] and sorted(rounds[0]) == sorted(rounds[1]) == list(range(60 + 54))
    assert torch.equal(trainer.train_dataset.retain_rows, draw_subset(180, 0.3, seed=1))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_student_goes_to_the_bad_teacher_on_what_it_forgets_and_the_teachers_never_change(
    make, parts, processor, family
):
    model = trained(family, processor)
    arguments = {"num_train_epochs": 15, "learning_rate": 3e-3, "weight_decay": 0.0}
    trainer = make(model, BadTeacher(), arguments)
    teacher, given_bad = weights(trainer.teacher), weights(bad_teacher_of(trainer.teacher))
    trainer.train()
    bad = trainer.hooks.state
    assert equal(weights(trainer.teacher), teacher) and equal(weights(bad), given_bad)

    def distance(target, model, split):
        pixels, _ = pixels_of(parts[split], processor)
        with torch.no_grad():
            return divergence(target(pixels).logits, model.eval()(pixels).logits).mean()

    start, end = (distance(bad, each, "forget") for each in (trainer.teacher, trainer.model))
    assert end < 0.7 * start
    # On what it keeps the student is nearer to the original than on what it forgets.
    assert distance(trainer.teacher, trainer.model, "retain") < distance(trainer.teacher, trainer.model, "forget")


@pytest.mark.parametrize(
    "fields",
    [{"temperature": 0.0}, {"temperature": -1.0}, {"temperature": math.nan}, {"retain_fraction": 1.5}]
    + [{"retain_fraction": -0.1}, {"retain_fraction": math.nan}],
)  # fmt: skip
def test_fields_out_of_range_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        BadTeacher(**fields)


@pytest.mark.parametrize("family", FAMILIES)
def test_default_arguments_are_the_papers(make, family):
    open_arguments = ("learning_rate", "num_train_epochs", "per_device_train_batch_size")
    args = make(family, BadTeacher(), dict.fromkeys(open_arguments)).args
    assert (args.learning_rate, args.weight_decay, args.num_train_epochs) == (1e-4, 0.0, 1)
    assert args.optim.startswith("adamw") and args.per_device_train_batch_size == 256
    assert BadTeacher() == BadTeacher(temperature=1.0, retain_fraction=0.3)
