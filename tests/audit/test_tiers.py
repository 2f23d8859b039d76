"""Every tier accuses who knows, and not who never saw; what it cannot tell it says, and gives no number."""

from dataclasses import replace

import numpy as np
import pytest

from hf_lotus.audit.evidence import FORGET, UNSEEN, Outputs
from hf_lotus.audit.judgement import judge
from hf_lotus.audit.matching import equally_many, in_the_same_shares
from hf_lotus.audit.tiers import MEASURES
from hf_lotus.audit.tiers.linear_probe import linear_probe_tier
from hf_lotus.audit.tiers.relative import relative_tier, relative_unseen_tier
from hf_lotus.audit.tiers.relearning import relearning_tier
from hf_lotus.audit.tiers.rmia import rmia_tier
from hf_lotus.audit.tiers.u_lira import FEWEST_TO_RANK, u_lira_tier
from hf_lotus.evaluation.findings import CANNOT_TELL, FOUND, NOTHING, TIERS
from tests.support.made_evidence import World

pytestmark = pytest.mark.usefixtures("few_deals")

ONE_MODEL = ("relearning_excess", "linear_probe", "relative_test", "relative_test_unseen", "rmia")
MANY_MODELS = ("u_lira", "klom", "epsilon")


def many(world, knows):
    return {
        "unlearned": world.ensemble(9, knows),
        "retrained": world.ensemble(9),
        "originals": world.ensemble(9, world.knows),
    }


@pytest.fixture(scope="module")
def reports():
    """Of an audited model, and models like it, that know as much as the original, or nothing."""
    found = {}
    for name, knows in {"knows": 2.0, "never saw": 0.0}.items():
        world = World(1, forget=120, unseen=200)
        found[name] = judge(world.evidence(knows, **many(world, knows)), {}, None)
    return found


def test_the_tiers_are_those_of_the_document_in_its_order():
    assert list(MEASURES) == list(TIERS)


@pytest.mark.parametrize("tier", TIERS)
def test_who_knows_is_found_and_who_never_saw_is_not(reports, tier):
    assert reports["knows"][tier].verdict == FOUND, reports["knows"][tier].readings
    assert reports["never saw"][tier].verdict == NOTHING, reports["never saw"][tier]
    for report in reports.values():
        finding = report[tier]
        own = finding.audited
        assert own.model == "audited" and finding.n and own.interval[0] <= own.value <= own.interval[1]
        assert "original" in [reading.model for reading in finding.readings]
        assert "retrain" in [reading.model for reading in finding.readings]
        assert finding.rule.startswith("Accuse where")
    accused = {reading.model: reading.accused for reading in reports["never saw"][tier].readings}
    assert accused["original"] and not accused["retrain"]


@pytest.mark.parametrize("tier", ["relative_test", "relative_test_unseen", *MANY_MODELS])
def test_a_small_p_means_not_forgotten(reports, tier):
    assert reports["knows"][tier].audited.p_value <= 0.05 < reports["never saw"][tier].audited.p_value


class TestTooFew:
    """A tier that n cannot support says so, and gives no number."""

    @pytest.mark.parametrize("tier", ONE_MODEL)
    def test_samples(self, tier):
        finding = MEASURES[tier](World(0, forget=20, unseen=20).evidence(2.0))
        assert finding.verdict == CANNOT_TELL and finding.reason and not finding.readings, finding
        assert finding.to_dict()["value"] is None and finding.to_dict()["p_value"] is None

    @pytest.mark.parametrize("tier", MANY_MODELS)
    def test_models(self, tier):
        world = World(0)
        given = {"unlearned": world.ensemble(3), "retrained": world.ensemble(9)}
        finding = MEASURES[tier](world.evidence(0.0, **given))
        assert finding.verdict == CANNOT_TELL and "3 and 9" in finding.reason and finding.to_dict()["value"] is None

    def test_pool_models_to_rank_one_model_among(self):
        world = World(0)
        given = {"retrained": world.ensemble(FEWEST_TO_RANK - 1), "originals": world.ensemble(9, 2.0)}
        finding = u_lira_tier(world.evidence(0.0, **given))
        assert finding.verdict == CANNOT_TELL and "it takes 19" in finding.reason


