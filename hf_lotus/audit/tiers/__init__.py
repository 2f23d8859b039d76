"""The tiers of an audit, one a file; each is a function of the evidence."""

from __future__ import annotations

from collections.abc import Callable

from hf_lotus.audit.evidence import Evidence
from hf_lotus.audit.tiers.epsilon import epsilon_tier
from hf_lotus.audit.tiers.klom import klom_tier
from hf_lotus.audit.tiers.linear_probe import linear_probe_tier
from hf_lotus.audit.tiers.relative import relative_tier, relative_unseen_tier
from hf_lotus.audit.tiers.relearning import relearning_tier
from hf_lotus.audit.tiers.rmia import rmia_tier
from hf_lotus.audit.tiers.u_lira import u_lira_tier
from hf_lotus.evaluation.findings import Finding

# Key in the document → what measures it, in the order of `evaluation.findings.TIERS`.
MEASURES: dict[str, Callable[[Evidence], Finding]] = {
    "relearning_excess": relearning_tier,
    "linear_probe": linear_probe_tier,
    "relative_test": relative_tier,
    "relative_test_unseen": relative_unseen_tier,
    "rmia": rmia_tier,
    "u_lira": u_lira_tier,
    "klom": klom_tier,
    "epsilon": epsilon_tier,
}
