"""Half precision, compilation and optimizers by the Trainer's own arguments: results stay within tolerance."""

import pytest
import torch

from hf_lotus.methods import SCRUB, LoTUS, SalUn
from tests.support.method_helpers import weights

EACH_STEP = {"logging_strategy": "steps", "logging_steps": 1, "learning_rate": 1e-4}


def run(make, method=None, model="resnet", **arguments):
    trainer = make(model, method, arguments={**EACH_STEP, **arguments})
    trainer.train()
    return trainer


def losses(trainer):
    return torch.tensor([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])


@pytest.mark.parametrize("model", ["resnet", pytest.param("vit", marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("method", [LoTUS(stop_margin=2.0), SCRUB(), SalUn()], ids=lambda m: type(m).__name__)
def test_bf16_computes_in_half_precision_and_learns_in_full(make, model, method):
    full, half = run(make, method, model), run(make, method, model, bf16=True)
    assert all(weight.dtype == torch.float32 for weight in half.model.parameters())
    # A loss is a sum of products of numbers with 8 bits; the targets of LoTUS are sampled, and stay the same samples.
    assert torch.allclose(losses(full), losses(half), rtol=2**-6, atol=2**-6)
    assert not torch.equal(losses(full), losses(half)), "nothing was computed in half precision"
    kept = full.evaluator.yardstick.original["test"].logits, half.evaluator.yardstick.original["test"].logits
    assert kept[0] == pytest.approx(kept[1], abs=2**-5) and half.teacher.dtype == torch.float32


@pytest.mark.exhaustive  # the compiler takes longer than all that it is asked for
@pytest.mark.parametrize("model", ["resnet", "vit"])
def test_a_compiled_model_gives_the_same_losses_and_is_measured_and_saved_as_itself(make, model, tmp_path):
    # The compiler's front end and its autograd, without the code generator, which takes minutes.
    compiled = {"torch_compile": True, "torch_compile_backend": "aot_eager"}
    plain, fast = run(make, model=model), run(make, model=model, **compiled)
    assert torch.allclose(losses(plain), losses(fast), rtol=0, atol=1e-5)
    fast.save_model()
    again = type(plain.model).from_pretrained(tmp_path / "out")
    for name, value in weights(plain.model).items():
        assert torch.allclose(value, again.state_dict()[name].to(value.dtype), atol=1e-4), name
    assert fast.compare()["lotus"].forget_accuracy == plain.compare()["lotus"].forget_accuracy


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused"])
def test_fused_or_not_the_optimizer_takes_the_same_steps(make, optim):
    first, second = weights(run(make, optim=optim).model), weights(run(make).model)
    assert all(torch.allclose(value.float(), second[name].float(), atol=1e-6) for name, value in first.items())


def test_the_default_optimizer_is_fused(make):
    trainer = run(make)
    assert trainer.args.optim == "adamw_torch_fused"
    assert trainer.optimizer.param_groups[0]["fused"] is True


def test_images_come_to_the_model_channels_last(make):
    trainer, layouts = make("resnet"), []
    trainer.model.register_forward_pre_hook(
        lambda _, args, kwargs: layouts.append(kwargs["pixel_values"]), with_kwargs=True
    )
    trainer.train()
    trainer.evaluate()
    assert all(pixels.is_contiguous(memory_format=torch.channels_last) for pixels in layouts)
