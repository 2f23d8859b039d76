"""CT: every square kernel is transposed, once; twice is the identity; nothing else changes; then plain finetuning."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hf_lotus import Comparison, Contender, UnlearningArguments
from hf_lotus.methods import CT, Finetune, RefusedModel, SalUn, Task
from hf_lotus.methods.ct import square_kernels, transpose_kernels
from tests.support.every_method import SaveAt, build
from tests.support.method_helpers import cross_entropy, equal, loss_inputs, trained, weights


def layers():
    """Kernels of 3 × 3, 1 × 1 and 1 × 3, and a square linear layer."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, (1, 3)), nn.Linear(4, 4))


class TestTransposition:
    def test_one_kernel_by_hand(self):
        layer = nn.Conv2d(1, 1, 3)
        layer.weight.data = torch.arange(9.0).view(1, 1, 3, 3)
        transpose_kernels(layer)
        assert layer.weight.flatten().tolist() == [0, 3, 6, 1, 4, 7, 2, 5, 8]

    def test_only_square_kernels_larger_than_one(self):
        model, original = layers(), weights(layers())
        transpose_kernels(model)
        assert torch.equal(model[0].weight.detach(), original["0.weight"].transpose(2, 3))
        assert not torch.equal(model[0].weight.detach(), original["0.weight"])
        assert all(torch.equal(value, original[n]) for n, value in model.state_dict().items() if n != "0.weight")
        assert [module.kernel_size for module in square_kernels(model)] == [(3, 3)]

    @pytest.mark.parametrize("family", ["resnet", "convnext", "swin"])
    def test_twice_is_the_identity(self, tiny_model, family):
        model = tiny_model(family)
        original = weights(model)
        transpose_kernels(model)
        assert not equal(weights(model), original)
        transpose_kernels(model)
        assert equal(weights(model), original)

    def test_it_is_the_original_on_transposed_pictures(self, tiny_model):
        """As all layers of this ResNet are square."""
        model, pixels = tiny_model("resnet").eval(), torch.randn(2, 3, 16, 16)
        with torch.no_grad():
            expected = model(pixel_values=pixels).logits
            transpose_kernels(model)
            given = model(pixel_values=pixels.transpose(2, 3)).logits
            assert not torch.allclose(model(pixel_values=pixels).logits, expected, atol=1e-3)
        torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)


class TestInARun:
    def test_the_first_step_starts_from_transposed_kernels(self, make, processor, monkeypatch):
        trainer = make(trained("resnet", processor), CT())
        teacher, expected = weights(trainer.teacher), trained("resnet", processor)
        transpose_kernels(expected)
        seen, compute = [], trainer.compute_loss

        def recorded(*args, **kwargs):
            seen.append(weights(trainer.model))
            return compute(*args, **kwargs)

        monkeypatch.setattr(trainer, "compute_loss", recorded)
        trainer.train()
        assert equal(seen[0], weights(expected)) and len(seen) == 12
        assert equal(weights(trainer.teacher), teacher)
        total = sum(parameter.numel() for parameter in expected.parameters())
        share = sum(module.weight.numel() for module in square_kernels(expected)) / total
        (first, second) = (entry for entry in trainer.state.log_history if "round" in entry)
        assert first["transposed_share"] == pytest.approx(share) and "transposed_share" not in second

    def test_it_goes_on_as_finetuning_does(self, make, processor):
        """Of a model that was transposed beforehand."""
        arguments = {"optim": "sgd", "lr_scheduler_type": "cosine", "weight_decay": 5e-4}
        by_hand = trained("resnet", processor)
        transpose_kernels(by_hand)
        plain, ours = make(by_hand, Finetune(), arguments), make(trained("resnet", processor), CT(), arguments)
        plain.train(), ours.train()
        assert equal(weights(ours.model), weights(plain.model))

    def test_a_resumed_run_does_not_transpose_again(self, tmp_path):
        whole = build(tmp_path, CT(), "resnet", callbacks=[SaveAt(2, 8)])
        whole.train()
        for step in (2, 8):
            again = build(tmp_path, CT(), "resnet")
            again.train(str(tmp_path / f"checkpoint-{step}"))
            assert equal(weights(again.model), weights(whole.model))


class TestRefused:
    @pytest.mark.parametrize("method", [CT(), SalUn(CT())])
    @pytest.mark.parametrize("family", ["vit", "deit"])
    def test_models_without_kernels_that_overlap(self, make, method, family):
        with pytest.raises(RefusedModel, match=r"none of k × k that overlap .* Choose msg"):
            make(family, method)

    def test_what_has_them_is_not(self, tiny_model):
        reasons = {f: CT().refusal(Task(tiny_model(f), False, 10)) for f in ("resnet", "convnext", "vit", "swin")}
        assert reasons["resnet"] is reasons["convnext"] is None
        assert reasons["vit"] == reasons["swin"] and "patches is a linear layer" in reasons["vit"]

    @pytest.fixture
    def compare(self, tiny_model, parts, processor, tmp_path):
        def run(**methods):
            sets = {f"{name}_dataset": part for name, part in parts.items() if name != "test"}
            arguments = UnlearningArguments(str(tmp_path), num_train_epochs=1, use_cpu=True, disable_tqdm=True)
            comparison = Comparison(tiny_model("vit"), arguments, **sets, processing_class=processor)
            return comparison.run({name: Contender(method) for name, method in methods.items()})

        return run

    def test_a_comparison_goes_on_without_it_and_says_so(self, compare):
        result = compare(finetune=Finetune(), mine=CT())
        assert [model.name for model in result.models] == ["original", "finetune"]
        assert result.notes[-1].startswith("mine is left out: ct cannot unlearn a ViTForImageClassification")

    def test_of_nothing_else_there_is_no_comparison(self, compare):
        with pytest.raises(ValueError, match="nothing to compare: mine is left out: ct cannot"):
            compare(mine=CT())


def test_the_loss_by_hand():
    logits, labels = [[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]], [2, 0]
    loss = CT().loss(loss_inputs(logits, labels, [False, False]))
    assert loss.tolist() == pytest.approx(cross_entropy(logits, labels).tolist(), rel=1e-6)
    assert float(loss[1]) == pytest.approx(math.log(3))