class TestOneModelAgainstAPool:
    @pytest.mark.parametrize(("knows", "verdict"), [(2.0, FOUND), (0.0, NOTHING)])
    def test_it_is_ranked_among_the_pools_retrained_models(self, knows, verdict):
        world = World(5)
        given = {"retrained": world.ensemble(24), "originals": world.ensemble(8, 2.0)}
        finding = u_lira_tier(world.evidence(knows, **given))
        assert finding.verdict == verdict and finding.n == 24
        assert [reading.model for reading in finding.readings] == ["audited", "original", "retrain", "retrain again"]
        assert (finding.audited.p_value <= 0.05) == (verdict == FOUND)


class TestWithout:
    def test_unseen_data_nothing_is_held_against_it(self):
        evidence = World(0).evidence(2.0)
        labels = {FORGET: evidence.labels[FORGET]}
        for tier in set(ONE_MODEL) - {"relative_test"}:
            finding = MEASURES[tier](replace(evidence, labels=labels))
            assert finding.verdict is None and "--unseen_split" in finding.reason
        assert relative_tier(replace(evidence, labels=labels)).verdict == FOUND

    def test_a_counterpart_where_whole_classes_are_forgotten(self):
        evidence = replace(World(0).evidence(2.0), class_wise=True)
        for tier in set(ONE_MODEL) - {"relative_test"}:
            finding = MEASURES[tier](evidence)
            assert finding.verdict is None and "Whole classes" in finding.reason and finding.n is None
        assert relative_tier(evidence).verdict == FOUND

    def test_unseen_samples_of_the_forgotten_classes(self):
        evidence = World(0).evidence(2.0)
        labels = {**evidence.labels, UNSEEN: evidence.labels[UNSEEN] + 50}
        assert "no sample of any class" in rmia_tier(replace(evidence, labels=labels)).reason

    def test_a_retrained_model(self):
        evidence = World(0).evidence(2.0)
        rows = {row: evidence.outputs[row] for row in ("audited", "original")}
        finding = relative_tier(replace(evidence, outputs=rows))
        assert finding.verdict is None and "--retrain_model" in finding.reason
        assert relative_unseen_tier(replace(evidence, outputs=rows)).verdict == FOUND
        alone = replace(evidence, outputs=rows, references=None)
        assert "--reference_models" in rmia_tier(alone).reason

    def test_a_second_retrained_model_the_first_has_no_row_of_its_own(self):
        evidence = World(0).evidence(2.0)
        outputs = {row: evidence.outputs[row] for row in ("audited", "original", "retrain")}
        found = {r.model: r for r in relative_tier(replace(evidence, outputs=outputs)).readings}
        assert found["retrain"].value is None and "another retrained model" in found["retrain"].reason

    def test_any_other_reference_than_itself(self):
        evidence = World(0).evidence(0.0)
        references = replace(evidence.references, digests=["retrain", "audited"])
        finding = rmia_tier(replace(evidence, references=references))
        used = {reading.model: reading.more["references"] for reading in finding.readings}
        assert used == {"audited": 1, "original": 2, "retrain": 1, "retrain again": 2}

    def test_a_difference_between_original_and_retrained(self):
        """Nothing was memorised: there is nothing that the model could be nearer to."""
        world = World(0, knows=0.0)
        evidence = world.evidence(0.0)
        for finding in (relative_tier(evidence), relative_unseen_tier(evidence)):
            assert finding.verdict == CANNOT_TELL and "nothing to be nearer to" in finding.reason


DRAWS = [40, pytest.param(200, marks=pytest.mark.exhaustive)]


class TestNearnessOnAnyData:
    """A model is near the one it was made from on whatever data; only what it is nearer on D_f counts."""

    def evidence(self, on_forget):
        """The original is surer of everything than the retrained models, and of the forget set by so much more."""
        world = World(0)
        outputs = {row: world.model() for row in ("retrain", "retrain again")}
        for row in ("original", "audited"):
            own = world.model(on_forget)
            outputs[row] = {split: Outputs(each.confidence + 1.5) for split, each in own.items()}
        rows = ("audited", "original", "retrain", "retrain again")
        return world.evidence(0.0, outputs={row: outputs[row] for row in rows})

    def test_it_is_told_from_memory(self):
        finding = relative_tier(self.evidence(0.0))
        assert finding.audited.p_value <= 0.05 and finding.audited.accused is None
        assert finding.verdict == CANNOT_TELL and "it was made from the original" in finding.reason
        assert finding.audited.more["on_unseen_p_value"] <= 0.05

    def test_more_of_it_on_the_forget_set_is_memory(self):
        finding = relative_tier(self.evidence(3.0))
        assert finding.verdict == FOUND and finding.audited.interval[0] > finding.audited.more["on_unseen_interval"][1]


