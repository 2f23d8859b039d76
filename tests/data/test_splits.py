"""A split is two frozen views of one table: chosen by rows, file, column, class or fraction."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, load_dataset

from hf_lotus.data.columns import shared_base_rows
from hf_lotus.data.splits import ForgetRetainSplit, read_rows, stratified_rows

Split = ForgetRetainSplit


@pytest.fixture
def on_disk(digits, tmp_path) -> Dataset:
    """The digits as a data set in parquet on disk, which `datasets` maps into memory."""
    digits.to_parquet(tmp_path / "train.parquet", batch_size=100)
    return load_dataset("parquet", data_dir=str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))


class TestViews:
    def test_both_sides_are_views_of_the_mapped_table(self, on_disk):
        before = pa.total_allocated_bytes()
        split = Split.from_indices(on_disk, [399, 5, 17])
        forget, retain = split.forget, split.retain
        assert forget.cache_files == retain.cache_files == on_disk.cache_files != []
        assert pa.total_allocated_bytes() - before < on_disk.data.nbytes / 10  # row numbers, not images
        assert shared_base_rows(on_disk, forget) == [5, 17, 399]
        assert shared_base_rows(on_disk, retain) == [row for row in range(400) if row not in (5, 17, 399)]

    def test_rows_keep_the_numbers_of_the_data_set(self, digits):
        numbered = digits.add_column("number", list(range(400)))
        split = Split.from_indices(numbered, [30, 7, 30, 255])
        assert split.forget_rows.tolist() == split.forget["number"][:] == [7, 30, 255]
        assert split.retain_rows.tolist() == split.retain["number"][:]
        assert sorted([*split.forget_rows, *split.retain_rows]) == list(range(400))

    def test_rows_of_neither_side_are_left_out(self, digits):
        split = Split(digits, [1, 2], [4, 3])
        assert split.forget_rows.tolist() == [1, 2] and split.retain_rows.tolist() == [3, 4]
        assert len(split.forget) == len(split.retain) == 2

    def test_a_view_is_made_once(self, digits):
        split = Split.from_indices(digits, [1])
        assert split.forget is split.forget and split.retain is split.retain

    def test_it_is_frozen(self, digits):
        given = np.array([1, 2])
        split = Split.from_indices(digits, given)
        with pytest.raises(dataclasses.FrozenInstanceError):
            split.forget_rows = given
        for rows in (split.forget_rows, split.retain_rows):
            with pytest.raises(ValueError, match="read-only"):
                rows[0] = 0
        given[0] = 99
        assert split.forget_rows.tolist() == [1, 2]


class TestErrors:
    def test_empty_sides(self, digits):
        with pytest.raises(ValueError, match="The forget set is empty: give at least one row"):
            Split.from_indices(digits, [])
        with pytest.raises(ValueError, match="The retain set is empty"):
            Split(digits, [1], [])
        with pytest.raises(ValueError, match="All 400 rows are to be forgotten; nothing is left to retain"):
            Split.from_indices(digits, range(400))

    def test_rows_out_of_range_are_named(self, digits):
        with pytest.raises(ValueError, match=r"Forget rows out of range: -1, 400\. Rows go from 0 to 399"):
            Split.from_indices(digits, [0, -1, 400])
        with pytest.raises(ValueError, match=r"Retain rows out of range: 400, 401, 402, 403, 404, … \(10 in all\)"):
            Split(digits, [0], range(400, 410))

    def test_shared_rows_are_counted_and_named(self, digits):
        with pytest.raises(ValueError, match=r"^2 rows are both.*retained: 3, 9\. Take them out of one side"):
            Split(digits, [1, 3, 9], [3, 4, 9])

    @pytest.mark.parametrize("rows", [[1.0, 2.0], ["1", "2"], [[1], [2]], [True, False]])
    def test_rows_that_are_not_integers(self, digits, rows):
        with pytest.raises(ValueError, match="forget rows must be a flat list of integers, got .* of shape"):
            Split.from_indices(digits, rows)

    @pytest.mark.parametrize(
        "split",
        [
            lambda data: Split.from_indices(data, [1]),
            lambda data: Split.from_column(data, "user_id", ["u1"]),
            lambda data: Split.from_class(data, "digit 1"),
            lambda data: Split.from_fraction(data, 0.1),
        ],
    )
    def test_data_without_row_numbers(self, digits, split):
        with pytest.raises(TypeError, match="data set to split is an IterableDataset"):
            split(digits.to_iterable_dataset())
        with pytest.raises(TypeError, match=r"DatasetDict: choose one of its splits \(train\)"):
            split(DatasetDict(train=digits))


class TestFromColumn:
    def test_every_row_with_one_of_the_values(self, digits):
        split = Split.from_column(digits, "user_id", ["u17", "u3", "u17"])
        assert split.forget_rows.tolist() == [row for row in range(400) if row % 20 in (3, 17)]
        assert Split.from_column(digits, "user_id", "u17").forget_rows.tolist() == list(range(17, 400, 20))

    def test_the_selector_says_how_many_people_and_never_who(self, digits):
        split = Split.from_column(digits, "user_id", ["u17", "u3", "u17"])
        assert split.selector == {"by": "column", "column": "user_id", "num_values": 2}

    def test_text_of_a_command_line_matches_a_column_of_numbers(self):
        data = Dataset.from_dict({"user": [17, 1, 7, 17]})
        assert Split.from_column(data, "user", ["17"]).forget_rows.tolist() == [0, 3]
        assert Split.from_column(data, "user", 17).forget_rows.tolist() == [0, 3]

    def test_unknown_values_and_columns(self, digits):
        with pytest.raises(ValueError, match=r"'user_id' has no row with 'u20', 'nobody'\. Did you mean 'u2'"):
            Split.from_column(digits, "user_id", ["u20", "u1", "nobody"])
        with pytest.raises(ValueError, match="no column 'user'. Did you mean 'user_id'"):
            Split.from_column(digits, "user", ["u1"])
        with pytest.raises(ValueError, match="No row matches column 'user_id': the forget set would be empty"):
            Split.from_column(digits, "user_id", [])


class TestFromClass:
    def test_by_name_by_number_and_several(self, digits):
        labels = np.array(digits["label"][:])
        for given in ("digit 3", 3, "3", np.int64(3), ["digit 3"], [3, "digit 3"]):
            split = Split.from_class(digits, given)
            np.testing.assert_array_equal(split.forget_rows, np.flatnonzero(labels == 3))
        both = Split.from_class(digits, ["digit 3", 5])
        np.testing.assert_array_equal(both.forget_rows, np.flatnonzero(np.isin(labels, [3, 5])))
        assert both.selector == {"by": "class", "classes": ["digit 3", "digit 5"]}

    def test_a_name_comes_before_a_number(self):
        data = Dataset.from_dict({"label": [0, 1, 2]}).cast_column("label", ClassLabel(names=["2", "0", "1"]))
        assert Split.from_class(data, "2").forget_rows.tolist() == [0]

    def test_labels_without_names(self):
        data = Dataset.from_dict({"label": [5, 7, 5]})
        assert Split.from_class(data, 7).forget_rows.tolist() == [1]
        with pytest.raises(ValueError, match="There is no class '6' to forget. There are: '5', '7'"):
            Split.from_class(data, 6)

    def test_unknown_classes_with_the_nearest_names(self, digits):
        with pytest.raises(ValueError, match="There is no class 'digit3' to forget. Did you mean 'digit 3'"):
            Split.from_class(digits, ["digit 1", "digit3"])
        with pytest.raises(ValueError, match="There is no class '10' to forget"):
            Split.from_class(digits, 10)

    def test_a_class_without_rows(self, digits):
        threes = digits.filter(lambda label: label == 3, input_columns="label")
        with pytest.raises(ValueError, match=r"No row matches classes \['digit 4'\]"):
            Split.from_class(threes, "digit 4")

    def test_the_label_column_can_be_named(self, digits):
        data = digits.add_column("parity", np.array(digits["label"][:]) % 2)
        assert len(Split.from_class(data, 1, label_column="parity").forget) == 200


class TestFromFraction:
    def test_the_same_share_of_every_class(self):
        labels = [0] * 10 + [1] * 20 + [2] * 40
        data = Dataset.from_dict({"label": labels})
        split = Split.from_fraction(data, 0.1, seed=1)
        assert np.bincount(split.forget["label"][:]).tolist() == [1, 2, 4]
        assert split.selector == {"by": "fraction", "fraction": 0.1, "seed": 1}

    def test_the_rows_depend_on_the_seed_alone(self, digits):
        first, again, other = (Split.from_fraction(digits, 0.25, seed) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first.forget_rows, again.forget_rows)
        assert not np.array_equal(first.forget_rows, other.forget_rows)

    def test_every_row_is_as_likely_as_another(self):
        drawn = np.concatenate([stratified_rows(np.repeat([0, 1], 10), 0.3, seed) for seed in range(1000)])
        counts = np.bincount(drawn, minlength=20)
        assert counts.sum() == 6000
        assert np.abs(counts - 300).max() < 5 * np.sqrt(1000 * 0.3 * 0.7)  # five deviations

    @pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
    def test_the_fraction_lies_between_0_and_1(self, digits, fraction):
        with pytest.raises(ValueError, match=rf"between 0 and 1 \(both excluded\), got {fraction}"):
            Split.from_fraction(digits, fraction)

    def test_a_fraction_too_small_for_any_class(self, digits):
        with pytest.raises(ValueError, match="A fraction of 0.001 chooses no row of any class; forget more"):
            Split.from_fraction(digits, 0.001)


class TestFromFile:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("rows.json", "[30, 7, 255]"),
            ("ROWS.JSON", "[30, 7, 255]"),
            ("rows.csv", "row\n30\n7\n255\n"),
            ("rows.csv", "user,row\nu1,30\nu2,7\n\nu3,255\n"),
            ("rows.csv", "image number\n30\n7\n255\n"),
            ("rows.csv", "30\n7\n255\n"),
            ("rows.csv", "\ufeff30\n7\n255\n"),
            ("rows.csv", "\ufeffuser,row\r\nu1,30\r\nu2,7\r\nu3,255\r\n"),
            ("rows.txt", "30\n\n 7 \n255"),
            ("rows", "30\n7\n255\n"),
        ],
    )
    def test_json_csv_and_text_give_the_same_rows(self, digits, tmp_path, name, text):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert read_rows(tmp_path / name).tolist() == [30, 7, 255]
        split = Split.from_file(digits, str(tmp_path / name))
        assert split.forget_rows.tolist() == [7, 30, 255]
        assert split.selector == {"by": "file", "file": name}  # no folder of anyone's

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("rows.json", "[1, 2.0]", r"entry 2 is 2\.0, not a row number"),
            ("rows.json", "[true]", "entry 1 is True, not a row number"),
            ("rows.json", "[1, null]", "entry 2 is None"),
            ("rows.json", "[[1]]", r"entry 1 is \[1\]"),
            ("rows.json", '{"rows": [1]}', "must hold a list of row numbers, got dict"),
            ("rows.json", "[1, ", r"rows\.json is not valid JSON: .*column"),
            ("rows.json", "[1, 99999999999999999999]", "99999999999999999999 is too large to be a row number"),
            ("rows.csv", "row\n1\nx\n", "entry 2 is 'x'"),
            ("rows.csv", "user,row\nu1,1\nu2\n", "entry 2 is None"),
            ("rows.csv", "3.5\n4\n", r"entry 1 is '3\.5'"),
            ("rows.csv", "user,image\nu1,1\n", r"a column 'row' or a single .* header is \['user', 'image'\]"),
            ("rows.txt", "1\ntwo\n", r"rows\.txt: entry 2 is 'two', not a row number"),
        ],
    )
    def test_bad_entries_are_named(self, tmp_path, name, text, message):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            read_rows(tmp_path / name)

    @pytest.mark.parametrize(("name", "text"), [("r.json", "[]"), ("r.csv", ""), ("r.csv", "row\n"), ("r.txt", "\n")])
    def test_a_file_without_rows_is_an_empty_forget_set(self, digits, tmp_path, name, text):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match="The forget set is empty"):
            Split.from_file(digits, tmp_path / name)

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            read_rows(tmp_path / "rows.json")

    def test_the_shared_forget_rows(self, shared):
        path = shared / "checkpoints" / "cifar10-resnet" / "forget_rows.json"
        assert read_rows(path).tolist() == json.loads(path.read_text())


class TestDigest:
    def test_equal_for_equal_rows_however_they_were_chosen(self, digits):
        by_column = Split.from_column(digits, "user_id", ["u0"])
        assert by_column.digest == Split.from_indices(digits, range(380, -1, -20)).digest
        assert len(by_column.digest) == 64

    def test_different_for_other_rows_or_the_other_way_round(self, digits):
        splits = [([1, 2], [3]), ([1], [2, 3]), ([3], [1, 2]), ([1, 2], [3, 4]), ([1, 2], None)]
        assert len({Split(digits, *rows).digest for rows in splits}) == len(splits)


class TestWithoutDuplicates:
    """Rows 3 and 8 are forgotten; rows 10 and 11 are twins of row 3."""

    @pytest.fixture
    def split(self, digits) -> ForgetRetainSplit:
        return Split.from_indices(digits.select([*range(10), 3, 3]), [3, 8])

    def test_twins_move_to_the_forget_set(self, split):
        moved = split.without_duplicates("move")
        assert moved.forget_rows.tolist() == [3, 8, 10, 11]
        assert moved.retain_rows.tolist() == [0, 1, 2, 4, 5, 6, 7, 9]
        assert moved.selector == {"by": "rows", "duplicates": "move"}

    def test_or_are_dropped_from_both(self, split):
        dropped = split.without_duplicates("drop", by="pixels")
        assert dropped.forget_rows.tolist() == [3, 8]
        assert dropped.retain_rows.tolist() == [0, 1, 2, 4, 5, 6, 7, 9]

    def test_the_split_itself_stays_as_it_was(self, split):
        split.without_duplicates("move")
        assert split.forget_rows.tolist() == [3, 8] and split.selector == {"by": "rows"}

    def test_errors(self, digits, split):
        with pytest.raises(ValueError, match="'move' or 'drop', got 'ignore'"):
            split.without_duplicates("ignore")
        with pytest.raises(ValueError, match="The retain set is empty"):
            Split.from_indices(digits.select([3, 3]), [0]).without_duplicates("move")
