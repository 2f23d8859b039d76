"""One forward pass: exact, in eval mode, in order, and leaving the model as it was."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from host_reads import host_reads
from torch import nn

from hf_lotus.data.images import ReadyImages
from hf_lotus.evaluation import predictions
from hf_lotus.evaluation.predictions import Predictions, _share, evaluation_mode, predict


class Linear(nn.Module):
    """A classifier of two inputs, with a BatchNorm and a dropout that would give training mode away."""

    def __init__(self, shape=lambda logits: logits):
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.9), nn.Linear(2, 3))
        self.shape = shape

    def forward(self, inputs, labels=None):
        assert labels is None, "labels would make a model compute a loss that nobody reads"
        return SimpleNamespace(logits=self.shape(self.layers(inputs)))


def samples(count=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [{"inputs": torch.randn(2, generator=generator), "label": row % 3} for row in range(count)]


def test_everything_against_a_plain_forward_pass():
    torch.manual_seed(0)
    model, data = Linear(), samples()
    predictions = predict(model, data, batch_size=7, progress=False)
    with torch.no_grad():
        logits = model.eval()(torch.stack([sample["inputs"] for sample in data])).logits
    log_p = torch.log_softmax(logits.double(), dim=1)
    np.testing.assert_allclose(predictions.logits, logits.numpy(), rtol=1e-6)
    np.testing.assert_allclose(predictions.probabilities, log_p.exp().numpy(), rtol=1e-6)
    np.testing.assert_allclose(predictions.entropy, -(log_p.exp() * log_p).sum(dim=1).numpy(), rtol=1e-6)
    labels = [sample["label"] for sample in data]
    assert predictions.labels.tolist() == labels
    correct = sum(int(p == y) for p, y in zip(logits.argmax(dim=1).tolist(), labels, strict=True))
    assert predictions.accuracy == correct / 50


def test_ready_images_give_what_the_processor_and_the_model_give(tiny_model, parts, processor):
    model = tiny_model("resnet")
    predictions = predict(model, ReadyImages(parts["test"], processor), batch_size=32, progress=False)
    with torch.no_grad():
        expected = model.eval()(**processor(list(parts["test"]["image"]), return_tensors="pt")).logits
    np.testing.assert_allclose(predictions.logits, expected.numpy(), rtol=1e-4, atol=1e-5)


def right_and_wrong(hits):
    """Predictions with the given right and wrong answers: class → list of whether each is right."""
    labels = np.array([label for label, right in hits.items() for _ in right])
    wrong = np.array([not answer for right in hits.values() for answer in right])
    return Predictions(labels, labels + wrong, np.zeros(len(labels)))


def test_accuracy_weighted_by_another_splits_classes_by_hand():
    # Accuracies of 3/4, 1/2 and 0 on classes 0, 2 and 5.
    predictions = right_and_wrong({0: [1, 1, 1, 0], 2: [0, 1], 5: [0]})
    assert predictions.accuracy == 4 / 7
    assert predictions.accuracy_weighted(np.array([0, 2, 2, 0])) == pytest.approx((3 / 4 + 1 / 2) / 2, abs=1e-15)
    assert predictions.accuracy_weighted(np.array([5, 0, 0, 0])) == pytest.approx(3 / 4 * 3 / 4, abs=1e-15)
    assert predictions.accuracy_weighted(np.array([2])) == 0.5
    assert predictions.accuracy_weighted(predictions.labels) == pytest.approx(predictions.accuracy, abs=1e-15)
    # A class that was never seen says nothing: the others share the weight.
    assert predictions.accuracy_weighted(np.array([0, 2, 2, 2, 7, 7])) == pytest.approx((3 / 4 + 3 / 2) / 4, abs=1e-15)


def test_the_host_waits_as_often_for_many_batches_as_for_one():
    def waits(batch_size):
        model, data = Linear(), samples()
        with host_reads() as found:
            predict(model, data, batch_size=batch_size, progress=False)
        return sum(found.values())

    assert waits(50) == waits(3) > 0


def test_what_is_much_is_fetched_on_the_way(monkeypatch):
    torch.manual_seed(0)
    model, data = Linear(), samples()
    whole = predict(model, data, batch_size=7, progress=False)
    monkeypatch.setattr(predictions, "_HELD_BYTES", 500)
    parts = predict(model, data, batch_size=7, progress=False)
    for name in ("labels", "predicted", "entropy", "logits"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_logits_are_dropped_where_they_are_not_needed():
    assert predict(Linear(), samples(), keep_logits=False, progress=False).logits is None


def test_each_module_gets_its_own_mode_back_and_statistics_stay():
    model = Linear().train()
    model.layers[1].eval()
    before = model.layers[0].running_mean.clone()
    predict(model, samples(), progress=False)
    assert model.training and model.layers[0].training and not model.layers[1].training
    assert torch.equal(model.layers[0].running_mean, before)


def test_a_pass_that_changes_statistics_is_void():
    class Stubborn(Linear):
        def eval(self):
            return self

    with pytest.raises(RuntimeError, match="running_mean"):
        predict(Stubborn().train(), samples(), progress=False)


def test_the_mode_is_restored_after_an_error_too():
    model = Linear().train()
    with pytest.raises(KeyError), evaluation_mode(model):
        assert not model.training
        raise KeyError
    assert model.training


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        (lambda logits: logits[:, :1], ValueError, r"\(7, 2 or more\), got \(7, 1\)"),
        (lambda logits: logits[None], ValueError, "single-label"),
        (lambda logits: logits / 0, FloatingPointError, "not finite"),
        (lambda logits: None, TypeError, "no `logits`"),
    ],
)
def test_outputs_that_are_no_class_scores(shape, error, message):
    with pytest.raises(error, match=message):
        predict(Linear(shape), samples(), batch_size=7, progress=False)


def test_a_label_outside_the_models_classes():
    with pytest.raises(ValueError, match="Label 3 is outside the model's 3 classes"):
        predict(Linear(), [{"inputs": torch.zeros(2), "label": 3}], progress=False)


def test_nothing_to_measure():
    with pytest.raises(ValueError, match="empty"):
        predict(Linear(), [], progress=False)


@pytest.mark.parametrize(("size", "batch_size", "ranks"), [(10, 4, 1), (9, 4, 2), (17, 4, 2), (1, 4, 3), (33, 8, 4)])
def test_every_rank_takes_equally_many_batches_and_each_sample_counts_once(size, batch_size, ranks):
    shares = [_share(size, batch_size, ranks, rank) for rank in range(ranks)]
    assert len({len(batches) for batches, _ in shares}) == 1
    assert [row for batches, own in shares for batch in batches[:own] for row in batch] == list(range(size))
    assert all(1 <= len(batch) <= batch_size for batches, _ in shares for batch in batches)
    assert all(batches[own:] in ([], [[0]]) for batches, own in shares)
