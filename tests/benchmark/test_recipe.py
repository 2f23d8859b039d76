"""Recipes: that those which are shipped are whole, what a file may hold, and what it includes."""

import pytest

from hf_lotus.benchmark.contenders import choose
from hf_lotus.benchmark.recipe import load_recipe, recipe_names
from hf_lotus.reporting.paper import paper_results

PAPER_METHODS = {"lotus", "finetune", "neggrad_plus", "random_labels", "bad_teacher", "scrub", "ssd", "unsir"}
LATER_METHODS = {"delete", "munba", "sfron", "l1_sparse", "amun", "msg", "rum"}
MINIMAL = """
dataset: {dataset_name: photos}
forget: {fraction: 0.1}
model: {name_or_path: your-name/vit}
methods: {lotus: }
seeds: [1]
"""


@pytest.fixture
def write(tmp_path):
    def to(name, text):
        (tmp_path / f"{name}.yaml").write_text(text)
        return str(tmp_path / f"{name}.yaml")

    return to


def test_there_is_one_for_every_setting_of_the_paper():
    assert set(recipe_names()) == {*paper_results()["settings"], "cifar10-pool", "cifar10-small"}


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_names_methods_and_options_that_exist(name):
    recipe = load_recipe(name)
    rows = choose(["all"], recipe.methods, has_retrain=True)
    assert PAPER_METHODS | {"margin_matching", "warm_restart", "salun", "salun_lotus"} | LATER_METHODS <= set(rows)
    assert ("ct" in rows) == (recipe.model.get("config", {}).get("model_type") in ("resnet", "cifar_resnet"))
    assert list(recipe.seeds) == ([0, 1, 2] if name.startswith("cifar10-") else [3407, 13, 12])
    assert recipe.tiny().model["config"].keys() >= {"model_type"} and recipe.tiny().forget == recipe.forget


def test_settings_of_the_paper_arrive_where_they_are_read():
    rows = choose(["all"], load_recipe("resnet18-cifar10").methods, has_retrain=True)
    assert rows["lotus"].method.alpha == 8 and rows["salun_lotus"].method.inner.alpha == 8
    assert rows["finetune"].arguments["learning_rate"] == 1e-3 and rows["finetune"].arguments["num_train_epochs"] == 10
    assert rows["salun"].method.saliency == 0.1 and rows["scrub"].method.lr_decay_rounds == (5, 8, 9)
    rows = choose(["all"], load_recipe("vit-cifar100-50").methods, has_retrain=True)
    assert rows["lotus"].method.alpha == 2 and rows["lotus"].arguments["learning_rate"] == 1e-6
    assert choose(["all"], load_recipe("resnet18-cifar100-rocket").methods, True)["lotus"].method.alpha == 32
    assert choose(["all"], load_recipe("vit-imagenet").methods, True)["neggrad_plus"].method.alpha == 0.9999
    assert load_recipe("vit-imagenet").training is None


def test_settings_of_other_papers_are_those_of_resnets_and_elsewhere_the_defaults_stand():
    rows = choose(["all"], load_recipe("resnet18-cifar10").methods, has_retrain=True)
    assert rows["l1_sparse"].method.alpha == 5e-4 and rows["sfron"].method.alpha == 25
    given = {name: rows[name].arguments for name in ("delete", "munba", "amun", "rum", "msg", "ct")}
    assert [given[name].get("learning_rate") for name in given] == [0.01, 7e-3, 0.05, 0.1, None, None]
    assert given["rum"]["num_train_epochs"] == 20 and given["munba"]["optim_args"] == "momentum=0.9"
    for name in ("vit-cifar10", "vit-imagenet"):
        rows = choose(["all"], load_recipe(name).methods, has_retrain=True)
        # The closed loop's own rate and rounds: 1e-6 and three rounds were those of the open one.
        assert all(rows[later].arguments == {} for later in ("margin_matching", "warm_restart", *LATER_METHODS))


def test_a_file_goes_over_what_it_includes(write):
    write(
        "base", "seeds: [1, 2]\nmodel: {name_or_path: a}\nmethods: {lotus: {alpha: 4}, ssd: }\ntraining: {seed: 1}\n"
    )
    own = "include: [base]\ndataset: {dataset_name: d}\nforget: {first: 3}\ntraining: null\n"
    recipe = load_recipe(write("own", own + "methods: {lotus: {retain_fraction: 0.5}}\n"))
    assert recipe.methods == {"lotus": {"alpha": 4, "retain_fraction": 0.5}, "ssd": None}
    assert recipe.seeds == [1, 2] and recipe.training is None and recipe.name == recipe.title == "own"
    with pytest.raises(ValueError, match="includes 'methodz', which is not there. Did you mean 'methods'"):
        load_recipe(write("own", own.replace("base", "methodz")))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("seeds: [1]", "seeds: [1]\nsteps: 3", "has 'steps', which does not exist"),
        ("seeds: [1]", "", "lacks `seeds`"),
        ("seeds: [1]", "seeds: []", "at least one method and one seed"),
        ("dataset_name: photos", "dataset_nam: photos", "'dataset_nam' under `dataset`.*Did you mean 'dataset_name'"),
        ("{fraction: 0.1}", "{fraction: 0.1, first: 3}", "exactly one of fraction, class, first, per_class"),
        ("{fraction: 0.1}", "{fraction: 0.1, retain_per_class: 3}", "exactly one of"),
        ("{name_or_path: your-name/vit}", "{}", "either `config` or `name_or_path`"),
        ("{name_or_path: your-name/vit}", "{config: {model_type: vit}}", "needs an `image_size`"),
        ("seeds: [1]", "seeds: [1]\nmax_rounds: 0", "max_rounds must be 1 or more, got 0"),
        ("seeds: [1]", "seeds: [1", "is not valid YAML"),
    ],
)
def test_what_a_recipe_cannot_hold_is_told(write, old, new, told):
    assert old in MINIMAL
    with pytest.raises(ValueError, match=told):
        load_recipe(write("mine", MINIMAL.replace(old, new)))


def test_a_recipe_that_does_not_exist_is_told_with_the_nearest():
    with pytest.raises(ValueError, match="no recipe 'resnet18-cifar'. Did you mean 'resnet18-cifar10'"):
        load_recipe("resnet18-cifar")
