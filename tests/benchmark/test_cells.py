"""The settings of the comparison: what is forgotten, and what a cell's sets have in common."""

import argparse

import numpy as np
import pytest
from cells import UNSEEN_A_CLASS, Cell, forget_rows


def test_every_class_gives_its_share():
    labels = np.repeat(np.arange(10), 100)
    assert np.bincount(labels[forget_rows(labels, "10 %", 0)]).tolist() == [10] * 10
    assert np.bincount(labels[forget_rows(labels, "50 %", 0)]).tolist() == [50] * 10


def test_most_of_a_skewed_set_is_of_two_classes():
    labels = np.repeat(np.arange(10), 100)
    rows = forget_rows(labels, "10 %, skewed", 0)
    counts = np.sort(np.bincount(labels[rows], minlength=10))
    assert len(np.unique(rows)) == len(rows) == 100
    assert counts[-2:].sum() == 80
    assert not np.array_equal(rows, forget_rows(labels, "10 %, skewed", 1))


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.setattr("cells.train", lambda *_, **__: None)  # what it is of does not matter here
    return argparse.Namespace(output_dir=str(tmp_path), cifar10="")


def test_few_unseen_samples_change_nothing_else(options):
    few, all_unseen = (Cell("digits", "resnet", how, 0, options).settings() for how in ("10 %, few unseen", "10 %"))
    labels = np.array(few["unseen_dataset"]["label"])
    assert np.bincount(labels).tolist() == [UNSEEN_A_CLASS] * 10
    assert len(all_unseen["unseen_dataset"]) > len(labels)
    for name in ("forget_dataset", "retain_dataset", "eval_dataset"):
        assert few[name]["label"] == all_unseen[name]["label"]
