"""Many methods on one model: each from the same start, measured once, and kept when the run is broken off."""

import json

import pytest
import torch

from hf_lotus import SSD, Comparison, Contender, Finetune, LoTUS, NegGradPlus, Retrain, UnlearningArguments


@pytest.fixture
def compare(tiny_model, ready_parts, processor, tmp_path):
    """A function: contenders → result, on a tiny ResNet; any argument of `Comparison` by keyword."""

    def run(contenders, folder="out", arguments=None, **options):
        settings = {"num_train_epochs": 1, "per_device_train_batch_size": 64, "learning_rate": 1e-2, "seed": 1}
        args = UnlearningArguments(
            str(tmp_path / folder), use_cpu=True, disable_tqdm=True, **(settings | (arguments or {}))
        )
        data = {f"{name}_dataset": part for name, part in ready_parts.items() if name != "test"}
        options = {**data, "eval_dataset": ready_parts["test"], "processing_class": processor, **options}
        model = options.pop("model", None) or tiny_model("resnet")
        return Comparison(model, args, **options).run(contenders)

    return run


CONTENDERS = {"first": Contender(Finetune()), "second": Contender(NegGradPlus())}


def test_every_row_is_what_a_trainer_alone_gives(compare, make):
    result = compare({"retrain": Contender(Retrain()), "ours": Contender(Finetune()), "edit": Contender(SSD())})
    assert [model.name for model in result.models] == ["original", "ours", "edit", "retrain"]
    alone = make(
        "resnet", Finetune(),
        {"num_train_epochs": 1, "per_device_train_batch_size": 64, "learning_rate": 1e-2, "seed": 1},
    )  # fmt: skip
    alone.train()
    expected = alone.compare()["finetune"]
    for metric in ("forget_accuracy", "retain_accuracy", "mia_member_rate", "rf_jsd", "rf_jsd_z", "retrain_free_gap"):
        assert getattr(result["ours"], metric) == pytest.approx(getattr(expected, metric), rel=1e-6), metric
    assert result["retrain"].avg_gap == 0 and result["ours"].avg_gap is not None and result["edit"].zrf is not None


def test_the_model_is_not_changed_and_each_method_starts_from_it(compare, tiny_model):
    model = tiny_model("resnet")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    both = compare(CONTENDERS, model=model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    alone = compare({"second": CONTENDERS["second"]}, folder="alone")
    assert both["second"].rf_jsd == alone["second"].rf_jsd


def test_arguments_of_one_contender_are_its_own(compare, trained):
    still = Contender(Finetune(), {"learning_rate": 0.0, "optim": "sgd", "weight_decay": 0.0, "num_train_epochs": 2})
    result = compare({"still": still, "moving": Contender(LoTUS(stop_margin=2.0))})
    assert result["still"].rf_jsd != result["original"].rf_jsd  # BatchNorm's statistics move, and nothing else
    settings = result.provenance["methods"]
    assert settings["still"]["arguments"]["num_train_epochs"] == 2 and settings["moving"]["arguments"] == {}


def test_a_broken_off_comparison_goes_on_where_it_stopped(compare, trained, monkeypatch):
    whole = compare(CONTENDERS, folder="whole")
    loss = NegGradPlus.loss
    monkeypatch.setattr(NegGradPlus, "loss", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        compare(CONTENDERS)
    monkeypatch.setattr(NegGradPlus, "loss", loss)
    trained.clear()
    resumed = compare(CONTENDERS)
    assert trained == ["neggrad_plus"]
    for name in CONTENDERS:
        assert resumed[name].rf_jsd == whole[name].rf_jsd


@pytest.mark.parametrize("change", ["method", "arguments", "data", "model"])
def test_a_row_of_other_settings_is_measured_anew(compare, trained, parts, tiny_model, change):
    compare(CONTENDERS)
    trained.clear()
    contenders, options = dict(CONTENDERS), {}
    if change == "method":
        contenders["second"] = Contender(NegGradPlus(alpha=0.5))
    elif change == "arguments":
        contenders["second"] = Contender(NegGradPlus(), {"learning_rate": 1e-4})
    elif change == "data":
        options["forget_dataset"] = parts["forget"].select(range(30))
    else:
        options["model"] = tiny_model("resnet")
        torch.nn.init.zeros_(options["model"].classifier[-1].bias)
    compare(contenders, **options)
    assert trained == (["neggrad_plus"] if change in ("method", "arguments") else ["finetune", "neggrad_plus"])


def test_the_retrained_model_is_trained_once_and_measured_the_same_again(compare, trained, tmp_path):
    contenders = {"retrain": Contender(Retrain()), "first": CONTENDERS["first"]}
    first = compare(contenders)
    again = compare(contenders)
    assert trained == ["retrain", "finetune"]
    assert again["retrain"] == first["retrain"] and again["first"] == first["first"]
    assert json.loads((tmp_path / "out" / "retrain" / "measured.json").read_text())["row"]["seconds"] > 0


def test_rows_are_reported_as_they_come(compare):
    seen = []
    compare(CONTENDERS, on_measured=lambda row: seen.append(row.name))
    assert seen == ["first", "second"]


def test_what_cannot_be_compared_is_refused(compare, tiny_model):
    with pytest.raises(ValueError, match="one retrained model"):
        compare({"retrain": Contender(Retrain()), **CONTENDERS}, retrain_model=tiny_model("resnet"))
    with pytest.raises(ValueError, match="name of another row"):
        compare({"original": Contender(Finetune())})
    with pytest.raises(ValueError, match="nothing to compare"):
        compare({"retrain": Contender(Retrain())})
    with pytest.raises(ValueError, match="learning_rate"):
        compare({"first": Contender(Finetune(), {"learning_rat": 1.0})})
