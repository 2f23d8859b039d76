"""RUM: the split by hand, the order of its parts and methods, each from where the one before has left the model."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from hf_lotus.benchmark.contenders import read_entry
from hf_lotus.cli.parsing import parse
from hf_lotus.data.images import ReadyImages
from hf_lotus.evaluation.predictions import predict
from hf_lotus.methods import (
    AMUN,
    MSG,
    RUM,
    SCRUB,
    SSD,
    UNSIR,
    Finetune,
    GradientMethod,
    LoTUS,
    MarginMatching,
    NegGradPlus,
    RandomLabels,
    RefusedModel,
    Retrain,
    Round,
    SalUn,
    Task,
    WarmRestart,
    describe,
)
from hf_lotus.methods.rounds import Pass, Streams
from hf_lotus.publishing.citations import citations
from tests.support.every_method import SaveAt, build
from tests.support.method_helpers import equal, trained, weights


@dataclass(frozen=True)
class Noted(GradientMethod):
    """Plain descent on its part alone, that notes what it is asked."""

    label: str = ""
    notes: list = field(default_factory=list, hash=False)
    retained: bool = False

    def streams(self, task):
        return Streams(forget=True, retain_fraction=0.5)

    def passes(self, task, index):
        return (Pass(retain=self.retained),)

    def prepare(self, run):
        self.notes.append((self.label, "prepare", run.num_forget, weights(run.teacher)))
        return self.label

    def begin_round(self, run, index):
        assert run.task.num_forget == run.num_forget == len(run.labels("forget"))
        self.notes.append((self.label, "round", index, weights(run.student), run.labels("forget").clone()))
        return Round({"own": float(index)}, state={"of": torch.tensor(float(index))})

    def loss(self, inputs):
        assert inputs.state == self.label and float(inputs.round_state["of"]) == inputs.round_index
        self.notes.append((self.label, "loss", inputs.round_index, inputs.positions, inputs.labels, inputs.is_forget))
        return torch.nn.functional.cross_entropy(inputs.logits.float(), inputs.labels, reduction="none")


def three(notes, **fields):
    return RUM(*(Noted(part, notes, **fields) for part in ("low", "middle", "high")), low_rounds=1, middle_rounds=2)


def thirds(parts, processor, family="resnet"):
    """Rows of the forget set by the original's confidence: the surest 20, the next 20, the least sure 20."""
    predictions = predict(trained(family, processor), ReadyImages(parts["forget"], processor), progress=False)
    confidence = predictions.probabilities[np.arange(60), predictions.labels]
    order = np.argsort(-confidence, kind="stable")
    return [sorted(order[start : start + 20].tolist()) for start in (0, 20, 40)]


class TestTheSplit:
    @pytest.mark.parametrize("family", ["resnet", "vit"])
    def test_thirds_by_confidence_the_surest_first(self, make, parts, processor, family):
        trainer = make(trained(family, processor), RUM())
        told = trainer.run.parts
        assert [(told == part).nonzero()[:, 0].tolist() for part in range(3)] == thirds(parts, processor, family)

    def test_another_proxy_gives_other_parts_and_ranks_are_among_the_trained_samples(self, make, parts, processor):
        by = {proxy: make(trained("resnet", processor), RUM(proxy=proxy)).run.parts for proxy in ("margin", "entropy")}
        ranked = make(trained("resnet", processor), RUM(proxy="margin_rank")).run.parts
        assert not torch.equal(by["margin"], by["entropy"])
        values, labels = [], []
        for name in ("forget", "retain"):
            given = predict(trained("resnet", processor), ReadyImages(parts[name], processor), progress=False)
            logits, rows = given.kept_logits.astype(np.float64), np.arange(len(given.labels))
            own = logits[rows, given.labels].copy()
            logits[rows, given.labels] = -np.inf
            values.append(own - logits.max(axis=1))
            labels.append(given.labels)
        everyone, classes = np.concatenate(values), np.concatenate(labels)
        expected = [
            (everyone[classes == label] < value).mean() + (everyone[classes == label] == value).mean() / 2
            for value, label in zip(values[0], labels[0], strict=True)
        ]
        order = np.argsort(-np.array(expected), kind="stable")
        assert sorted(order[:20].tolist()) == (ranked == 0).nonzero()[:, 0].tolist()

    @pytest.mark.parametrize(
        ("count", "parts"), [(1, ["high"]), (2, ["middle", "high"]), (3, ["low", "middle", "high"])]
    )
    def test_few_samples_leave_parts_out(self, count, parts):
        task = Task(None, False, 10, (0,), 100, count)
        assert [phase.method.label for phase in three([]).phases(task)] == parts


