"""The rows of the two sides of a batch: known by their number, or counted."""

from dataclasses import dataclass, replace

import pytest
import torch
from host_reads import host_reads

from hf_lotus.methods import Batch, GradientMethod, Task
from hf_lotus.trainer.hooks import MethodHooks

SIDES = [[True, False, False, True, False], [False] * 5, [True] * 5]


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("known", [True, False])
def test_rows_are_those_of_the_mask_and_where_their_number_is_known_nobody_waits(sides, known):
    is_forget = torch.tensor(sides)
    batch = Batch(labels=torch.zeros(5), is_forget=is_forget, num_forget=sum(sides) if known else None)
    with host_reads() as found:
        forget, retain = batch.rows(forget=True), batch.rows(forget=False)
    assert forget.tolist() == is_forget.nonzero()[:, 0].tolist()
    assert retain.tolist() == (~is_forget).nonzero()[:, 0].tolist()
    assert bool(found) is not known


def test_a_transform_that_tells_the_sides_anew_and_not_their_number_has_it_counted():
    seen = []

    @dataclass(frozen=True)
    class Doubled(GradientMethod):
        def transform(self, batch, student):
            return replace(batch, labels=batch.labels.repeat(2), is_forget=batch.is_forget.repeat(2))

        def loss(self, inputs):
            seen.append(inputs.forgotten)
            return inputs.logits.sum(dim=1)

    model = torch.nn.Linear(2, 3)
    batch = Batch(labels=torch.zeros(5), is_forget=torch.tensor(SIDES[0]), num_forget=2)
    hooks = MethodHooks(Doubled(), Task(model, False, 3))
    outputs = type("Outputs", (), {"logits": torch.zeros(10, 3)})
    hooks.losses(batch, model, lambda batch: outputs, None)
    assert seen == [4]
