"""A method's fields as flags and as entries of a recipe, those of a method within another too."""

import pytest

from hf_lotus import LoTUS, RandomLabels, SalUn
from hf_lotus.benchmark.contenders import read_entry
from hf_lotus.cli.parsing import parse
from hf_lotus.methods import METHODS, SCRUB, UNSIR
from hf_lotus.methods.options import MethodFields, build_method, inner_names
from hf_lotus.trainer.arguments import UnlearningArguments


@pytest.mark.parametrize("name", METHODS)
def test_without_flags_every_method_is_its_default(name):
    assert parse([], [], "unlearn", method=name) == (METHODS[name](),)
    assert read_entry(name, None) == (METHODS[name](), {})


@pytest.mark.parametrize("inner", [None, *inner_names()])
def test_no_flag_of_a_method_hides_another(inner):
    flags = MethodFields("salun", inner)
    assert not flags.own.keys() & flags.within.keys()
    names = {name for kind in METHODS.values() for name in kind.__dataclass_fields__}
    assert not names & UnlearningArguments.__dataclass_fields__.keys()


def test_flags_of_a_method_and_of_the_one_within_it():
    argv = ["--method", "salun", "--inner", "lotus", "--alpha", "8", "--saliency", "0.1"]
    assert parse(argv, [], "unlearn", method="lotus") == (SalUn(LoTUS(alpha=8.0), saliency=0.1),)


def test_naming_the_default_inner_method_keeps_its_settings():
    assert parse(["--inner", "random_labels"], [], "unlearn", method="salun") == (SalUn(),)
    (method,) = parse(["--inner", "random_labels", "--redraw", "False"], [], "unlearn", method="salun")
    assert method.inner == RandomLabels(allow_true=True, redraw=False)


def test_lists_numbers_and_open_fields():
    argv = ["--lr_decay_rounds", "5", "8", "9", "--rewind"]
    assert parse(argv, [], "unlearn", method="scrub") == (SCRUB(lr_decay_rounds=(5, 8, 9), rewind=True),)
    assert parse(["--noise_steps", "3"], [], "unlearn", method="unsir") == (UNSIR(noise_steps=3),)


def test_an_entry_of_a_recipe_has_fields_and_training_arguments():
    method, arguments = read_entry("row", {"method": "salun", "inner": "lotus", "alpha": 8, "learning_rate": "1e-3"})
    assert (method, arguments) == (SalUn(inner=LoTUS(alpha=8.0)), {"learning_rate": 1e-3})
    assert read_entry("s", {"method": "scrub", "lr_decay_rounds": [5], "rewind": True})[0] == SCRUB(
        lr_decay_rounds=(5,), rewind=True
    )


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        ("scrub", {"alfa": 1}, "Did you mean 'alpha'"),
        ("skrub", {}, "Did you mean 'scrub'"),
        ("salun", {"inner": "ssd"}, "no method 'ssd' to stand within salun"),
        ("salun", {"inner": "salun"}, "no method 'salun' to stand within"),
        ("lotus", {"inner": "scrub"}, "no method within it"),
        ("scrub", {"temperature": 0}, "temperature must be above 0"),
    ],
)
def test_what_does_not_exist_is_refused_with_the_nearest(label, options, message):
    with pytest.raises(ValueError, match=message):
        read_entry(label, options)


@pytest.mark.parametrize("name", METHODS)
def test_the_help_has_each_field_with_its_description(name, capsys):
    with pytest.raises(SystemExit):
        parse(["--help"], [], "unlearn", method=name)
    shown = " ".join(capsys.readouterr().out.split())
    flags = MethodFields(name)
    for names, kind in ((flags.own, flags.kind), (flags.within, type(flags.inner))):
        for field in names:
            assert f"--{field}" in shown
            assert f"[{kind.__name__}]" in shown


def test_a_method_is_built_from_text_and_values():
    given = {"alpha": "8", "saliency": 0.1}
    assert build_method("salun", given, inner="lotus") == SalUn(LoTUS(alpha=8.0), saliency=0.1)
    assert build_method("scrub", {"lr_decay_rounds": ["5", 8]}) == SCRUB(lr_decay_rounds=(5, 8))
    assert build_method("unsir", {"retain_per_class": None}) == UNSIR()
    with pytest.raises(ValueError, match="alpha of SCRUB: 'much' is no number"):
        build_method("scrub", {"alpha": "much"})
    with pytest.raises(ValueError, match="SCRUB has no field 'alfa'. Did you mean 'alpha'"):
        build_method("scrub", {"alfa": 1})


@pytest.mark.parametrize(
    ("options", "told"),
    [({"alpha": "much"}, "alpha of LoTUS: 'much'"), ({"learning_rate": "fast"}, "learning_rate of row: 'fast'")],
)
def test_a_value_of_another_type_in_a_recipe_is_an_error_and_no_exit(options, told):
    with pytest.raises(ValueError, match=told):
        read_entry("row", {"method": "lotus", **options})
