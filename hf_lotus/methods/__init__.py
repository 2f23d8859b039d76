"""The unlearning methods, one paper a file."""

from hf_lotus.methods.base import GradientMethod, LossInputs, Round
from hf_lotus.methods.finetune import Finetune
from hf_lotus.methods.lotus import LoTUS
from hf_lotus.methods.retrain import Retrain

# The names that the command line and recipes use.
METHODS: dict[str, type[GradientMethod]] = {
    "lotus": LoTUS,
    "finetune": Finetune,
    "retrain": Retrain,
}

__all__ = ["METHODS", "Finetune", "GradientMethod", "LoTUS", "LossInputs", "Retrain", "Round"]
