"""What must hold before anything is trained or measured, and what is said where it does not."""

from types import SimpleNamespace

import pytest
import torch
from datasets import ClassLabel, Dataset

from hf_lotus.data.checks import check_label_names, check_labels, check_rows
from hf_lotus.models.checks import check_same_classes, require_full_precision, require_single_label


class TestSingleLabel:
    @pytest.mark.parametrize("problem_type", [None, "single_label_classification"])
    def test_passes(self, tiny_model, problem_type):
        model = tiny_model("vit")
        model.config.problem_type = problem_type
        require_single_label(model)
        require_single_label(torch.nn.Linear(2, 2))  # no configuration to ask

    @pytest.mark.parametrize("problem_type", ["regression", "multi_label_classification"])
    def test_other_heads_are_refused(self, tiny_model, problem_type):
        model = tiny_model("vit")
        model.config.problem_type = problem_type
        with pytest.raises(ValueError, match=f"problem_type is '{problem_type}'; unlearning needs a single-label"):
            require_single_label(model)


class TestRows:
    def test_parts_of_a_partition_pass(self, parts):
        check_rows({**parts, "unseen": None})

    def test_an_empty_set_is_named(self, parts):
        with pytest.raises(ValueError, match="The unseen set is empty. Give at least one sample, or leave it out"):
            check_rows({**parts, "unseen": parts["unseen"].select([])})
        with pytest.raises(ValueError, match="The forget set is empty"):
            check_rows({"forget": [], "retain": [1]})

    def test_shared_rows_are_counted_and_the_first_few_named(self, digits):
        splits = {"forget": digits.select([90, 3, 91]), "retain": digits.select(range(10, 400)), "test": None}
        with pytest.raises(ValueError, match=r"forget set and the retain set share 2 rows \(of the .*: 0, 2\)"):
            check_rows(splits)
        everything = {"forget": digits.select(range(7)), "unseen": digits}
        with pytest.raises(ValueError, match=r"share 7 rows \(of the forget set: 0, 1, 2, 3, 4, …\)\. Take them out"):
            check_rows(everything)

    def test_every_two_sets_are_compared(self, digits):
        splits = {"forget": digits.select([0]), "retain": digits.select([1]), "unseen": digits.select([2])}
        check_rows({**splits, "test": digits.select([3])})
        with pytest.raises(ValueError, match="The unseen set and the test set share 1 rows"):
            check_rows({**splits, "test": digits.select([2])})


def labelled(*labels: int) -> list[dict[str, int]]:
    return [{"label": label} for label in labels]


class TestLabels:
    def test_says_whether_whole_classes_are_forgotten(self):
        assert check_labels({"forget": labelled(3, 3), "retain": labelled(0, 1), "unseen": labelled(3)}, 4) is True
        assert check_labels({"forget": labelled(3, 2), "retain": labelled(0, 2), "unseen": None}, 4) is False

    @pytest.mark.parametrize("name", ["forget", "retain", "unseen", "test"])
    @pytest.mark.parametrize("label", [4, -1])
    def test_outside_the_models_classes(self, name, label):
        splits = {"forget": labelled(0), "retain": labelled(1), "unseen": labelled(2), "test": labelled(3)}
        with pytest.raises(ValueError, match=rf"The {name} set has label {label}, .* 4 classes \(0 to 3\)\. Use the"):
            check_labels({**splits, name: labelled(0, label, 1)}, 4)

    def test_of_a_model_that_does_not_say_how_many_classes_it_has(self):
        assert check_labels({"forget": labelled(1000), "retain": labelled(0)}, None) is True

    def test_of_any_data_set_with_a_label_column(self):
        forget, retain = Dataset.from_dict({"x": [1], "label": [1]}), [{"x": 2, "labels": 1}]
        assert check_labels({"forget": forget, "retain": retain}, 2) is False


class TestLabelNames:
    CONFIG = SimpleNamespace(id2label={1: "cat", 0: "airplane", 2: "dog"})

    def data(self, *names: str) -> Dataset:
        return Dataset.from_dict({"label": [0]}).cast_column("label", ClassLabel(names=list(names)))

    def test_classes_in_the_same_order_pass(self):
        check_label_names(self.data("airplane", "cat", "dog"), None, self.CONFIG)

    def test_classes_in_another_order_are_refused(self):
        with pytest.raises(ValueError, match="Class 1 is 'cat' to the model and 'dog' in the data set.*Renumber"):
            check_label_names(self.data("airplane", "dog", "cat"), None, self.CONFIG)

    def test_other_names_and_data_without_names_are_nobody_elses_business(self):
        check_label_names(self.data("airplane", "tomcat", "dog"), None, self.CONFIG)
        for name in ("label", "labels", "label_ids"):
            check_label_names(Dataset.from_dict({name: [0]}), None, self.CONFIG)
        check_label_names(self.data("dog", "cat", "airplane"), None, SimpleNamespace())
        check_label_names(SimpleNamespace(features=torch.zeros(2, 2)), None, self.CONFIG)


def with_classes(*names: str) -> SimpleNamespace:
    return SimpleNamespace(config=SimpleNamespace(num_labels=len(names), id2label=dict(enumerate(names))))


class TestSameClasses:
    def test_the_same_classes_or_other_names_pass(self):
        assert check_same_classes(with_classes("cat", "dog"), with_classes("cat", "dog"), "retrained model") is None
        assert check_same_classes(with_classes("cat", "dog"), with_classes("LABEL_0", "LABEL_1"), "other") is None
        assert check_same_classes(with_classes("cat", "dog"), SimpleNamespace(), "model without a config") is None

    def test_another_order(self):
        with pytest.raises(ValueError, match="The retrained model has the classes .* in another order"):
            check_same_classes(with_classes("cat", "dog"), with_classes("dog", "cat"), "retrained model")

    def test_another_number(self):
        with pytest.raises(ValueError, match="The retrained model has 3 classes, and the model to unlearn 2"):
            check_same_classes(with_classes("cat", "dog"), with_classes("a", "b", "c"), "retrained model")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_and_full_passes(dtype):
    assert require_full_precision(torch.nn.Linear(2, 2)) is None
    with pytest.raises(ValueError, match=f"{dtype}, in which .* dtype=torch.float32"):
        require_full_precision(torch.nn.Linear(2, 2).to(dtype))
