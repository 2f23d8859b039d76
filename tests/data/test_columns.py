"""Columns are found from the features; shared rows are known by where they lie, without reading any data."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value, concatenate_datasets, load_dataset

from hf_lotus.data.columns import (
    find_image_column,
    find_label_column,
    read_column,
    read_labels,
    require_column,
    require_map_style,
    shared_base_rows,
)
from hf_lotus.utils.text import nearest


def with_features(**features) -> Dataset:
    """A data set without rows: its features are all that the search for columns reads."""
    return Dataset.from_dict({name: [] for name in features}, features=Features(features))


class TestImageColumn:
    def test_the_only_one_is_found_whatever_its_name(self):
        assert find_image_column(with_features(label=ClassLabel(2), scan=Image())) == "scan"

    def test_none_where_there_is_none(self):
        assert find_image_column(with_features(text=Value("string"))) is None

    def test_of_several_one_must_be_named(self):
        both = with_features(front=Image(), back=Image())
        with pytest.raises(ValueError, match=r"several image columns \(front, back\): name one"):
            find_image_column(both)
        assert find_image_column(both, "back") == "back"

    def test_a_named_column_must_exist_and_hold_images(self):
        data = with_features(image=Image(), label=ClassLabel(2))
        with pytest.raises(ValueError, match="no column 'imgae'. Did you mean 'image'"):
            find_image_column(data, "imgae")
        with pytest.raises(ValueError, match=r"'label' is ClassLabel.*not an Image feature \(\['image'\]\)"):
            find_image_column(data, "label")


class TestLabelColumn:
    def test_the_only_class_label_is_found_whatever_its_name(self):
        assert find_label_column(with_features(label=Value("string"), species=ClassLabel(3))) == "species"

    def test_of_several_the_one_with_the_models_number_of_classes(self):
        cifar100 = with_features(coarse_label=ClassLabel(20), fine_label=ClassLabel(100))
        assert find_label_column(cifar100, num_labels=100) == "fine_label"
        assert find_label_column(cifar100, num_labels=20) == "coarse_label"

    @pytest.mark.parametrize("num_labels", [None, 7])
    def test_of_several_that_fit_equally_one_must_be_named(self, num_labels):
        data = with_features(first=ClassLabel(3), second=ClassLabel(3))
        with pytest.raises(ValueError, match=r"(2|0) of the class-label columns \(first, second\) fit.*Name"):
            find_label_column(data, num_labels=num_labels)
        assert find_label_column(data, "second", num_labels) == "second"

    def test_labels_comes_before_label_where_neither_is_a_class_label(self):
        assert find_label_column(with_features(label=Value("int64"), labels=Value("int64"))) == "labels"
        assert find_label_column(with_features(label=Value("int64"), label_ids=Value("int64"))) == "label"
        assert find_label_column(with_features(label_ids=Value("int64"))) == "label_ids"

    def test_without_any_the_columns_are_named(self):
        with pytest.raises(ValueError, match=r"\(none\) fit a model with 4 classes.*the columns are text, score"):
            find_label_column(with_features(text=Value("string"), score=Value("float32")), num_labels=4)

    def test_a_named_column_must_exist(self):
        with pytest.raises(ValueError, match="no column 'lable'. Did you mean 'label'"):
            find_label_column(with_features(label=ClassLabel(2)), "lable")


def test_labels_are_read_as_integers_without_decoding_images(digits):
    broken = digits.remove_columns("image").add_column("image", [{"bytes": b"no image", "path": None}] * len(digits))
    labels = read_labels(broken.cast_column("image", Image()), "label")
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, digits["label"][:])


@pytest.mark.parametrize("labels", [[0.5, 1.5], ["cat", "dog"], [[0, 1], [1, 0]], [1, None]])
def test_labels_that_are_not_one_integer_each_are_refused(labels):
    with pytest.raises(ValueError, match="'label' must hold one integer class a sample, got .*class_encode_column"):
        read_labels(Dataset.from_dict({"label": labels}), "label")


def test_a_column_is_read_whatever_the_format_of_the_data_set(digits):
    assert read_column(digits.with_format("torch", columns=["label"]), "user_id")[:3].tolist() == ["u0", "u1", "u2"]
    with pytest.raises(ValueError, match="no column 'user'. Did you mean 'user_id'"):
        read_column(digits, "user")


class TestNearest:
    def test_near_names_are_suggested(self):
        assert nearest("aeroplane", ["cat", "airplane", "dog"]) == "Did you mean 'airplane'?"

    def test_else_all_are_listed_up_to_twenty(self):
        assert nearest("zebra", ["cat", "dog"]) == "There are: 'cat', 'dog'."
        listed = nearest("zebra", [f"{n}" for n in range(21)])
        assert listed.startswith("There are: '0', '1',") and listed.endswith("'19' ….")

    def test_a_column_that_exists_passes(self, digits):
        require_column(digits, "label")


def test_streamed_data_and_several_splits_are_refused(digits):
    with pytest.raises(TypeError, match="The train set is an IterableDataset.*without streaming=True"):
        require_map_style(digits.to_iterable_dataset(), "train set")
    with pytest.raises(TypeError, match=r"The train set is a DatasetDict: choose one of its splits \(train, test\)"):
        require_map_style(DatasetDict(train=digits, test=digits), "train set")
    require_map_style(digits, "train set")


class TestSharedBaseRows:
    """Positions in the first view whose row is also in the second."""

    def test_of_slices_and_selections(self, digits):
        assert shared_base_rows(digits.select(range(0, 10)), digits.select(range(8, 20))) == [8, 9]
        assert shared_base_rows(digits.select([7, 3, 5, 1]), digits.select([1, 2, 3])) == [1, 3]
        assert shared_base_rows(digits.select([7, 3, 5, 1]), digits.select(range(5, 9))) == [0, 2]

    def test_of_selections_of_selections(self, digits):
        assert shared_base_rows(digits.select([9, 4, 2, 6]).select([1, 3]), digits.select(range(5))) == [0]

    def test_none_between_parts_of_a_partition(self, digits):
        halves = digits.train_test_split(test_size=0.5, seed=0)
        assert shared_base_rows(halves["train"], halves["test"]) == []
        assert len(shared_base_rows(halves["train"], digits)) == 200

    def test_after_shuffling_filtering_and_sharding(self, digits):
        wanted = digits.filter(lambda label: label == 3, input_columns="label")
        rows = np.flatnonzero(np.array(digits["label"][:]) == 3).tolist()
        assert shared_base_rows(digits, wanted) == rows
        shuffled = digits.shuffle(seed=1)
        assert shared_base_rows(shuffled, wanted) == np.flatnonzero(np.array(shuffled["label"][:]) == 3).tolist()
        assert shared_base_rows(digits.shard(4, 0), digits.shard(4, 1)) == []

    def test_after_dropping_and_adding_columns(self, digits):
        fewer = digits.select_columns(["label", "user_id"]).select(range(5))
        assert shared_base_rows(fewer, digits.remove_columns("image").select([4, 5])) == [4]
        assert shared_base_rows(digits.add_column("weight", [1.0] * 400).select([0, 1]), digits.select([1])) == [1]
        assert shared_base_rows(digits.select_columns("label"), digits.select_columns("user_id")) == []

    def test_of_concatenated_views(self, digits):
        both = concatenate_datasets([digits.select(range(300, 310)), digits.select([2, 9, 4])])
        assert shared_base_rows(both, digits.select([4, 305])) == [5, 12]

    def test_of_a_table_read_from_disk(self, digits, tmp_path):
        digits.to_parquet(tmp_path / "train.parquet", batch_size=64)
        data = load_dataset("parquet", data_dir=str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))
        assert shared_base_rows(data.select([399, 100, 7]), data.select(range(100, 400))) == [0, 1]

    def test_equal_rows_of_another_table_are_not_shared(self):
        first, second = (Dataset.from_dict({"note": [None, None], "x": [1, 2]}) for _ in range(2))
        assert shared_base_rows(first, second) == []
        assert shared_base_rows(first.select([1]), first) == [0]  # though the first column has no buffer to know it by

    def test_nothing_is_shared_with_no_rows_or_with_another_kind_of_data(self, digits):
        empty = Dataset.from_dict({"label": []})
        assert shared_base_rows(empty, digits) == shared_base_rows(digits, empty) == []
        assert shared_base_rows(digits.select([]), digits) == []
        assert shared_base_rows([1, 2], digits) == shared_base_rows(digits, [1, 2]) == []