class TestTheOrder:
    def test_low_middle_high_each_on_its_own_part_from_where_the_one_before_left(self, make, parts, processor):
        notes = []
        trainer = make(trained("resnet", processor), three(notes), {"num_train_epochs": 5})
        original = weights(trainer.teacher)
        trainer.train()
        kinds = [(note[0], note[1]) for note in notes if note[1] != "loss"]
        assert kinds == [
            ("low", "prepare"), ("low", "round"),
            ("middle", "prepare"), ("middle", "round"), ("middle", "round"),
            ("high", "prepare"), ("high", "round"), ("high", "round"),
        ]  # fmt: skip
        assert [note[2] for note in notes if note[1] == "round"] == [0, 0, 1, 0, 1]  # their own rounds
        # The teacher of a part is the model that the part before has left.
        teachers = {note[0]: note[3] for note in notes if note[1] == "prepare"}
        starts = {note[0]: note[3] for note in notes if note[1] == "round" and note[2] == 0}
        assert equal(teachers["low"], original)
        for part in ("middle", "high"):
            assert equal(teachers[part], starts[part]) and not equal(teachers[part], original)
        assert not equal(teachers["middle"], teachers["high"])
        assert equal(weights(trainer.teacher), original)  # what everything is measured against stays
        labels = trainer.run.labels("forget")
        for part, rows in zip(("low", "middle", "high"), thirds(parts, processor), strict=True):
            shown = [(note[3], note[4]) for note in notes if note[:2] == (part, "loss") and note[2] == 0]
            positions, seen = (torch.cat(each) for each in zip(*shown, strict=True))
            # Of its 20 samples alone, at the places from 0 on that it knows them by.
            assert positions.sort().values.tolist() == list(range(20))
            assert torch.equal(seen[positions.argsort()], labels[rows])
            told = next(note[4] for note in notes if note[:2] == (part, "round"))
            assert torch.equal(told, labels[rows])

    def test_retained_samples_come_after_those_of_the_part_and_other_parts_never(self, make, parts, processor):
        notes = []
        trainer = make(trained("resnet", processor), three(notes, retained=True), {"num_train_epochs": 4})
        trainer.train()
        for part in ("low", "middle", "high"):
            shown = [(note[3], note[5]) for note in notes if note[:2] == (part, "loss") and note[2] == 0]
            positions, forget = (torch.cat(each) for each in zip(*shown, strict=True))
            assert positions.sort().values.tolist() == list(range(20 + 90))
            assert torch.equal(forget, positions < 20)

    def test_nothing_is_done_for_a_part_without_a_method(self, make, processor):
        notes = []
        method = RUM(None, Noted("middle", notes), None)
        trainer = make(trained("resnet", processor), method)
        trainer.train()
        assert {note[0] for note in notes} == {"middle"} and trainer.state.global_step == 2

    def test_rates_are_scaled_and_passes_named_by_part(self, make, processor):
        method = replace(three([]), scales=(1.0, 0.5, 0.25))
        trainer = make(trained("resnet", processor), method, {"num_train_epochs": 4, "lr_scheduler_type": "constant"})
        trainer.train()
        entries = [entry for entry in trainer.state.log_history if "loss" in entry]
        assert [entry["pass"] for entry in entries] == ["low", "middle", "middle", "high"]
        assert [entry["learning_rate"] for entry in entries] == pytest.approx([1e-3, 5e-4, 5e-4, 2.5e-4])


