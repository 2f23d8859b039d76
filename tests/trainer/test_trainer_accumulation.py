"""Accumulated small batches give the step of the large batch, whatever the method and however uneven the tails."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import hf_lotus.methods.lotus
import hf_lotus.methods.unsir
from hf_lotus.methods import LoTUS, SalUn
from tests.support.every_method import EVERY_METHOD, NOISY, build, by_kind, checkered, options_of

PERTURBING = (hf_lotus.methods.lotus,)


@pytest.fixture
def without_noise(monkeypatch):
    """What LoTUS and UNSIR draw anew for every batch is the same for every sample."""
    for module in PERTURBING:
        monkeypatch.setattr(module, "gumbel_perturbed", lambda logits, generator: logits)
    pattern = torch.linspace(-1, 1, 3 * 16 * 16).view(3, 16, 16)
    monkeypatch.setattr(hf_lotus.methods.unsir, "learn_noise", lambda objective, shape, *_: pattern.expand(shape))
    # Rounding may choose another one of two weights on the edge of SalUn's own mask.
    monkeypatch.setattr(SalUn, "mask", checkered)


def trained_with(folder, method, size, accumulation, family="vit", options=None, **arguments):
    arguments |= {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation}
    trainer = build(folder, method, family, options=options, **arguments)
    trainer.train()
    return trainer


def assert_agree(first, second):
    for name, value in first.model.state_dict().items():
        torch.testing.assert_close(second.model.state_dict()[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", by_kind(sorted({*EVERY_METHOD} - {"unsir of samples", "scrub", "sfron"})))
def test_four_small_batches_are_one_large_batch_tails_included(tmp_path, without_noise, name):
    method, options = EVERY_METHOD[name], options_of(name)
    whole = trained_with(tmp_path, method, 32, 1, options=options)
    accumulated = trained_with(tmp_path, method, 8, 4, options=options)
    assert whole.state.global_step == accumulated.state.global_step > 4
    start = build(tmp_path, method, options=options).model.state_dict()
    moved = [(value - start[key]).abs().max() for key, value in whole.model.state_dict().items()]
    assert max(moved) > 1e-3  # else there is nothing to agree on
    assert_agree(whole, accumulated)
    losses = [[e["loss"] for e in t.state.log_history if "loss" in e] for t in (whole, accumulated)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("name", ["finetune", "neggrad_plus"])
def test_samples_that_are_repeated_to_fill_a_tail_do_not_count(tmp_path, name):
    """180 retain samples in steps of 35: the tail of 5 is fewer than its 7 batches, so that two come twice."""
    whole, accumulated = (trained_with(tmp_path, EVERY_METHOD[name], *sizes) for sizes in ((35, 1), (5, 7)))
    assert whole.state.global_step == accumulated.state.global_step == 12
    assert_agree(whole, accumulated)


@pytest.mark.parametrize("family", by_kind(["vit", "convnext"], {"convnext"}))
def test_scrub_accumulates_in_both_of_its_passes(tmp_path, family):
    """60 forget samples in steps of 16, the tail of 12 as 4 × 3; ConvNext takes no arguments for the loss."""
    method = EVERY_METHOD["scrub"]
    whole = trained_with(tmp_path, method, 32, 1, family, num_train_epochs=3)
    small = type(method)(**{**vars(method), "forget_batch_size": 4})
    accumulated = trained_with(tmp_path, small, 8, 4, family, num_train_epochs=3)
    assert whole.state.global_step == accumulated.state.global_step == 10 + 10 + 6
    assert_agree(whole, accumulated)
    logs = [[(e["pass"], e["step"]) for e in t.state.log_history if "loss" in e] for t in (whole, accumulated)]
    assert logs[0] == logs[1] == [("max", 4), ("min", 10), ("max", 14), ("min", 20), ("min", 26)]


def test_unsir_of_samples_pairs_the_same_images_in_every_full_step(tmp_path, without_noise):
    """Noise is learned and labels are paired within a batch: equal noise gives equal steps, but for the tail's."""
    method = EVERY_METHOD["unsir of samples"]
    whole = trained_with(tmp_path, method, 32, 1, max_steps=5)
    accumulated = trained_with(tmp_path, method, 8, 4, max_steps=5)
    assert_agree(whole, accumulated)


@pytest.mark.parametrize("name", sorted(NOISY))
def test_noise_is_drawn_anew_for_each_accumulated_batch(tmp_path, monkeypatch, name):
    drawn = []
    perturb, learn = hf_lotus.methods.lotus.gumbel_perturbed, hf_lotus.methods.unsir.learn_noise
    seed = lambda generator: drawn.append(generator.initial_seed())  # noqa: E731
    for module in PERTURBING:
        monkeypatch.setattr(module, "gumbel_perturbed", lambda logits, g: (seed(g), perturb(logits, g))[1])
    monkeypatch.setattr(hf_lotus.methods.unsir, "learn_noise", lambda *given: (seed(given[-1]), learn(*given))[1])
    trainer = trained_with(tmp_path, EVERY_METHOD[name], 8, 4, max_steps=3)
    assert len(drawn) == len(set(drawn)) == 12
    assert all(torch.isfinite(value).all() for value in trainer.model.state_dict().values())


def test_it_holds_for_a_resnet_too_but_for_the_statistics_of_each_batch(tmp_path, without_noise):
    """BatchNorm normalises each small batch by itself; with statistics that are held the step is exact."""

    def run(size, accumulation):
        trainer = build(
            tmp_path, LoTUS(stop_margin=2.0), "resnet", num_train_epochs=1,
            per_device_train_batch_size=size, gradient_accumulation_steps=accumulation,
        )  # fmt: skip
        for module in trainer.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.forward = lambda x, m=module: nn.functional.batch_norm(
                    x, m.running_mean, m.running_var, m.weight, m.bias, training=False
                )
        trainer.train()
        return trainer

    whole, accumulated = run(32, 1), run(8, 4)
    assert_agree(whole, accumulated)
