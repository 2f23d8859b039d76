"""The tensor pieces that methods share, against closed forms and against the distributions they must have."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import special, stats

from hf_lotus.functional.tensors import (
    gumbel_perturbed,
    reinitialized,
    soft_cross_entropy,
    summed_gradients,
    tempered_divergence,
    trainable_copy,
)
from tests.support.method_helpers import FORGET_SAMPLE, RETAIN_SAMPLE, LinearScores, equal, weights

LOGITS = torch.tensor([1.5, -0.5, 0.0, 2.0, -2.0])
DRAWS = 40_000


@pytest.fixture(scope="module")
def perturbed() -> torch.Tensor:
    return gumbel_perturbed(LOGITS.expand(DRAWS, -1), torch.Generator().manual_seed(0))


class TestGumbel:
    def test_the_argmax_is_a_sample_from_the_softmax(self, perturbed):
        counts = perturbed.argmax(dim=1).bincount(minlength=5).numpy()
        expected = torch.softmax(LOGITS.double(), dim=0).numpy() * DRAWS
        assert stats.chisquare(counts, expected).pvalue > 0.01
        assert stats.chisquare(counts, np.full(5, DRAWS / 5)).pvalue < 1e-9  # the test can tell

    def test_soft_samples_lean_to_the_classes_as_the_softmax_does(self, perturbed):
        for temperature in (0.5, 2.0):
            soft = torch.softmax(perturbed / temperature, dim=1)
            torch.testing.assert_close(soft.sum(dim=1), torch.ones(DRAWS))
            assert soft.std(dim=0).min() > 0.02  # fresh noise for every sample
            share = F.one_hot(soft.argmax(dim=1), 5).double().mean(dim=0)
            deviation = (torch.softmax(LOGITS, dim=0) / DRAWS).sqrt()
            assert ((share - torch.softmax(LOGITS.double(), dim=0)).abs() < 4 * deviation).all()

    def test_the_noise_is_standard_gumbel(self, perturbed):
        noise = (perturbed - LOGITS).double().flatten().numpy()
        deviation = math.pi / math.sqrt(6)
        assert abs(noise.mean() - np.euler_gamma) < 4 * deviation / math.sqrt(noise.size)
        assert stats.kstest(noise, stats.gumbel_r.cdf).pvalue > 0.01
        assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 4 / math.sqrt(noise.size)

    def test_low_precision_logits_get_float32_noise(self):
        noise = gumbel_perturbed(torch.zeros(1000, 2, dtype=torch.bfloat16), torch.Generator().manual_seed(1))
        assert noise.dtype == torch.float32 and len(noise.unique()) > 1990

    def test_depends_on_the_generator_alone_and_leaves_the_logits_as_they_were(self):
        logits = torch.zeros(3, 4)
        before = torch.random.get_rng_state()
        first, again, other = (gumbel_perturbed(logits, torch.Generator().manual_seed(s)) for s in (5, 5, 6))
        assert torch.equal(first, again) and not torch.equal(first, other)
        assert torch.equal(torch.random.get_rng_state(), before) and not logits.any()

    def test_without_a_generator_the_global_one_is_used(self):
        torch.manual_seed(9)
        from_global = gumbel_perturbed(torch.zeros(3, 4))
        assert torch.equal(from_global, gumbel_perturbed(torch.zeros(3, 4), torch.Generator().manual_seed(9)))


class TestSoftCrossEntropy:
    def test_by_hand(self):
        # softmax(ln 1, ln 3) = (1/4, 3/4); softmax(0, 0) = (1/2, 1/2)
        logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]], dtype=torch.float64)
        targets = torch.tensor([[0.25, 0.75], [1.0, 0.0]], dtype=torch.float64)
        expected = [0.25 * math.log(4) + 0.75 * math.log(4 / 3), math.log(2)]
        assert soft_cross_entropy(logits, targets).tolist() == pytest.approx(expected, abs=1e-7)

    def test_agrees_with_torch_on_soft_and_hard_targets(self):
        generator = torch.Generator().manual_seed(2)
        logits = 5 * torch.randn(32, 7, generator=generator)
        soft = torch.softmax(torch.randn(32, 7, generator=generator), dim=1)
        labels = torch.randint(7, (32,), generator=generator)
        torch.testing.assert_close(soft_cross_entropy(logits, soft), F.cross_entropy(logits, soft, reduction="none"))
        hard = F.one_hot(labels, 7).float()
        torch.testing.assert_close(soft_cross_entropy(logits, hard), F.cross_entropy(logits, labels, reduction="none"))

    def test_its_gradient_is_the_distance_of_the_distributions(self):
        logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(3), requires_grad=True)
        targets = torch.softmax(torch.randn(4, 3, generator=torch.Generator().manual_seed(4)), dim=1)
        soft_cross_entropy(logits, targets).sum().backward()
        torch.testing.assert_close(logits.grad, torch.softmax(logits.detach(), dim=1) - targets)

    def test_is_finite_and_float32_for_extreme_half_precision_logits(self):
        logits = torch.tensor([[6e4, -6e4]], dtype=torch.float16)
        loss = soft_cross_entropy(logits, torch.tensor([[0.5, 0.5]]))
        # float16 has no 60,000 − 120,000: the difference itself must be taken in float32
        assert loss.dtype == torch.float32 and loss.item() == pytest.approx(6e4, rel=1e-3)


class TestTemperedDivergence:
    def test_by_hand(self):
        # At T = 1: (3/4, 1/4) against (1/2, 1/2). At T = 2 the targets are √3 to 1.
        targets, logits = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
        expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
        assert tempered_divergence(targets, logits).item() == pytest.approx(expected, rel=1e-6)
        p = math.sqrt(3) / (1 + math.sqrt(3))
        expected = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))  # and no factor T²
        assert tempered_divergence(targets, logits, 2.0).item() == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
    def test_agrees_with_scipy_row_by_row_and_is_not_symmetric(self, temperature):
        generator = torch.Generator().manual_seed(5)
        targets, logits = (3 * torch.randn(16, 6, generator=generator) for _ in range(2))
        p, q = (special.softmax(x.double().numpy() / temperature, axis=1) for x in (targets, logits))
        expected = special.rel_entr(p, q).sum(axis=1)
        assert tempered_divergence(targets, logits, temperature).numpy() == pytest.approx(expected, rel=1e-5)
        swapped = tempered_divergence(logits, targets, temperature)
        assert not torch.allclose(swapped, tempered_divergence(targets, logits, temperature), rtol=0.01)

    def test_is_zero_for_equal_distributions_and_float32_and_finite_for_extreme_half_precision_logits(self):
        logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(6))
        torch.testing.assert_close(tempered_divergence(logits + 3.0, logits), torch.zeros(4), rtol=0, atol=1e-6)
        sure = torch.tensor([[3e4, -3e4]], dtype=torch.float16)
        value = tempered_divergence(sure, -sure)  # log-probabilities 0 and −60,000, the second weighing nothing
        assert value.dtype == torch.float32 and value.item() == pytest.approx(6e4, rel=1e-3)


class TestSummedGradients:
    def test_by_hand(self):
        model, batches = LinearScores(), [FORGET_SAMPLE, RETAIN_SAMPLE]
        sums, count = summed_gradients(model, batches)
        assert sums["w"].tolist() == pytest.approx([0.5, -0.5, -0.5]) and count.item() == 2
        squares, count = summed_gradients(model, batches, power=2)
        assert squares["w"].tolist() == pytest.approx([1.25, 0.25, 0.25]) and count.item() == 2

    def test_a_batch_is_averaged_before_it_is_squared(self):
        """Both samples have gradient (1, 0, −1/2) or its opposite, whose mean is zero."""
        batch = {"x": torch.tensor([[2.0, 0.0, -1.0]]).expand(2, 3)}, torch.tensor([0, 1])
        squares, count = summed_gradients(LinearScores(), [batch], power=2)
        assert squares["w"].tolist() == [0.0, 0.0, 0.0] and count.item() == 1

    def test_by_sample_it_does_not_depend_on_how_samples_are_dealt_out(self):
        """(−1/2, −1/2, 0) once and (1, 0, −1/2) twice, in batches of 2 + 1 and of 1 + 1 + 1."""
        (first, label), (second, other) = FORGET_SAMPLE, RETAIN_SAMPLE
        pair = {"x": torch.cat([first["x"], second["x"]])}, torch.cat([label, other])
        for batches in ([pair, RETAIN_SAMPLE], [FORGET_SAMPLE, RETAIN_SAMPLE, RETAIN_SAMPLE]):
            sums, _ = summed_gradients(LinearScores(), batches, by_sample=True)
            assert sums["w"].tolist() == pytest.approx([1.5, -0.5, -1.0])

    def test_neither_uses_nor_changes_gradients_modes_and_frozen_parameters(self):
        model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5), LinearScores()).eval()
        model[0].requires_grad_(False)
        model[2].w.grad = torch.full((3,), 7.0)
        inputs = ({"input": FORGET_SAMPLE[0]["x"]}, FORGET_SAMPLE[1])
        before = weights(model)
        sums, _ = summed_gradients(model, [inputs])
        assert list(sums) == ["2.w"] and not sums["2.w"].requires_grad
        assert model[2].w.grad.tolist() == [7.0] * 3 and model[0].weight.grad is None
        assert not any(module.training for module in model.modules()) and equal(weights(model), before)

    def test_a_parameter_that_is_not_used_has_sum_zero(self):
        model = LinearScores()
        model.unused = torch.nn.Parameter(torch.ones(2))
        assert summed_gradients(model, [FORGET_SAMPLE])[0]["unused"].tolist() == [0.0, 0.0]


def test_a_trainable_copy_requires_gradients_where_the_other_does_and_shares_no_storage(tiny_model):
    frozen, like = tiny_model("vit").requires_grad_(False), tiny_model("vit")
    like.vit.embeddings.requires_grad_(False)
    copied = trainable_copy(frozen, like)
    given = [parameter.requires_grad for parameter in like.parameters()]
    assert [parameter.requires_grad for parameter in copied.parameters()] == given and len(set(given)) == 2
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert equal(weights(copied), weights(frozen))
    storage = {value.data_ptr() for value in frozen.state_dict().values()}
    assert storage.isdisjoint(value.data_ptr() for value in copied.state_dict().values())


class TestReinitialized:
    def test_depends_on_the_seed_alone(self, tiny_model):
        model = tiny_model("vit")
        first, other = reinitialized(model, seed=1).state_dict(), reinitialized(model, seed=2).state_dict()
        torch.manual_seed(123)
        again = reinitialized(model, seed=1).state_dict()
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not torch.equal(first["classifier.weight"], other["classifier.weight"])

    @pytest.mark.parametrize("family", ["vit", "deit", "swin", "resnet", "convnext"])
    def test_no_drawn_weight_is_that_of_the_given_model(self, tiny_model, family):
        model = tiny_model(family)
        before = copy.deepcopy(model.state_dict())
        fresh = reinitialized(model, seed=7)
        assert type(fresh) is type(model) and fresh.config.to_dict() == model.config.to_dict()
        assert fresh.config is not model.config
        drawn = [name for name, weight in model.named_parameters() if weight.dim() > 1 and weight.std() > 0]
        assert drawn and not any(torch.equal(fresh.state_dict()[name], before[name]) for name in drawn)
        assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())

    def test_leaves_the_global_random_state_alone(self, tiny_model):
        model = tiny_model("resnet")
        before = torch.random.get_rng_state()
        reinitialized(model, seed=1)
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_keeps_the_data_type(self, tiny_model):
        assert reinitialized(tiny_model("vit").to(torch.bfloat16), seed=0).dtype == torch.bfloat16

    def test_needs_a_config_to_rebuild_from(self):
        with pytest.raises(TypeError, match="Linear has no `config` to rebuild it from"):
            reinitialized(torch.nn.Linear(2, 2), seed=0)