class TestCalibration:
    """On models that never saw the samples a tier accuses at its level, and no more, over many draws of the world."""

    @pytest.mark.parametrize("draws", DRAWS)
    @pytest.mark.parametrize(("tier", "sizes"), [(relearning_tier, (60, 80)), (rmia_tier, (60, 100))])
    def test_false_positives(self, tier, sizes, draws):
        accused = []
        for seed in range(draws):
            world = World(seed, *sizes)
            row = {"honest": world.model()}
            outcome = {"honest": world.relearned(0.7, 0.7)}
            given = world.evidence(0.0, "honest", outputs=row, relearned=outcome, references=world.references(2))
            accused.append(tier(given).audited.accused)
        assert np.mean(accused) <= at_most(draws)

    @pytest.mark.parametrize("draws", [20, pytest.param(200, marks=pytest.mark.exhaustive)])
    def test_false_positives_of_the_probe(self, draws):
        accused = []
        for seed in range(draws):
            world = World(seed, 60, 60)
            features = {"honest": world.features()}
            given = world.evidence(0.0, "honest", outputs={"honest": world.model()}, features=features)
            accused.append(linear_probe_tier(given).audited.accused)
        assert np.mean(accused) <= at_most(draws)


def at_most(draws):
    """The level, and three deviations of a binomial above it."""
    return 0.05 + 3 * np.sqrt(0.05 * 0.95 / draws)


class TestMatching:
    def test_equally_many_of_every_class(self):
        forget, unseen = np.repeat([0, 1, 2], [50, 10, 5]), np.repeat([0, 1, 3], [20, 30, 9])
        rows = equally_many(forget, unseen, seed=0)
        assert np.bincount(forget[rows[0]]).tolist() == np.bincount(unseen[rows[1]]).tolist() == [20, 10]
        assert [len(r) for r in equally_many(forget, unseen, seed=0, most=15)] == [15, 15]

    def test_the_shares_of_the_forget_set(self):
        forget, unseen = np.repeat([0, 1, 2], [40, 10, 5]), np.repeat([0, 1, 3], [100, 100, 9])
        mine, others = in_the_same_shares(forget, unseen, seed=0)
        assert np.bincount(forget[mine]).tolist() == [40, 10] and np.bincount(unseen[others]).tolist() == [100, 25]
        assert not len(in_the_same_shares(forget, unseen + 9, seed=0)[1])

    def test_a_scarce_class_costs_its_own_rows_alone(self):
        forget, unseen = np.repeat([0, 1], [50, 50]), np.repeat([0, 1], [100, 2])
        mine, others = in_the_same_shares(forget, unseen, seed=0)
        assert np.bincount(forget[mine]).tolist() == [50, 1] and np.bincount(unseen[others]).tolist() == [100, 2]

    def test_a_class_that_only_one_side_has_more_of_is_no_membership(self):
        """Forgotten samples of an easy class, unseen of all: without matching the attack would tell the class."""
        accused = []
        for seed in range(12):
            world = World(seed, 100, 500)
            world.labels[FORGET] = np.zeros(100, dtype=int)
            easy = {split: (labels == 0) * 3.0 for split, labels in world.labels.items()}
            rows = {"honest": {s: Outputs(o.confidence + easy[s]) for s, o in world.model().items()}}
            given = world.evidence(0.0, "honest", outputs=rows)
            accused.append(rmia_tier(given).audited.accused)
        assert np.mean(accused) <= at_most(12)


def test_the_label_probe_takes_two_classes():
    evidence = World(0).evidence(2.0)
    labels = {split: np.zeros_like(values) for split, values in evidence.labels.items()}
    finding = linear_probe_tier(replace(evidence, labels=labels))
    assert finding.verdict == CANNOT_TELL and "two classes" in finding.reason and not finding.readings
