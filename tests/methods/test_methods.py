"""What every method owes: it moves the student and nothing else, for samples and for classes, on both families."""

import json
from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest
import torch

from hf_lotus.methods import (
    AMUN,
    METHODS,
    RUM,
    SSD,
    UNSIR,
    GradientMethod,
    LoTUS,
    RefusedModel,
    SalUn,
    UnlearningMethod,
    WarmRestart,
    WeightEdit,
    describe,
    name_of,
)
from tests.support.method_helpers import class_wise_parts, equal, trained, weights

# The defaults, but what would stop a small model at once, leave it as it is, or take long.
IN_SMALL = {
    "lotus": LoTUS(stop_margin=2.0),
    "ssd": SSD(alpha=1.5),
    "amun": AMUN(steps=5),
    "rum": RUM(middle_rounds=1),
    "warm_restart": WarmRestart(restart_rounds=1),
    "unsir": UNSIR(noise_batch_size=8, noise_batches=2, noise_steps=2, retain_per_class=5),
}
METHODS_IN_SMALL = {name: IN_SMALL.get(name) or kind() for name, kind in METHODS.items()}


@pytest.mark.parametrize(
    ("family", "class_wise"),
    [
        ("resnet", False),
        ("vit", True),
        pytest.param("resnet", True, marks=pytest.mark.exhaustive),
        pytest.param("vit", False, marks=pytest.mark.exhaustive),
    ],
)
@pytest.mark.parametrize("name", METHODS)
def test_a_method_moves_the_student_alone(make, digits, processor, name, family, class_wise):
    given = METHODS_IN_SMALL[name]
    described = json.dumps(describe(given))
    parts = class_wise_parts(digits) if class_wise else {}
    if (name, family) == ("ct", "vit"):
        with pytest.raises(
            RefusedModel, match="^ct cannot unlearn a ViTForImageClassification: ct transposes spatial"
        ):
            make(trained(family, processor), given, **parts)
        return
    trainer = make(trained(family, processor), given, **parts)
    original = weights(trainer.model)
    assert trainer.class_wise is class_wise
    trainer.train()
    moved = [not torch.equal(p.detach(), original[n]) for n, p in trainer.model.named_parameters()]
    assert sum(moved) > len(moved) / 2
    assert all(torch.isfinite(value).all() for value in trainer.model.state_dict().values())
    assert equal(weights(trainer.teacher), original)
    assert not any(p.requires_grad or p.grad is not None for p in trainer.teacher.parameters())
    storage = {value.data_ptr() for value in trainer.model.state_dict().values()}
    assert storage.isdisjoint(value.data_ptr() for value in trainer.teacher.state_dict().values())
    # To measure the student changes nothing of it, BatchNorm's statistics among the rest.
    before = weights(trainer.model)
    assert 0 <= trainer.evaluate()["eval_forget_accuracy"] <= 1
    assert equal(weights(trainer.model), before)
    assert json.dumps(describe(given)) == described


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_a_frozen_dataclass_of_one_of_the_two_kinds(name):
    kind = METHODS[name]
    assert is_dataclass(kind) and issubclass(kind, UnlearningMethod)
    assert issubclass(kind, GradientMethod) != issubclass(kind, WeightEdit)
    assert kind() == kind() and hash(kind()) == hash(kind())
    with pytest.raises(FrozenInstanceError):
        kind().alpha = 3.0
    for each in fields(kind):
        assert f"{each.name}: " in kind.__doc__  # every symbol is explained


def test_the_names_are_those_of_the_command_line():
    assert list(METHODS) == [
        "lotus", "margin_matching", "warm_restart",
        "finetune", "neggrad_plus", "random_labels", "bad_teacher", "scrub", "ssd",
        "unsir", "salun", "l1_sparse", "sfron", "delete", "munba", "amun", "msg", "ct", "rum", "retrain",
    ]  # fmt: skip
    assert all(name_of(kind()) == name for name, kind in METHODS.items())


def test_a_method_of_the_users_is_named_after_its_class_and_a_method_within_is_described():
    class Own(LoTUS):
        pass

    assert name_of(Own()) == "Own"
    inner = {"name": "random_labels", "allow_true": True, "redraw": True, "retain_fraction": 1.0}
    assert describe(SalUn(saliency=0.1)) == {"name": "salun", "inner": inner, "saliency": 0.1}
