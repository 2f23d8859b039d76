"""What the metrics share, and how `evaluate` uses them."""

import evaluate
import numpy as np
import pytest

from hf_lotus.publishing.spaces import SPACES, metric_path

P = np.array([[0.9, 0.1], [0.2, 0.8]])
Q = np.array([[0.7, 0.3], [0.4, 0.6]])


@pytest.mark.parametrize("name", SPACES)
def test_evaluate_knows_it(name):
    metric = evaluate.load(metric_path(name))
    assert metric.name == name
    assert "unlearn" in metric.description
    assert metric.citation.startswith("@inproceedings{spartalis2025lotus")
    assert metric.inputs_description in metric.compute.__doc__
    assert f'evaluate.load("{name}")' in repr(metric)


@pytest.mark.parametrize("name", SPACES)
def test_its_example_is_true(name):
    lines = [line.strip() for line in evaluate.load(metric_path(name)).inputs_description.splitlines()]
    code = [line.removeprefix(">>> ") for line in lines if line.startswith(">>> ")]
    scope = {"evaluate": type("Loader", (), {"load": staticmethod(lambda n: evaluate.load(metric_path(n)))})}
    exec("\n".join(code[:-1]), scope)
    assert eval(code[-1], scope) == float(lines[lines.index(">>> " + code[-1]) + 1])


def test_combined_metrics_share_their_batches():
    both = evaluate.combine(
        {
            convention: evaluate.load(metric_path("rf_jsd"), convention=convention)
            for convention in ("paper", "reference")
        }
    )
    for source, rows in (("forget", P), ("unseen", Q)):
        both.add_batch(predictions=rows, references=[0, 1], source=source)
    both.add(prediction=[0.5, 0.5], reference=0, source="forget")
    result = both.compute(per_class=False)
    for convention in ("paper", "reference"):
        alone = evaluate.load(metric_path("rf_jsd"), convention=convention)
        alone.add_batch(predictions=[*P, [0.5, 0.5]], references=[0, 1, 0], source="forget")
        alone.add_batch(predictions=Q, references=[0, 1], source="unseen")
        assert result[f"{convention}_rf_jsd"] == alone.compute()["rf_jsd"]


def test_combined_metrics_in_one_call():
    both = evaluate.combine([evaluate.load(metric_path("jsd")), evaluate.load(metric_path("jsd"), base=2)])
    result = both.compute(predictions=P, references=Q)
    assert result["jsd_0_jsd"] == pytest.approx(result["jsd_1_jsd"] * np.log(2), rel=1e-14)


@pytest.mark.parametrize("name", SPACES)
def test_a_misspelt_option_is_refused(name):
    with pytest.raises(TypeError, match="Unknown option 'from_logit'. The options are .*from_logits"):
        evaluate.load(metric_path(name), from_logit=True)


def test_evaluate_s_own_options_pass(tmp_path):
    metric = evaluate.load(metric_path("jsd"), cache_dir=str(tmp_path), experiment_id="mine")
    assert metric.experiment_id == "mine"


@pytest.mark.parametrize("name", SPACES)
def test_evaluate_s_files_on_a_shared_disk_are_refused(name):
    with pytest.raises(ValueError, match=r"compute\(accelerator=accelerator\)"):
        evaluate.load(metric_path(name), num_process=2, process_id=1)


def test_logits_must_be_announced_before_they_come():
    metric = evaluate.load(metric_path("jsd"))
    metric.add_batch(predictions=P, references=Q)
    with pytest.raises(ValueError, match="from_logits acts on rows as they are added"):
        metric.compute(from_logits=True)
    assert metric.compute(from_logits=False)["num_rows"] == 2


def test_a_call_that_fails_can_be_made_again():
    metric = evaluate.load(metric_path("rf_jsd"))
    call = {"predictions": P, "references": [0, 1], "source": "forget"}
    with pytest.raises(ValueError, match="unseen set is empty"):
        metric.compute(**call)
    assert len(metric) == 0
    metric.add_batch(predictions=Q, references=[0, 1], source="unseen")
    with pytest.raises(ValueError, match="null_resamples"):
        metric.compute(**call, null_resamples=5)
    assert len(metric) == 2
    assert metric.compute(**call)["num_classes"] == 2


def test_an_empty_batch_adds_nothing():
    metric = evaluate.load(metric_path("rf_jsd"))
    metric.add_batch(predictions=np.empty((0, 2)), references=np.empty(0, int), source="forget")
    assert len(metric) == 0
