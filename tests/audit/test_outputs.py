"""Outputs of any toolbox: files of ours, files of EasyDUB's layout, and what is wrong with others."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy.special import log_softmax, logsumexp, softmax

from hf_lotus.audit import audit_outputs, read_easydub, read_outputs
from hf_lotus.audit.easydub import is_easydub
from hf_lotus.audit.evidence import FORGET, UNSEEN, Outputs
from hf_lotus.evaluation.findings import FOUND, NOTHING, TIERS
from tests.support.made_evidence import World

pytestmark = pytest.mark.usefixtures("few_deals")

ONLY_WITH_A_MODEL = {"relearning_excess", "linear_probe"}


@pytest.fixture(scope="module")
def given():
    """Arrays of a file: 120 forget, 200 unseen and 10 other samples of 3 classes, and logits."""
    rng = np.random.default_rng(0)
    split = np.array(["forget"] * 120 + ["unseen"] * 200 + ["retain"] * 10)
    labels = np.arange(len(split)) % 3
    level = rng.normal(1, 1.5, len(labels))

    def logits(models, knows):
        margin = level + knows * (split == "forget") + rng.normal(0, 0.6, (models, len(labels)))
        values = rng.normal(0, 1, (models, len(labels), 3))
        own = np.arange(len(labels))
        others = values.copy()
        others[:, own, labels] = -np.inf
        values[:, own, labels] = margin + logsumexp(others, axis=2)
        return values

    return {"split": split, "labels": labels, "unlearned": logits(1, 2.0), "original": logits(1, 2.0),
            "retrain": logits(2, 0.0), "reference": logits(2, 0.0)}  # fmt: skip


def saved(path, given, kind="logits", **changes):
    np.savez(path, kind=kind, **{**given, **changes})
    return path


def test_a_model_that_knows_is_found_by_its_outputs_alone(tmp_path, given):
    report = audit_outputs(read_outputs([saved(tmp_path / "all.npz", given)]), name="theirs")
    verdicts = {finding.tier: finding.verdict for finding in report.findings}
    assert {tier for tier, verdict in verdicts.items() if verdict == FOUND} == {
        "relative_test", "relative_test_unseen", "rmia"}  # fmt: skip
    for tier in ONLY_WITH_A_MODEL:
        assert verdicts[tier] is None and "only outputs were given" in report[tier].reason
    assert report.asked["samples"] == {"forget": 120, "unseen": 200} and report.weights is None
    assert [reading.model for reading in report["rmia"].readings] == ["theirs", "original", "retrain", "retrain again"]


def test_logits_probabilities_margins_and_parquet_say_the_same(tmp_path, given):
    models = {name: given[name] for name in ("unlearned", "original", "retrain", "reference")}
    own = np.arange(len(given["labels"]))
    files = {
        "logits": saved(tmp_path / "logits.npz", given),
        "probabilities": saved(tmp_path / "p.npz", given, "probabilities",
                               **{k: softmax(v, axis=2) for k, v in models.items()}),
        "margins": saved(tmp_path / "m.npz", given, "margins",
                         **{k: margins(v, given["labels"], own) for k, v in models.items()}),
    }  # fmt: skip
    columns = {"split": given["split"], "label": given["labels"]}
    for name, values in models.items():
        columns |= {name if n == 0 else f"{name}.{n}": list(rows) for n, rows in enumerate(values)}
    table = pa.table(columns).replace_schema_metadata({"kind": "logits"})
    files["parquet"] = tmp_path / "all.parquet"
    parquet.write_table(table, files["parquet"])
    read = {kind: read_outputs([path]) for kind, path in files.items()}
    for kind, found in read.items():
        for role, splits in read["logits"].confidence.items():
            for split, values in splits.items():
                np.testing.assert_allclose(found.confidence[role][split], values, atol=1e-8, err_msg=kind)
    p = softmax(given["unlearned"][0], axis=1)[own, given["labels"]]
    outputs = Outputs(read["logits"].confidence["unlearned"][FORGET][0])
    np.testing.assert_allclose(outputs.probability, p[:120], atol=1e-12)


def margins(values, labels, own):
    p = log_softmax(values, axis=2)[:, own, labels]
    return p - np.log(-np.expm1(p))


def test_one_file_a_model_and_a_kind_that_only_the_flag_says(tmp_path, given):
    whole = read_outputs([saved(tmp_path / "all.npz", given)])
    paths = []
    for name in ("unlearned", "original", "retrain", "reference"):
        paths.append(tmp_path / f"{name}.npz")
        np.savez(paths[-1], split=given["split"].astype("S"), labels=given["labels"], **{name: given[name]})
    apart = read_outputs(paths, kind="logits")
    assert audit_outputs(apart).figures() == audit_outputs(whole).figures()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unlearned": np.full((1, 330, 3), np.nan)}, "logits must be finite"),
        ({"unlearned": np.zeros((1, 329, 3))}, "with 330 samples, got"),
        ({"labels": np.zeros(330)}, "one whole number a sample"),
        ({"split": np.array(["train"] * 330)}, "No sample is marked as forgotten"),
        ({"shadow": np.zeros((1, 330, 3))}, "the roles are unlearned, original"),
        ({"kind": "scores"}, "Give one of logits"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, given, changes, message):
    kind = changes.pop("kind", "logits")
    with pytest.raises(ValueError, match=message):
        read_outputs([saved(tmp_path / "bad.npz", given, kind, **changes)])


def test_files_that_are_none(tmp_path, given):
    np.savez(tmp_path / "without.npz", split=given["split"])
    with pytest.raises(ValueError, match="has no 'labels'"):
        read_outputs([tmp_path / "without.npz"])
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ValueError, match="one array, and not an .npz"):
        read_outputs([tmp_path / "one.npy"])
    np.savez(tmp_path / "objects.npz", split=np.array([{}]), labels=np.zeros(1, dtype=int))
    with pytest.raises(ValueError, match="no .npz of plain arrays"):
        read_outputs([tmp_path / "objects.npz"])
    (tmp_path / "no.parquet").write_text("no")
    with pytest.raises(ValueError, match="no Parquet file"):
        read_outputs([tmp_path / "no.parquet"])
    with pytest.raises(ValueError, match="There is no file of outputs"):
        read_outputs([])
    without = {name: value for name, value in given.items() if name != "unlearned"}
    with pytest.raises(ValueError, match="no outputs of the audited model"):
        read_outputs([saved(tmp_path / "nobody.npz", without)])
    other = saved(tmp_path / "other.npz", given, labels=given["labels"][::-1])
    with pytest.raises(ValueError, match="has other samples"):
        read_outputs([saved(tmp_path / "all.npz", given), other])


# ---- EasyDUB (arXiv:2602.16400), whose published files are laid out so ----


@pytest.fixture(scope="module")
def easydub(tmp_path_factory):
    """Margins of ten models of each kind, for forget set 3, as easydub/EasyDUB-dataset has them; and of a method."""
    root, world = tmp_path_factory.mktemp("EasyDUB-dataset"), World(0, 90, 200)
    places = {
        "margins/cifar10/pretrain/forget_3": (FORGET, 2.0),
        "margins/cifar10/pretrain/val": (UNSEEN, 0.0),
        "margins/cifar10/oracle/forget_3/forget": (FORGET, 0.0),
        "margins/cifar10/oracle/forget_3/val": (UNSEEN, 0.0),
        "honest/forget": (FORGET, 0.0),
        "honest/val": (UNSEEN, 0.0),
    }
    for place, (split, knows) in places.items():
        folder = root / place / "resnet9"
        folder.mkdir(parents=True)
        for number in range(10):
            np.save(folder / f"id_{number}_epoch_23.npy", world.confidence(split, knows).astype(np.float32))
    (root / "forget_sets/cifar10").mkdir(parents=True)
    np.save(root / "forget_sets/cifar10/forget_set_3.npy", np.arange(90))
    return root


def test_easydubs_own_models_know_the_forget_set_and_honest_ones_do_not(easydub):
    assert is_easydub(easydub) and not is_easydub(easydub / "margins")
    knows = audit_outputs(read_easydub(easydub, 3))
    honest = audit_outputs(read_easydub(easydub, 3, easydub / "honest"))
    for tier in set(TIERS) - ONLY_WITH_A_MODEL:
        assert knows[tier].verdict == FOUND, knows[tier]
        assert honest[tier].verdict == NOTHING, honest[tier]
    assert knows["klom"].counts == {
        "unlearned_models": 10, "retrained_models": 10, "original_models": 10, "forget": 90}  # fmt: skip
    assert any("No unlearned models were given" in note for note in knows.notes)


def test_klom_of_easydub_is_that_of_the_benchmarks_definition(easydub):
    """20 bins over the range of both, after its `easydub/eval.py`, worked out here sample by sample."""
    read = read_easydub(easydub, 3)
    ours, theirs = read.confidence["unlearned"][FORGET], read.confidence["retrain"][FORGET]
    expected = []
    for p, q in zip(ours.T, theirs.T, strict=True):
        edges = np.linspace(min(p.min(), q.min()), max(p.max(), q.max()), 21)
        a, b = (np.histogram(x, edges)[0] / len(x) for x in (p, q))
        expected.append(np.sum(a[a > 0] * np.log(a[a > 0] / np.maximum(b[a > 0], 1e-5))))
    found = audit_outputs(read)["klom"].audited
    # Ours normalises the histogram again after its least value is put in: a difference of 20 × 1e-5 at most.
    assert found.value == pytest.approx(np.percentile(expected, 95), abs=1e-3)


def test_what_is_missing_of_easydub_is_named(easydub, tmp_path):
    with pytest.raises(ValueError, match="no forget set 7; there are 3"):
        read_easydub(easydub, 7)
    with pytest.raises(FileNotFoundError, match="no margins/"):
        read_easydub(tmp_path, 3)
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        read_easydub(easydub, 3, tmp_path)
    (tmp_path / "forget").mkdir()
    np.save(tmp_path / "forget/id_0.npy", np.zeros(89))
    (tmp_path / "val").mkdir()
    np.save(tmp_path / "val/id_0.npy", np.zeros(200))
    with pytest.raises(ValueError, match="are of 89 samples, and those of others of 90"):
        read_easydub(easydub, 3, tmp_path)
    np.save(tmp_path / "forget/id_0.npy", np.full(90, np.nan))
    with pytest.raises(ValueError, match="not finite at sample 0"):
        read_easydub(easydub, 3, tmp_path)
    np.save(tmp_path / "forget/id_00.npy", np.zeros(90))
    with pytest.raises(ValueError, match="two files of model"):
        read_easydub(easydub, 3, tmp_path)
