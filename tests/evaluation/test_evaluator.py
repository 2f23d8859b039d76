"""Metrics and controls: by hand, against scikit-learn and SciPy, and on the real checkpoints."""

import numpy as np
import pytest
import torch
from datasets import load_dataset
from scipy.spatial.distance import jensenshannon
from sklearn.linear_model import LogisticRegression
from transformers import AutoImageProcessor, AutoModelForImageClassification

from hf_lotus.data.images import ReadyImages
from hf_lotus.data.splits import ForgetRetainSplit
from hf_lotus.evaluation.evaluator import Evaluator
from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.evaluation.yardstick import Yardstick
from hf_lotus.functional.membership import fit_attack, prediction_entropy

CLASSES = 4


def predictions(labels, seed, sharpness=3.0):
    """Random logits that favour the label."""
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(labels), CLASSES)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += np.float32(sharpness) * rng.uniform(size=len(labels)).astype(np.float32)
    entropy = prediction_entropy(torch.softmax(torch.from_numpy(logits).double(), dim=1).numpy())
    return Predictions(labels, logits.argmax(axis=1), entropy, logits)


def model(seed, forget=6.0, retain=6.0, held_out=3.0, without=()):
    """Predictions of a made-up model on every split; sharper where it has seen the data."""
    sizes = {"forget": (40, forget), "retain": (200, retain), "unseen": (60, held_out), "test": (80, held_out)}
    return {
        split: predictions(np.arange(size) % CLASSES, seed + number, sharpness)
        for number, (split, (size, sharpness)) in enumerate(sizes.items())
        if split not in without
    }


ORIGINAL, UNLEARNED, RETRAINED = model(0), model(10, forget=4.0), model(20, forget=3.0)


def member_rate_by_hand(members, non_members, judged):
    attack = LogisticRegression(class_weight="balanced")
    attack.fit(np.r_[members, non_members][:, None], [1] * len(members) + [0] * len(non_members))
    return np.mean(attack.predict(judged[:, None]))


def entropies(predicted, *splits):
    return np.concatenate([predicted[split].entropy for split in splits])


def test_every_metric_by_another_way():
    result = Yardstick(ORIGINAL, RETRAINED).measure("unlearned", UNLEARNED, seconds=2.5)
    for split in ("forget", "retain", "unseen", "test"):
        expected = np.mean(UNLEARNED[split].predicted == UNLEARNED[split].labels)
        assert getattr(result, f"{split}_accuracy") == pytest.approx(expected, abs=1e-15)
    p, q = UNLEARNED["forget"].probabilities, RETRAINED["forget"].probabilities
    assert result.jsd == pytest.approx(np.mean(jensenshannon(p, q, axis=1) ** 2), abs=1e-7)
    labels, unseen = UNLEARNED["forget"].labels, ORIGINAL["unseen"]
    per_class = [
        jensenshannon(p[labels == c].mean(axis=0), unseen.probabilities[unseen.labels == c].mean(axis=0)) ** 2
        for c in range(CLASSES)
    ]
    assert result.rf_jsd == pytest.approx(np.mean(per_class), abs=1e-7)
    retain = UNLEARNED["retain"].entropy
    member = member_rate_by_hand(retain, entropies(UNLEARNED, "unseen", "test"), UNLEARNED["forget"].entropy)
    assert result.mia_member_rate == pytest.approx(member, abs=1e-15)
    held_out = member_rate_by_hand(retain, entropies(UNLEARNED, "test"), UNLEARNED["unseen"].entropy)
    assert result.unseen_member_rate == pytest.approx(held_out, abs=1e-15)
    assert result.seconds == 2.5