class TestTheDefault:
    def test_nothing_finetune_and_salun(self):
        assert RUM() == RUM(None, Finetune(), SalUn())

    def test_finetuning_then_salun_of_the_high_part_alone_by_plain_loops(self, make, parts, processor):
        """One run of it is a run of finetuning, then one of SalUn with what is most memorised as the forget set."""
        arguments = {"optim": "sgd", "weight_decay": 5e-4, "lr_scheduler_type": "constant", "learning_rate": 0.01}
        trainer = make(trained("vit", processor), RUM(middle_rounds=1, scales=(1.0, 1.0, 1.0)), arguments)
        first = make(trained("vit", processor), Finetune(), {**arguments, "num_train_epochs": 1})
        first.train()
        seen, before = [], trainer.compute_loss

        def noted(model, inputs, *args, **kwargs):
            seen.append((inputs["position"].clone(), weights(trainer.model)))
            return before(model, inputs, *args, **kwargs)

        trainer.compute_loss = noted
        trainer.train()
        assert equal(seen[6][1], weights(first.model))  # 6 steps of 180 samples
        high = thirds(parts, processor, "vit")[2]
        shown = torch.cat([positions for positions, _ in seen[6:]])
        assert sorted(shown.tolist()) == sorted([*high, *range(60, 240)])
        # SalUn's mask is of the finetuned model's gradients on that part.
        alone = make(
            first.model, SalUn(), {**arguments, "num_train_epochs": 1}, forget_dataset=parts["forget"].select(high)
        )
        mask = alone.method.mask(alone.run)
        held = {name: (~mask[name]) for name, _ in trainer.model.named_parameters()}
        moved, start = dict(trainer.model.named_parameters()), seen[6][1]
        # Of weights on the edge of the mask rounding may choose either.
        wrong = sum(int((moved[name] != start[name])[held[name]].sum()) for name in held)
        assert wrong <= 2
        assert sum(int((moved[name] != start[name]).sum()) for name in held) > 0.4 * sum(
            v.numel() for v in held.values()
        )

    def test_arguments_are_those_of_the_last_method_with_the_rounds_of_all(self, tiny_model):
        task = Task(tiny_model("resnet"), False, 10, (0,), 100, 30)
        given = RUM().default_arguments(task)
        assert given["learning_rate"] == 0.01 and given["num_train_epochs"] == 20
        assert replace(RUM(), middle_rounds=4).default_arguments(task)["num_train_epochs"] == 14


@pytest.mark.parametrize(
    "method",
    [
        RUM(RandomLabels(), MarginMatching(temperature=0.1), SCRUB(msteps=1, forget_batch_size=8)),
        RUM(AMUN(steps=3), MSG(), SalUn(AMUN(steps=3))),
        RUM(SalUn(), NegGradPlus(), LoTUS(stop_margin=2.0)),
        RUM(LoTUS(stop_margin=2.0), AMUN(retain_fraction=0.0, steps=3), None),
    ],
    ids=lambda method: "-".join(type(part).__name__ for part in method._methods),
)
@pytest.mark.parametrize("family", ["resnet", pytest.param("vit", marks=pytest.mark.exhaustive)])
def test_any_methods_may_be_combined_and_are_taken_up_again_to_the_bit(tmp_path, method, family):
    method = replace(method, low_rounds=1, middle_rounds=1)
    rounds = len([part for part in method._methods if part is not None])
    arguments = {"num_train_epochs": rounds, "optim": "adamw_torch", "learning_rate": 1e-3}
    first = build(tmp_path / "first", method, family, **arguments)
    first.get_train_dataloader()
    within = [first.sampler.first_step(index) + 1 for index in range(rounds)]
    whole = build(tmp_path, method, family, callbacks=[SaveAt(*within)], **arguments)
    whole.train()
    assert all(torch.isfinite(value).all() for value in whole.model.state_dict().values())
    for step in within:
        again = build(tmp_path, method, family, **arguments)
        again.train(str(tmp_path / f"checkpoint-{step}"))
        assert equal(weights(again.model), weights(whole.model)), step


