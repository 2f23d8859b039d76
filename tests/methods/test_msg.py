"""MSG: exactly the stated share of each layer is drawn anew, by the least gradient difference; then finetuning."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hf_lotus.functional.tensors import reinitialized
from hf_lotus.methods import MSG, Finetune, Task, WarmRestart
from hf_lotus.methods.msg import layer_weights, least
from hf_lotus.utils.seeds import WEIGHTS, derived_seed
from tests.support.every_method import SaveAt, build
from tests.support.method_helpers import (
    FORGET_SAMPLE,
    RETAIN_SAMPLE,
    HandRun,
    LinearScores,
    equal,
    loss_inputs,
    trained,
    weights,
)


class RowsRun(HandRun):
    """A run by hand that notes which rows it is asked for."""

    def __init__(self, *args, **values):
        super().__init__(*args, **values)
        self.asked = {}

    def batches(self, *splits, rows=None):
        self.asked |= rows
        yield from super().batches(*splits)


def test_the_difference_by_hand():
    """(1, 0, −1/2) on what is retained, (−1/2, −1/2, 0) on what is forgotten: their difference is (3/2, 1/2, −1/2)."""
    given = {"forget": [FORGET_SAMPLE], "retain": [RETAIN_SAMPLE]}
    teacher = LinearScores().requires_grad_(False)
    run = RowsRun(LinearScores(), teacher, given, task=Task(None, False, 2, (0,), 5, 1), seed=3)
    difference = MSG().difference(run)
    assert difference["w"].tolist() == pytest.approx([1.5, 0.5, -0.5])
    assert run.asked["forget"] == [0] and len(run.asked["retain"]) == 1  # as large as the forget set


def test_the_sample_is_as_large_as_the_forget_set_and_of_the_seed():
    given = {"forget": [FORGET_SAMPLE], "retain": [RETAIN_SAMPLE]}

    def rows(seed, num_retain=100):
        task = Task(None, False, 2, (0,), num_retain, 10)
        run = RowsRun(LinearScores(), LinearScores().requires_grad_(False), given, task=task, seed=seed)
        MSG().difference(run)
        return run.asked["retain"]

    assert rows(1) == rows(1) != rows(2) and len(set(rows(1))) == 10
    assert rows(1, num_retain=4) == [0, 1, 2, 3]  # or all of it, where it is smaller


@pytest.mark.parametrize(("share", "expected"), [(0.25, [2]), (0.5, [0, 2]), (0.6, [0, 2]), (1.0, [0, 1, 2, 3])])
def test_the_least_of_the_values(share, expected):
    mask = least(torch.tensor([[0.2, 0.9], [0.1, 0.3]]), share)
    assert mask.shape == (2, 2) and mask.flatten().nonzero()[:, 0].tolist() == expected


def test_layers_are_convolutions_and_linear_ones(tiny_model):
    model = nn.Sequential(nn.Conv1d(1, 1, 2), nn.Linear(2, 2), nn.LayerNorm(2), nn.Embedding(2, 2))
    assert [name for name, _ in layer_weights(model)] == ["0.weight", "1.weight"]
    assert [name for name, _ in layer_weights(nn.Linear(2, 2))] == ["weight"]
    names = {name for name, _ in layer_weights(tiny_model("vit"))}
    left = {name for name, p in tiny_model("vit").named_parameters() if p.dim() > 1} - names
    assert left == {"vit.embeddings.cls_token", "vit.embeddings.position_embeddings"}


@pytest.mark.parametrize("family", ["resnet", "vit"])
@pytest.mark.parametrize("share", [0.3, 0.05])
class TestTheEdit:
    def edited(self, make, processor, family, share):
        trainer = make(trained(family, processor), MSG(share))
        trainer.hooks.prepare(trainer.run)
        decision = trainer.method.begin_round(trainer.run, 0)
        return trainer, decision

    def test_exactly_the_share_of_each_layer_by_the_rule_and_drawn_by_the_models_own_initialisation(
        self, make, processor, family, share
    ):
        trainer, decision = self.edited(make, processor, family, share)
        original = dict(trainer.teacher.named_parameters())
        fresh = dict(reinitialized(trained(family, processor), derived_seed(1, WEIGHTS)).named_parameters())
        sizes = self.by_a_plain_loop(trainer, family, processor)
        layers, changed = dict(layer_weights(trainer.model)), 0
        for name, parameter in trainer.model.named_parameters():
            moved = (parameter != original[name]).detach()
            if name not in layers:
                assert not moved.any()
                continue
            count = round(share * parameter.numel())
            drawn = parameter == fresh[name]
            assert int(drawn.sum()) == count and torch.equal(drawn, moved)
            if 0 < count < parameter.numel():
                # But for rounding no weight that stays has a smaller difference than one that was drawn.
                assert sizes[name][drawn].max() <= sizes[name][~drawn].min() + 1e-7
            changed += count
        total = sum(parameter.numel() for parameter in trainer.model.parameters())
        assert decision.values == {"reinitialised_share": pytest.approx(changed / total)}

    def by_a_plain_loop(self, trainer, family, processor):
        """|mean gradient on the retain sample − mean gradient on the forget set|, in eval mode."""
        model = copy.deepcopy(trainer.teacher).requires_grad_(True).eval()
        order = np.random.default_rng(derived_seed(1, 0)).permutation(180)
        sums = {}
        for split, rows in {"retain": sorted(order[:60].tolist()), "forget": range(60)}.items():
            model.zero_grad()
            labels = trainer.run.labels(split)[list(rows)]
            F.cross_entropy(model(**trainer.run.inputs(split, rows)).logits, labels).backward()
            sums[split] = {name: p.grad.clone() for name, p in model.named_parameters()}
        return {name: (value - sums["forget"][name]).abs() for name, value in sums["retain"].items()}

    def test_the_teacher_and_the_statistics_of_batch_norm_are_not_touched(self, make, processor, family, share):
        trainer, _ = self.edited(make, processor, family, share)
        assert equal(weights(trainer.teacher), weights(trained(family, processor)))
        buffers = dict(trained(family, processor).named_buffers())
        assert all(torch.equal(value, buffers[name]) for name, value in trainer.model.named_buffers())
        assert not any(parameter.requires_grad for parameter in trainer.teacher.parameters())


class TestInARun:
    def test_it_goes_on_as_finetuning_does(self, make, processor):
        arguments = {"optim": "sgd", "lr_scheduler_type": "cosine", "weight_decay": 5e-4}
        by_hand = make(trained("resnet", processor), MSG(), arguments)
        by_hand.hooks.prepare(by_hand.run)
        by_hand.method.begin_round(by_hand.run, 0)
        plain, ours = make(by_hand.model, Finetune(), arguments), make(trained("resnet", processor), MSG(), arguments)
        plain.train(), ours.train()
        assert equal(weights(ours.model), weights(plain.model))

    def test_a_resumed_run_draws_nothing_anew(self, tmp_path):
        whole = build(tmp_path, MSG(), "resnet", callbacks=[SaveAt(2, 8)])
        whole.train()
        for step in (2, 8):
            again = build(tmp_path, MSG(), "resnet")
            again.train(str(tmp_path / f"checkpoint-{step}"))
            assert equal(weights(again.model), weights(whole.model))

    def test_frozen_weights_stay(self, make, processor):
        model = trained("resnet", processor)
        for parameter in model.resnet.parameters():
            parameter.requires_grad_(False)
        original = weights(model)
        trainer = make(model, MSG())
        trainer.train()
        frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
        assert frozen and all(torch.equal(trainer.model.state_dict()[name], original[name]) for name in frozen)
        assert not torch.equal(trainer.model.classifier[1].weight, original["classifier.1.weight"])

    def test_after_a_restart_the_gradients_are_of_the_restarted_model(self, make, processor):
        """Within another method it edits before its own first round."""
        trainer = make(trained("resnet", processor), WarmRestart(MSG(), restart_rounds=1))
        trainer.train()
        rounds = [entry for entry in trainer.state.log_history if "round" in entry]
        assert ["reinitialised_share" in entry for entry in rounds] == [False, True]


def test_the_loss_and_what_is_refused():
    loss = MSG().loss(loss_inputs([[0.0, 0.0]], [1], [False]))
    assert loss.tolist() == pytest.approx([np.log(2)])
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match="share must be above 0 and at most 1"):
            MSG(share)