def test_gaps_by_hand():
    yardstick = Yardstick(ORIGINAL, RETRAINED)
    result, gold = yardstick.measure("unlearned", UNLEARNED), yardstick.measure("retrain", RETRAINED)
    distances = [
        abs(result.mia_member_rate - gold.mia_member_rate),
        abs(result.forget_accuracy - gold.forget_accuracy),
        abs(result.retain_accuracy - gold.retain_accuracy),
        abs(result.test_accuracy - gold.test_accuracy),
    ]
    assert result.avg_gap == pytest.approx(sum(distances) / 4, abs=1e-15)
    distances = [
        abs(result.mia_member_rate - result.unseen_member_rate),
        abs(result.forget_accuracy - ORIGINAL["unseen"].accuracy),
        abs(result.retain_accuracy - ORIGINAL["retain"].accuracy),
        abs(result.test_accuracy - ORIGINAL["test"].accuracy),
    ]
    assert result.retrain_free_gap == pytest.approx(sum(distances) / 4, abs=1e-15)
    assert (gold.avg_gap, gold.jsd) == (0.0, 0.0)


def test_controls():
    yardstick = Yardstick(ORIGINAL, RETRAINED)
    controls = yardstick.controls
    assert controls.unseen_accuracy == ORIGINAL["unseen"].accuracy
    assert controls.unseen_member_rate == yardstick.measure("original", ORIGINAL).unseen_member_rate
    floor = jensenshannon(ORIGINAL["test"].probabilities, RETRAINED["test"].probabilities, axis=1) ** 2
    assert controls.jsd_floor == pytest.approx(floor.mean(), abs=1e-7)
    assert Yardstick(ORIGINAL).controls.jsd_floor is None


def test_the_null_covers_a_model_that_never_saw_the_forget_set():
    """Forget samples predicted as unseen ones are: z is that of a draw from the null, over many draws."""
    scores = []
    for seed in range(20):
        original = {**ORIGINAL, "unseen": predictions(np.arange(400) % CLASSES, 100 + seed)}
        never_seen = {**ORIGINAL, "forget": predictions(np.arange(400) % CLASSES, 200 + seed)}
        scores.append(
            Yardstick({**original, "forget": never_seen["forget"]}, seed=seed).measure("m", never_seen).rf_jsd_z
        )
    assert abs(np.mean(scores)) < 0.7 and 0.5 < np.std(scores) < 2
    assert Yardstick(ORIGINAL).measure("original", ORIGINAL).rf_jsd_z > 3


def test_without_a_test_set_the_attack_is_cross_fitted_and_the_gaps_are_left_out():
    unlearned = {split: p for split, p in UNLEARNED.items() if split != "test"}
    original = {split: p for split, p in ORIGINAL.items() if split != "test"}
    result = Yardstick(original).measure("unlearned", unlearned)
    halves = unlearned["unseen"].entropy[0::2], unlearned["unseen"].entropy[1::2]
    rates = [member_rate_by_hand(unlearned["retain"].entropy, a, b) for a, b in (halves, halves[::-1])]
    assert result.unseen_member_rate == pytest.approx(np.mean(rates), abs=1e-15)
    assert result.retrain_free_gap is None and result.avg_gap is None


def test_class_wise_the_premise_is_said_not_to_hold():
    yardstick = Yardstick(ORIGINAL, class_wise=True)
    result = yardstick.measure("unlearned", UNLEARNED)
    assert result.rf_jsd is not None
    assert (result.rf_jsd_z, result.retrain_free_gap) == (None, None)
    assert set(vars(yardstick.controls).values()) == {None}
    assert "premise" in yardstick.notes[0]


def test_classes_without_unseen_samples_are_named():
    original = {**ORIGINAL, "unseen": predictions([0, 1, 2] * 20, 5)}
    yardstick = Yardstick(original)
    assert yardstick.notes == ("Classes of the forget set without unseen samples are left out of RF-JSD: 3.",)
    assert yardstick.measure("unlearned", UNLEARNED).rf_jsd is not None