class TestAsText:
    def test_methods_by_name_on_the_command_line_and_in_a_recipe(self):
        flags = [
            "--low",
            "lotus",
            "--middle",
            "nothing",
            "--high",
            "salun",
            "--proxy",
            "margin",
            "--scales",
            "1",
            "1",
            "2",
        ]
        expected = RUM(LoTUS(), None, SalUn(), proxy="margin", scales=(1.0, 1.0, 2.0))
        assert parse(flags, [], "unlearn", method="rum") == (expected,)
        entry = {"method": "rum", "low": "lotus", "middle": "nothing", "proxy": "margin", "scales": [1, 1, 2]}
        assert read_entry("row", entry)[0] == expected

    @pytest.mark.parametrize("name", ["rum", "ssd", "retrain", "warm_restart", "finetun"])
    def test_what_cannot_be_a_part_is_refused_by_name(self, name):
        with pytest.raises(ValueError, match=f"no method '{name}' for low"):
            read_entry("row", {"method": "rum", "low": name})

    def test_every_paper_is_cited(self):
        cited = citations(describe(RUM(low=AMUN())))
        for number in ("2406.01257", "2503.00917", "2310.12508", "2010.10981", "2503.18314"):
            assert number in cited


class Stops(Noted):
    def begin_round(self, run, index):
        return replace(super().begin_round(run, index), stop=index == 1)


class TestRefused:
    @pytest.mark.parametrize(
        ("method", "error", "message"),
        [
            (SSD(), TypeError, "middle must be a gradient method"),
            (Retrain(), TypeError, "middle must not be Retrain"),
            (WarmRestart(), TypeError, "middle must not be WarmRestart, which renews its teacher"),
            (RUM(), TypeError, "middle must not be RUM, which splits"),
        ],
    )
    def test_methods_that_cannot_be_one_of_several(self, method, error, message):
        with pytest.raises(error, match=message):
            RUM(middle=method)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"middle": None, "high": None}, "nothing to unlearn by"),
            ({"proxy": "loss"}, "proxy must be one of confidence"),
            ({"low_rounds": 0}, "low_rounds must be 1 or more"),
            ({"scales": (1.0, 1.0)}, "three numbers above 0"),
            ({"scales": (1.0, 0.0, 1.0)}, "three numbers above 0"),
        ],
    )
    def test_values(self, fields, message):
        with pytest.raises(ValueError, match=message):
            RUM(**fields)

    def test_a_method_that_shows_a_class_repeatedly(self, make):
        with pytest.raises(RefusedModel, match="high must show each sample as it is, and UNSIR does not"):
            make("resnet", RUM(high=UNSIR()))

    def test_too_few_samples_for_the_part_that_has_a_method(self, make, parts):
        with pytest.raises(RefusedModel, match="of 1 forget samples none is in a part"):
            make("resnet", RUM(low=Finetune(), middle=None, high=None), forget_dataset=parts["forget"].select([0]))

    def test_a_stop_before_the_last_part(self, make, processor):
        notes = []
        method = RUM(Noted("low", notes), Stops("middle", notes), Noted("high", notes), low_rounds=1, middle_rounds=2)
        with pytest.raises(ValueError, match="method of the middle part, Stops, stops before its rounds are over"):
            make(trained("resnet", processor), method, {"num_train_epochs": 4}).train()
        last = replace(method, middle=Noted("middle", notes), high=Stops("high", notes))
        trainer = make(trained("resnet", processor), last, {"num_train_epochs": 9})
        trainer.train()
        assert trainer.state.epoch == 4  # of the last part's rounds one was taken

    def test_over_one_or_after_a_restart(self):
        with pytest.raises(TypeError, match="RUM splits it"):
            SalUn(RUM())
        with pytest.raises(TypeError, match="must not hold weights still"):
            WarmRestart(RUM())
