"""The tensor pieces that methods share, against closed forms and against the distributions they must have."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from hf_lotus.functional import gumbel_perturbed, reinitialized, soft_cross_entropy

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
