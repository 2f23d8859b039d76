"""SalUn: the mask by hand and by a plain loop, weights held to the bit, and all else the inner method's."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hf_lotus.methods import (
    AMUN,
    RUM,
    SCRUB,
    SSD,
    GradientMethod,
    LoTUS,
    RandomLabels,
    Retrain,
    Round,
    SalUn,
    Task,
    describe,
)
from hf_lotus.methods.rounds import Pass, Streams
from tests.support.method_helpers import FORGET_SAMPLE, HandRun, LinearScores, equal, trained, weights

# Orthogonal to w = (1, −1, 2), under label 1: gradient (1/2, 1/10, −1/5).
OTHER_SAMPLE = ({"x": torch.tensor([[1.0, 0.2, -0.4]])}, torch.tensor([1]))


@pytest.mark.parametrize(("share", "expected"), [(1 / 3, [1]), (2 / 3, [1, 2]), (1.0, [0, 1, 2]), (1e-9, [1])])
def test_the_mask_by_hand_is_of_the_size_of_the_summed_gradient(share, expected):
    """(−1/2, −1/2, 0) and (1/2, 1/10, −1/5) add up to (0, −2/5, −1/5): the first weight, largest in each, is last."""
    run = HandRun(LinearScores(), LinearScores().requires_grad_(False), {"forget": [FORGET_SAMPLE, OTHER_SAMPLE]})
    mask = SalUn(saliency=share).mask(run)
    assert mask["w"].nonzero()[:, 0].tolist() == expected


@pytest.mark.parametrize("family", ["resnet", "vit"])
@pytest.mark.parametrize("share", [0.5, 0.1])
def test_the_mask_is_the_top_share_over_all_parameters_in_eval_mode(make, processor, family, share):
    trainer = make(trained(family, processor), SalUn(saliency=share))
    model = copy.deepcopy(trainer.teacher).requires_grad_(True)
    batches = list(trainer.run.batches("forget"))
    assert [len(labels) for _, labels in batches] == [32, 28]
    for inputs, labels in batches:  # gradients add up in .grad
        F.cross_entropy(model(**inputs).logits, labels, reduction="sum").backward()
    sizes = np.concatenate([parameter.grad.abs().numpy().ravel() for parameter in model.parameters()])
    mask = trainer.method.mask(trainer.run)
    assert list(mask) == [name for name, _ in model.named_parameters()]
    chosen = np.concatenate([part.numpy().ravel() for part in mask.values()])
    assert chosen.sum() == round(share * len(sizes))
    assert sizes[chosen].min() >= sizes[~chosen].max()
    # Over all parameters together, and not half of each.
    shares = [part.double().mean().item() for part in mask.values()]
    assert max(shares) - min(shares) > 0.1
    assert equal(weights(trainer.teacher), weights(trained(family, processor)))


@pytest.mark.parametrize("family", ["resnet", "vit"])
def test_the_mask_does_not_depend_on_the_batch_size(make, processor, family):
    """60 samples in 32 + 28, in 8 × 7 + 4, and at once; of weights on the edge rounding may choose another one."""
    masks = []
    for size in (32, 7, 60):
        trainer = make(trained(family, processor), SalUn(saliency=0.3), {"per_device_train_batch_size": size})
        mask = trainer.method.mask(trainer.run)
        masks.append(torch.cat([part.flatten() for part in mask.values()]))
    assert all(int((mask != masks[0]).sum()) <= 4 for mask in masks[1:])


OPTIMIZERS = {
    "sgd": {"optim": "sgd", "optim_args": "momentum=0.9", "learning_rate": 0.01, "weight_decay": 0.1},
    "adamw": {"optim": "adamw_torch", "learning_rate": 1e-3, "weight_decay": 0.1},
}
INNER = {"random labels": RandomLabels(allow_true=True, redraw=True), "lotus": LoTUS(stop_margin=2.0)}


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_outside_the_mask_stay_bit_identical_and_those_within_move(
    make, processor, optimizer, inner, accumulation
):
    arguments = {**OPTIMIZERS[optimizer], "gradient_accumulation_steps": accumulation}
    trainer = make(trained("resnet", processor), SalUn(INNER[inner], saliency=0.3), arguments)
    mask = trainer.method.mask(trainer.run)
    original = weights(trainer.model)
    trainer.train()
    assert trainer.state.global_step > 3
    moved = {name: parameter.detach() != original[name] for name, parameter in trainer.model.named_parameters()}
    assert not any((moved[name] & ~mask[name]).any() for name in moved)
    within = torch.cat([moved[name][mask[name]] for name in moved])
    assert within.double().mean() > 0.99
    assert equal(weights(trainer.teacher), original)
    # Without the mask the same run moves the rest as well.
    free = make(trained("resnet", processor), INNER[inner], arguments)
    free.train()
    others = [(p.detach() != original[name])[~mask[name]] for name, p in free.model.named_parameters()]
    assert torch.cat(others).double().mean() > 0.9


def test_a_frozen_parameter_takes_no_part(make, processor):
    model = trained("resnet", processor)
    model.resnet.embedder.requires_grad_(False)
    trainer = make(model, SalUn(), {"weight_decay": 0.1})
    mask, original = trainer.method.mask(trainer.run), weights(model)
    assert mask and not any(name.startswith("resnet.embedder") for name in mask)
    trainer.train()
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen and all(torch.equal(model.state_dict()[name], original[name]) for name in frozen)


@dataclass(frozen=True)
class Inner(GradientMethod):
    """A method each of whose hooks gives something of its own, with what it was asked."""

    needs_teacher: ClassVar[bool] = True
    needs_unseen: ClassVar[bool] = True

    def streams(self, task):
        return Streams(forget=task == "task", retain_fraction=0.25)

    def passes(self, task, index):
        return (Pass(name=f"{task} {index}"),)

    def prepare(self, run):
        return f"prepared for {run}"

    def begin_round(self, run, index):
        return Round({"index": float(index)}, stop=run == "run")

    def learning_rate_scale(self, task, index):
        return 0.5**index

    def learning_rate_within(self, task, index, share, rounds):
        return 0.5**index * share / rounds

    def renews_teacher(self, task, index):
        return index == 3

    def may_end_with(self, task, index):
        return index == 4

    def transform(self, batch, student):
        return f"{batch} for {student}"

    def loss(self, inputs):
        return f"loss of {inputs}"

    def round_distance(self, run):
        return 0.125

    def default_arguments(self, task):
        return {"learning_rate": 0.375}


def test_every_hook_but_the_mask_is_the_inner_methods():
    outer, inner = SalUn(Inner()), Inner()
    calls = {
        "streams": ("task",), "passes": ("task", 2), "prepare": ("run",), "begin_round": ("run", 1),
        "learning_rate_scale": ("task", 3), "learning_rate_within": ("task", 3, 0.5, 4.0),
        "renews_teacher": ("task", 3), "may_end_with": ("task", 4),
        "transform": ("batch", "student"), "loss": ("inputs",),
        "round_distance": ("run",), "default_arguments": ("task",),
    }  # fmt: skip
    for name, given in calls.items():
        assert getattr(outer, name)(*given) == getattr(inner, name)(*given)
        base = getattr(GradientMethod, name)
        assert getattr(type(outer), name) is not base
    hooks = {name for name in vars(GradientMethod) if not name.startswith("_")} | {"default_arguments"}
    # A hook that is added must be handed on too; an inner method with parts is refused.
    assert hooks - {"mask", "parts", "transform_asks_student", "is_same_work"} == calls.keys()
    assert (SalUn(Inner()).transform_asks_student, SalUn(AMUN()).transform_asks_student) == (True, False)
    with pytest.raises(TypeError, match="inner must unlearn the forget set as a whole, and RUM splits it"):
        SalUn(RUM())
    assert (outer.needs_teacher, outer.needs_unseen) == (True, True)
    assert (SalUn().needs_teacher, SalUn().needs_unseen) == (False, False)
    assert SalUn(SCRUB(rewind=True)).needs_unseen and SalUn(LoTUS()).needs_teacher


@pytest.mark.parametrize("inner", [SalUn(), SSD(), "lotus", LoTUS, None])
def test_an_inner_method_that_takes_no_gradient_steps_or_is_salun_is_refused(inner):
    with pytest.raises(TypeError, match="inner must be a gradient method such as LoTUS"):
        SalUn(inner=inner)


@pytest.mark.parametrize("saliency", [0.0, -0.1, 1.1, math.nan])
def test_a_saliency_out_of_range_is_refused(saliency):
    with pytest.raises(ValueError, match="saliency must be above 0 and at most 1"):
        SalUn(saliency=saliency)


@pytest.mark.parametrize("family", ["resnet", "vit"])
def test_defaults_are_the_papers_for_random_labels_and_else_the_inner_methods(tiny_model, family):
    assert SalUn() == SalUn(RandomLabels(allow_true=True, redraw=True), saliency=0.5)
    task = Task(tiny_model(family), False, 10, ())
    assert SalUn().default_arguments(task) == {
        "learning_rate": 0.01, "optim": "sgd", "optim_args": "momentum=0.9", "num_train_epochs": 10,
        "per_device_train_batch_size": 256,
    }  # fmt: skip
    for inner in (LoTUS(), SCRUB(), Retrain()):
        assert SalUn(inner).default_arguments(task) == inner.default_arguments(task)
    assert describe(SalUn(LoTUS(alpha=3.0)))["inner"]["alpha"] == 3.0
