"""What the two trainers take over of `transformers.Trainer`, held against the table that gives the reasons."""

import inspect

import pytest
from transformers import Trainer

from hf_lotus import UnlearningTrainer
from hf_lotus.trainer.round_trainer import RoundTrainer
from hf_lotus.trainer.seam import OVERRIDDEN

OURS = [kind for kind in UnlearningTrainer.__mro__ if kind.__module__.startswith("hf_lotus.")]


def own_of_trainer(kind):
    """The names that a class of ours defines and `Trainer` has too."""
    return {name for name in vars(kind) if hasattr(Trainer, name) and not name.startswith("__")}


def test_two_classes_of_ours_and_nothing_mixed_in():
    assert UnlearningTrainer.__bases__ == (RoundTrainer,) and RoundTrainer.__bases__ == (Trainer,)
    assert OURS == [UnlearningTrainer, RoundTrainer]


def test_every_private_method_taken_over_is_in_the_table_and_there_is_no_other():
    private = {kind.__name__: {name for name in own_of_trainer(kind) if name.startswith("_")} for kind in OURS}
    assert set.union(*private.values()) == OVERRIDDEN.keys()
    for name, reason in OVERRIDDEN.items():
        owner, _, why = reason.partition(". ")
        assert name in private[owner] and len(why) > 40


def test_an_attribute_of_an_instance_shadows_no_method_of_trainer(make):
    assert not {name for name in vars(make()) if callable(getattr(Trainer, name, None))}


# Ours take other arguments for the card, and `Trainer` calls neither but from the other.
OF_THE_CARD = {"create_model_card", "push_to_hub"}
OF_TRAINER = {name for kind in OURS for name in own_of_trainer(kind)}
CALLED = sorted(name for name in OF_TRAINER - OF_THE_CARD if callable(getattr(Trainer, name)))


@pytest.mark.parametrize("name", CALLED)
def test_what_is_taken_over_takes_the_arguments_of_trainers_own(name):
    """Of the transformers that is installed; by keyword, as it calls some of them."""
    theirs, ours = (inspect.signature(getattr(kind, name)) for kind in (Trainer, UnlearningTrainer))
    given = {p.name: None for p in theirs.parameters.values() if p.kind is not p.VAR_KEYWORD}
    ours.bind(**given)


@pytest.mark.parametrize("name", sorted(name for kind in OURS for name in own_of_trainer(kind) & OVERRIDDEN.keys()))
def test_trainer_still_calls_them(name):
    source = inspect.getsource(Trainer)
    assert f"self.{name}(" in source, f"{name} would be overridden in vain"


DELEGATES = ["create_accelerator_and_postprocess", "save_model", "init_hf_repo", "create_model_card", "push_to_hub"]
DELEGATES += ["_save_rng_state", "_load_from_checkpoint", "_load_best_model"]


@pytest.mark.parametrize("name", DELEGATES)
def test_what_the_parts_do_is_delegated_in_a_few_lines(name):
    method = getattr(UnlearningTrainer, name)
    lines, doc = inspect.getsource(method).splitlines(), (method.__doc__ or "").splitlines()
    head = next(number for number, line in enumerate(lines) if line.endswith(":") and ("->" in line)) + 1
    assert 1 <= len(lines) - head - len(doc) <= 6
