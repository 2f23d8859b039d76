"""Forget sets by memorisation and by confusion: the rows by hand, on the command line, and in a checked record."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import ClassLabel, Dataset

from hf_lotus import ForgetRetainSplit, ForgetSetRecord, UnlearningResult
from hf_lotus.cli.main import main
from hf_lotus.data.images import ReadyImages
from hf_lotus.data.loading import DataArguments, load_splits
from hf_lotus.data.selections import split_by_confusion, split_by_memorisation, split_with_confusion
from hf_lotus.evaluation.original import logits_on
from hf_lotus.evaluation.predictions import predict
from tests.support.method_helpers import equal, trained, weights

LABELS = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
NAMES = ["cat", "dog", "frog"]
# Margins of the true class: 3, 1, 2, 4 of the cats, 4, 2, 1, 3 of the dogs, 1 and 2 of the frogs.
LOGITS = np.array(
    [[3.0, 0, 0], [1, 0, 0], [2, 0, 0], [4, 0, 0], [0, 4, 0], [0, 2, 0], [0, 1, 0], [0, 3, 0], [0, 0, 1], [0, 0, 2]]
)


@pytest.fixture
def animals():
    return Dataset.from_dict({"label": LABELS, "row": range(10)}).cast_column("label", ClassLabel(names=NAMES))


class TestMemorisation:
    def test_the_least_confident_half_of_each_class(self, animals):
        split = split_by_memorisation(animals, LOGITS, 0.5)
        assert split.forget_rows.tolist() == [1, 2, 5, 6, 8]
        assert split.selector == {"by": "hardest", "fraction": 0.5, "proxy": "confidence"}

    def test_the_most_confident_half(self, animals):
        split = split_by_memorisation(animals, LOGITS, 0.5, hardest=False, proxy="margin")
        assert split.forget_rows.tolist() == [0, 3, 4, 7, 9]
        assert split.selector == {"by": "easiest", "fraction": 0.5, "proxy": "margin"}

    @pytest.mark.parametrize(
        ("fraction", "rows", "message"),
        [(0.0, 10, "between 0 and 1"), (0.1, 10, "chooses no row of any class"), (0.5, 9, "logits of 9 rows")],
    )
    def test_what_cannot_be_chosen(self, animals, fraction, rows, message):
        with pytest.raises(ValueError, match=message):
            split_by_memorisation(animals, LOGITS[:rows], fraction)


class TestConfusion:
    def test_the_rows_that_are_most_taken_for_the_other_class(self, animals):
        """The fourth cat is all but a dog, and the first is all but a frog, which does not count."""
        logits = LOGITS.copy()
        logits[3, 1], logits[0, 2] = 3.9, 9.0
        split = split_by_confusion(animals, logits, ["cat", 1], 0.25)
        assert split.forget_rows.tolist() == [3, 6]
        assert split.selector == {"by": "confusion", "classes": ["cat", "dog"], "fraction": 0.25}

    @pytest.mark.parametrize(
        ("classes", "message"),
        [(["cat"], "two classes, got cat"), (["cat", "0"], "two classes"), (["cat", "fog"], "Did you mean 'frog'")],
    )
    def test_it_is_between_two_classes(self, animals, classes, message):
        with pytest.raises(ValueError, match=message):
            split_by_confusion(animals, LOGITS, classes, 0.25)

    def test_swapped_labels_are_those_that_are_forgotten(self, animals):
        split = split_with_confusion(animals, ["cat", "dog"], 0.5, seed=3)
        given, swapped = np.array(animals["label"][:]), np.array(split.dataset["label"][:])
        changed = np.flatnonzero(given != swapped)
        assert changed.tolist() == split.forget_rows.tolist() and len(changed) == 4
        np.testing.assert_array_equal(swapped[changed], 1 - given[changed])
        assert np.bincount(given[changed]).tolist() == [2, 2]
        assert split.dataset["row"][:] == animals["row"][:] and split.dataset.features["label"].names == NAMES
        assert animals["label"][:] == LABELS
        again, other = (split_with_confusion(animals, ["cat", "dog"], 0.5, seed=seed) for seed in (3, 4))
        assert again.digest == split.digest != other.digest
        assert split.selector == {"by": "swapped labels", "classes": ["cat", "dog"], "fraction": 0.5, "seed": 3}


def test_the_logits_are_those_of_the_model_in_eval_mode_and_nothing_of_it_changes(digits, processor):
    model = trained("resnet", processor).train()
    before = weights(model)
    logits = logits_on(model, processor, "cpu")(digits, "label")
    np.testing.assert_array_equal(logits, predict(model, ReadyImages(digits, processor), progress=False).logits)
    assert model.training and equal(weights(model), before)


@pytest.fixture(scope="module")
def place(tmp_path_factory, model_and_data, processor):
    """A folder with a data set, and a ResNet that has learned most of it."""
    root = tmp_path_factory.mktemp("selected")
    model_and_data(root)
    trained("resnet", processor).save_pretrained(root / "model")
    return root


def flags(place, *selection, **given):
    given |= {"dataset_name": place / "data"}
    return [*(word for name, value in given.items() for word in (f"--{name}", str(value))), *selection]


def by_hand(place, processor, hardest, fraction):
    """The split: of each class those of the lowest or highest probability of the true class, by a plain loop."""
    data = load_splits(DataArguments(str(place / "data"), forget_fraction=0.5)).split.dataset
    predictions = predict(trained("resnet", processor), ReadyImages(data, processor), progress=False)
    confidence = predictions.probabilities[np.arange(len(data)), predictions.labels]
    rows = []
    for label in range(10):
        mine = [row for row in range(len(data)) if predictions.labels[row] == label]
        mine.sort(key=lambda row: confidence[row] if hardest else -confidence[row])
        rows += mine[: round(fraction * len(mine))]
    return ForgetRetainSplit.from_indices(data, sorted(rows))


@pytest.mark.parametrize("way", ["hardest", pytest.param("easiest", marks=pytest.mark.exhaustive)])
def test_unlearn_evaluate_and_verify_agree_on_what_was_chosen(place, processor, capsys, way, datasets_cache):
    """The record has the rows' digests: verify finds them without asking the original model again."""
    out, again = place / way, place / f"{way} again"
    selection = [f"--forget_{way}", "0.2"]
    options = ["--method", "finetune", "--num_train_epochs", "1", "--use_cpu", "True", "--disable_tqdm", "True"]
    options += ["--save_strategy", "no", "--record_rows", "True"]
    assert (
        main(["unlearn", *flags(place, *selection, model_name_or_path=place / "model", output_dir=out), *options]) == 0
    )
    record = ForgetSetRecord.from_json(out / "forget_set.json")
    assert record.selector == {"by": way, "fraction": 0.2, "proxy": "confidence"}
    expected = by_hand(place, processor, way == "hardest", 0.2)
    assert record.row_numbers == expected.forget_rows.tolist()
    given = {"model_name_or_path": out, "original_model": place / "model", "output_dir": again, "device": "cpu"}
    assert main(["evaluate", *flags(place, *selection, **given)]) == 0
    assert UnlearningResult.from_json(again / "results.json").provenance["split_digest"] == expected.digest
    capsys.readouterr()
    salt = place / f"{way}.forget_set.salt"
    assert main(["verify", str(out), *flags(place, salt_file=salt, original_model=place / "model", device="cpu")]) == 0
    printed = capsys.readouterr().out
    assert f"the data set has every forgotten sample: {record.rows} of" in printed and "FAILED" not in printed