def test_one_pass_a_model_and_split():
    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.samples = torch.nn.Linear(2, CLASSES), 0

        def forward(self, inputs):
            self.samples += len(inputs)
            return type("Output", (), {"logits": self.linear(inputs)})

    sizes = {"forget": 30, "retain": 50, "unseen": 40, "test": 20}
    splits = {
        name: [{"inputs": torch.randn(2), "label": row % CLASSES} for row in range(size)]
        for name, size in sizes.items()
    }
    original, retrained, unlearned = Counting(), Counting(), Counting()
    evaluator = Evaluator(splits, original, retrained, progress=False)
    for _ in range(2):
        evaluator.compare({"unlearned": (evaluator.predict_all(unlearned, "unlearned"), None)})
    assert (original.samples, retrained.samples, unlearned.samples) == (140, 140, 280)


def test_the_real_checkpoints_measure_what_is_known_of_them(shared):
    """5,000 forgotten rows, 8,000 of the retained, the test set in halves; the known figures are of all rows."""
    folder = shared / "checkpoints" / "cifar10-resnet"
    data = load_dataset(str(shared / "data" / "cifar10"))
    split = ForgetRetainSplit.from_file(data["train"], folder / "forget_rows.json")
    held_out = ForgetRetainSplit.from_fraction(data["test"], 0.5)
    sets = {"forget": split.forget, "retain": split.retain.select(range(8000))}
    sets |= {"unseen": held_out.forget, "test": held_out.retain}
    processor = AutoImageProcessor.from_pretrained(folder / "original", backend="pil")
    splits = {name: ReadyImages(part, processor) for name, part in sets.items()}
    original, retrain = (AutoModelForImageClassification.from_pretrained(folder / m) for m in ("original", "retrain"))
    evaluator = Evaluator(splits, original, retrain, progress=False)
    result = evaluator.compare({})
    assert result["original"].forget_accuracy == pytest.approx(0.9394, abs=1e-12)
    assert result["retrain"].forget_accuracy == pytest.approx(0.803, abs=1e-12)
    assert result["original"].jsd == pytest.approx(0.0719, abs=2e-4)
    assert result["original"].rf_jsd == pytest.approx(0.0157, abs=1.5e-3)
    assert result["original"].mia_member_rate == pytest.approx(0.706, abs=0.02)
    assert result["retrain"].mia_member_rate == pytest.approx(0.618, abs=0.02)
    assert result["retrain"].rf_jsd_z < 3 < result["original"].rf_jsd_z
    assert result.controls.jsd_floor == pytest.approx(0.0671, abs=2e-3)
    assert result.controls.rf_jsd_null_mean == pytest.approx(0.0019, abs=3e-4)


def test_a_skewed_forget_set_is_held_against_unseen_data_with_the_same_skew():
    """Four of five forget samples are of class 0: so are accuracy and member rate of unseen data weighted."""
    skewed = np.array([0] * 48 + [1] * 4 + [2] * 4 + [3] * 4)
    original = {**ORIGINAL, "forget": predictions(skewed, 7)}
    yardstick = Yardstick(original)
    unseen = original["unseen"]
    right = unseen.predicted == unseen.labels
    shares = np.array([48, 4, 4, 4]) / 60
    expected = sum(share * right[unseen.labels == c].mean() for c, share in enumerate(shares))
    assert yardstick.controls.unseen_accuracy == pytest.approx(expected, abs=1e-12) != unseen.accuracy
    attack = fit_attack(original["retain"].entropy, original["test"].entropy)
    called = attack.predict(unseen.entropy[:, None])
    expected_rate = sum(share * called[unseen.labels == c].mean() for c, share in enumerate(shares))
    assert yardstick.controls.unseen_member_rate == pytest.approx(expected_rate, abs=1e-12)
    result = yardstick.measure("original", original)
    gap = np.mean([abs(result.mia_member_rate - expected_rate), abs(result.forget_accuracy - expected), 0, 0])
    assert result.retrain_free_gap == pytest.approx(gap, abs=1e-12)
    assert result.unseen_accuracy == unseen.accuracy  # a column of its own, of the set as it is
    assert any("weight each class as the forget set has it" in note for note in yardstick.notes)
    assert not Yardstick(ORIGINAL).notes
