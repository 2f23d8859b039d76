"""ℓ1-sparse: the penalty's coefficient is α (1 − e/E) in every round, and its gradient once in every step."""

from types import SimpleNamespace

import pytest
import torch

from hf_lotus.methods import Finetune, L1Sparse, SalUn, SFRon
from hf_lotus.methods.l1_sparse import l1_norm
from tests.support.every_method import SaveAt, build, decisions
from tests.support.method_helpers import LinearScores, equal, loss_inputs, record_batches, weights


def coefficients(trainer):
    return [entry["coefficient"] for entry in decisions(trainer) if "coefficient" in entry]


def test_the_norm_is_of_all_weights_that_are_trained():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    values = [torch.tensor([[1.0, -2.0], [3.0, 0.0]]), torch.tensor([-0.5, 0.25]), torch.tensor([[4.0, -4.0]])]
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=False):
            parameter.copy_(value)
        model[1].bias.fill_(-1.0)
    assert l1_norm(model).item() == 6 + 0.75 + 8 + 1
    model[1].requires_grad_(False)
    assert l1_norm(model).item() == 6.75


def test_loss_by_hand():
    # Two classes of equal logits: ln 2, and 0.5 times |1| + |−1| + |2|.
    inputs = loss_inputs(
        [[0.0, 0.0]] * 2, [0, 1], [False] * 2, state=LinearScores(), round_values={"coefficient": 0.5}
    )
    assert L1Sparse().loss(inputs).tolist() == pytest.approx([0.6931472 + 2.0] * 2, rel=1e-6)


@pytest.mark.parametrize("rounds", [1, 4, 10])
def test_the_schedule_by_hand(rounds):
    run = SimpleNamespace(num_rounds=rounds)
    given = [L1Sparse(alpha=0.2).begin_round(run, index).values["coefficient"] for index in range(rounds)]
    assert given == [0.2 * (1 - index / rounds) for index in range(rounds)]
    assert given[0] == 0.2 and given[-1] == pytest.approx(0.2 / rounds)


def test_a_run_takes_each_rounds_coefficient(tmp_path):
    trainer = build(tmp_path, L1Sparse(alpha=1e-3), num_train_epochs=4)
    trainer.train()
    assert coefficients(trainer) == [1e-3 * (1 - index / 4) for index in range(4)]


def test_a_number_of_steps_or_a_part_of_a_round_counts_as_the_rounds_that_it_begins(tmp_path):
    """180 retain samples in steps of 32: rounds of 6."""
    for arguments, rounds in (({"max_steps": 13}, 3), ({"num_train_epochs": 1.5}, 2)):
        trainer = build(tmp_path, L1Sparse(alpha=1e-3), **arguments)
        trainer.train()
        assert coefficients(trainer) == [1e-3 * (1 - index / rounds) for index in range(rounds)]


@pytest.mark.parametrize("method", [L1Sparse(), SFRon(), SalUn(L1Sparse())], ids=lambda m: type(m).__name__)
def test_a_run_that_was_broken_off_can_not_be_made_longer(tmp_path, method):
    """The rounds to come would have other coefficients, and those that are over had them of another run."""
    build(tmp_path, method, callbacks=[SaveAt(3)]).train()
    checkpoint = str(tmp_path / "checkpoint-3")
    with pytest.raises(ValueError, match="is of another run, which differs in: num_train_epochs"):
        build(tmp_path, method, num_train_epochs=3).train(checkpoint)
    assert build(tmp_path, method).checkpoints.begin(checkpoint) == checkpoint


def test_without_a_coefficient_it_is_finetuning_to_the_bit(tmp_path):
    plain, given = build(tmp_path, Finetune()), build(tmp_path, L1Sparse(alpha=0.0))
    for trainer in (plain, given):
        trainer.train()
    assert equal(weights(plain.model), weights(given.model))


@pytest.mark.parametrize("family", ["vit", "resnet"])
def test_every_step_adds_the_coefficient_times_the_signs(tmp_path, family):
    """To the step of finetuning from the same weights, however few samples the step has."""
    arguments = {"max_steps": 1, "learning_rate": 1.0, "per_device_train_batch_size": 50}
    plain, given = (
        build(tmp_path, Finetune(), family, **arguments),
        build(tmp_path, L1Sparse(0.01), family, **arguments),
    )
    before = weights(given.model)
    for trainer in (plain, given):
        trainer.train()
    for name, parameter in given.model.named_parameters():
        expected = plain.model.get_parameter(name) - 0.01 * before[name].sign()
        torch.testing.assert_close(parameter, expected, rtol=0, atol=1e-6)


def test_weights_that_the_task_does_not_need_go_to_zero_and_no_forget_sample_is_shown(make, monkeypatch):
    arguments = {"num_train_epochs": 6, "optim": "sgd", "learning_rate": 0.05, "weight_decay": 0.0}
    trainer = make("vit", L1Sparse(alpha=0.01), arguments)
    seen = record_batches(trainer, monkeypatch)
    before = l1_norm(trainer.model).item()
    trainer.train()
    assert not any(batch.is_forget.any() for batch in seen)
    assert l1_norm(trainer.model).item() < 0.8 * before


def test_bad_values():
    with pytest.raises(ValueError, match="alpha must be 0 or more and finite, got -1. Public code uses 5e-4"):
        L1Sparse(alpha=-1)
    with pytest.raises(ValueError, match="retain_fraction must lie between 0 and 1"):
        L1Sparse(retain_fraction=2.0)
