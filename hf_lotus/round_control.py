"""What happens between rounds: decide the next one, log it, stop, and find it again after a resume."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from transformers import TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from hf_lotus.methods import Round

if TYPE_CHECKING:
    from hf_lotus.trainer import UnlearningTrainer

# What the log adds to a round's values.
_LOGGED_BESIDE = ("round", "stop", "epoch", "step")


class RoundControl(TrainerCallback):
    """Ask the method at the borders of rounds, and hold its decision for the loss.

    A round is decided when the one before ends: a stop that is flagged when an epoch begins would still train a batch.
    The decision is in the log, and so in every checkpoint, from which a resumed run takes it.

    Attributes:
        current: the decision for the current round, or None before the first.
    """

    def __init__(self, trainer: UnlearningTrainer):
        self.trainer = trainer
        self.current: Round | None = None

    def decide_first(self) -> bool:
        """Decide the first round; return whether the run stops before it."""
        self._decide(0)
        if self.current.stop:
            self._log(0)
        return self.current.stop

    def take_over(self, checkpoint: str) -> bool:
        """Forget what was decided; return whether the run of a checkpoint had stopped there already.

        If it had, its log is taken over, so that it can be told.
        """
        self.current = None
        path = os.path.join(checkpoint, TRAINER_STATE_NAME)
        state = TrainerState.load_from_json(path) if os.path.isfile(path) else TrainerState()
        rounds = [entry for entry in state.log_history if "round" in entry]
        stopped = bool(rounds and rounds[-1]["stop"])
        if stopped:
            self.trainer.state = state
        return stopped

    def history(self) -> list[dict[str, float]]:
        """The log of the rounds that took place, and of the stop where there was one."""
        state = self.trainer.state
        rounds = [entry for entry in state.log_history if "round" in entry]
        return [entry for entry in rounds if entry["stop"] or entry["step"] < state.global_step]

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        """Set the order of the round; its decision is made already, but for a resume."""
        index = int(state.epoch)
        # The loader's own set_epoch does not reach the sampler after a mid-round resume on several ranks.
        self.trainer.sampler.set_epoch(index)
        self._enter(index)

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        """Decide the next round, if there is one."""
        index = round(state.epoch)
        if index < state.num_train_epochs and not control.should_training_stop:
            self.current = None
            # Logging clears the flag that has the round's loss logged next.
            should_log = control.should_log
            self._enter(index)
            control.should_log = should_log
            control.should_training_stop = self.current.stop

    def _enter(self, index: int) -> None:
        logged = next((entry for entry in self.trainer.state.log_history if entry.get("round") == index), None)
        if logged is not None:
            values = {name: value for name, value in logged.items() if name not in _LOGGED_BESIDE}
            self.current = Round(values, bool(logged["stop"]))
            return
        if self.current is None:
            self._decide(index)
        self._log(index)

    def _decide(self, index: int) -> None:
        self.current = self.trainer.method.begin_round(self.trainer, index)
        taken = sorted(self.current.values.keys() & set(_LOGGED_BESIDE))
        if taken:
            raise ValueError(
                f"{type(self.trainer.method).__name__} names a round's value {taken[0]!r}: call it otherwise."
            )

    def _log(self, index: int) -> None:
        self.trainer.log({"round": index, **self.current.values, "stop": float(self.current.stop)})
