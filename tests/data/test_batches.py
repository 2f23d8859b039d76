"""Batches hold what the model takes, labels under one name, and logits are checked before anything reads them."""

from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset

from hf_lotus.data.batches import Collator, FiniteCheck, class_logits, model_columns, model_inputs, read_dataset_labels
from hf_lotus.data.images import ReadyImages


class Samples(torch.utils.data.Dataset):
    """A plain data set of the given samples, which counts how often one is made."""

    def __init__(self, *samples):
        self.samples, self.made = samples, 0

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, row):
        self.made += 1
        return self.samples[row]


class TestCollator:
    SAMPLES = [
        {"x": torch.tensor([float(n)]), "label": n, "text": "a", "is_forget": n == 1, "position": 10 + n}
        for n in range(3)
    ]

    def test_samples_lose_what_the_model_does_not_take(self):
        batch = Collator(frozenset({"x", "label"}))(self.SAMPLES)
        assert batch.keys() == {"x", "labels", "is_forget", "position"}
        assert batch["x"].tolist() == [[0.0], [1.0], [2.0]] and batch["labels"].tolist() == [0, 1, 2]

    def test_the_forget_flag_survives_as_a_boolean_and_the_position_as_a_number(self):
        batch = Collator(frozenset({"x", "label"}))(self.SAMPLES)
        assert batch["is_forget"].dtype == torch.bool and batch["is_forget"].tolist() == [False, True, False]
        assert batch["position"].dtype == torch.int64 and batch["position"].tolist() == [10, 11, 12]

    def test_a_batch_passes_as_it_is(self):
        batch = {"pixel_values": torch.zeros(2, 3), "labels": torch.zeros(2)}
        passed = Collator(frozenset())(batch)
        assert passed == batch and passed is not batch

    def test_another_collator_gets_the_stripped_samples(self):
        given = []
        Collator(frozenset({"x"}), lambda samples: given.extend(samples) or {"x": 1})(self.SAMPLES)
        assert [sample.keys() for sample in given] == [{"x", "is_forget", "position"}] * 3


@pytest.mark.parametrize("family", ["vit", "resnet"])
def test_model_columns_are_the_inputs_of_forward_and_the_labels(tiny_model, family):
    columns = model_columns(tiny_model(family))
    assert {"pixel_values", "labels", "label", "label_ids"} <= columns
    assert not columns & {"self", "image", "text"}


def test_model_inputs_are_the_batch_without_labels_and_what_a_round_adds():
    inputs = {"pixel_values": 1, "attention_mask": 2}
    others = {"labels": 3, "label": 4, "label_ids": 5, "is_forget": 6, "position": 7}
    assert model_inputs({**inputs, **others}) == inputs


class TestClassLogits:
    def test_are_given_back_as_they_are(self):
        logits = torch.randn(4, 2)
        assert class_logits(SimpleNamespace(logits=logits), 4) is logits

    @pytest.mark.parametrize("outputs", [SimpleNamespace(), SimpleNamespace(logits=None), torch.zeros(4, 2)])
    def test_must_be_there(self, outputs):
        with pytest.raises(TypeError, match="has no `logits`. Use a classifier such as AutoModelForImageClass"):
            class_logits(outputs, 4)

    @pytest.mark.parametrize("shape", [(4,), (4, 1), (3, 5), (4, 5, 2)])
    def test_must_be_one_row_a_sample_of_two_classes_or_more(self, shape):
        with pytest.raises(ValueError, match=r"here \(4, 2 or more\), got \(") as error:
            class_logits(SimpleNamespace(logits=torch.zeros(shape)), 4)
        assert str(shape) in str(error.value)


class TestFiniteCheck:
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    @pytest.mark.parametrize("batch", [0, 1, 2])
    def test_one_value_of_any_batch_is_told_when_it_is_asked_and_then_forgotten(self, value, batch):
        check, batches = FiniteCheck(), torch.zeros(3, 4, 3)
        batches[batch, 2, 1] = value
        for logits in batches:
            check.see(logits)
        with pytest.raises(FloatingPointError, match="not finite. Lower the learning rate, or use bf16"):
            check.ask()
        check.ask()

    def test_finite_ones_and_none_at_all_pass(self):
        check = FiniteCheck()
        check.ask()
        check.see(torch.full((4, 3), 3e38, requires_grad=True))
        check.ask()


class TestReadLabels:
    @pytest.mark.parametrize("name", ["labels", "label", "label_ids"])
    def test_of_a_data_set_without_reading_its_inputs(self, name):
        data = Dataset.from_dict({"input_ids": [[1], [2]], name: [4, 2]})
        for formatted in (data, data.with_format("torch"), data.with_transform(lambda batch: 1 / 0)):
            labels = read_dataset_labels(formatted)
            assert labels.dtype == torch.int64 and labels.tolist() == [4, 2]

    def test_of_ready_images_without_decoding_any(self, digits, processor):
        data = ReadyImages(digits, processor)
        assert read_dataset_labels(data).tolist() == digits["label"][:]
        assert not data.is_ready.any()

    @pytest.mark.parametrize("labels", [[3, 1], [torch.tensor(3), torch.tensor(1)]])
    def test_of_single_samples(self, labels):
        data = Samples(*({"x": 0, "labels": label} for label in labels))
        assert read_dataset_labels(data).tolist() == [3, 1]
        assert data.made == 3  # each once, and one to find the label's name

    def test_there_must_be_some(self):
        for data in (Dataset.from_dict({"x": [1]}), Samples({"x": 1})):
            with pytest.raises(ValueError, match="no label; one of labels, label, label_ids is needed"):
                read_dataset_labels(data)

    @pytest.mark.parametrize("label", [2.7, "cat", [0, 1], [0.0, 1.0]])
    def test_must_be_one_integer_each(self, label):
        for data in (Dataset.from_dict({"label": [label]}), Samples({"label": label})):
            with pytest.raises(ValueError, match="(one|One) integer (class )?a sample, got"):
                read_dataset_labels(data)


def test_labels_that_a_transform_makes_from_another_column():
    data = Dataset.from_dict({"fine_label": [3, 1]}).with_transform(lambda batch: {"labels": batch["fine_label"]})
    assert read_dataset_labels(data).tolist() == [3, 1]


def test_labels_of_another_number_than_the_samples():
    data = Dataset.from_dict({"input_ids": [[1]] * 3})
    data.labels = [0, 1]
    with pytest.raises(ValueError, match="3 samples and 2 labels"):
        read_dataset_labels(data)