def test_confusion_on_the_command_line(place, capsys, datasets_cache):
    given = {
        "model_name_or_path": place / "model",
        "original_model": place / "model",
        "output_dir": place / "confused",
    }
    selection = ["--forget_confusion", "digit 3", "8", "0.2"]
    assert main(["evaluate", *flags(place, *selection, **given, device="cpu")]) == 0
    about = json.loads((place / "confused" / "results.json").read_text())["provenance"]
    assert about["selector"] == {"by": "confusion", "classes": ["digit 3", "digit 8"], "fraction": 0.2}


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (["--forget_hardest", "0.1", "--forget_easiest", "0.1"], "got forget_hardest, forget_easiest"),
        (["--forget_hardest", "2"], "between 0 and 1"),
        (["--forget_confusion", "digit 3", "0.1"], "two classes and a fraction (cat dog 0.1), got"),
        (["--forget_confusion", "digit 3", "digit 8", "much"], "two classes and a fraction"),
        (["--forget_confusion", "digit 3", "digit 88", "0.1"], "Did you mean 'digit 8'"),
    ],
)
def test_errors_say_what_to_do(place, capsys, datasets_cache, selection, message):
    given = {"model_name_or_path": place / "model", "original_model": place / "model", "output_dir": place / "none"}
    assert main(["evaluate", *flags(place, *selection, **given, device="cpu")]) == 2
    assert message in capsys.readouterr().err and not (place / "none").exists()


def test_without_a_model_the_rows_must_be_given(place, datasets_cache):
    with pytest.raises(ValueError, match="give logits_of, or choose by forget_rows"):
        load_splits(DataArguments(str(place / "data"), forget_hardest=0.1))
