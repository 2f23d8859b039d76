"""`hf-lotus request run`: unlearn what is open in the queue, measure every request again, record, publish."""

from __future__ import annotations

import sys

from hf_lotus.cli.parsing import parse
from hf_lotus.cli.queue_arguments import QueueArguments
from hf_lotus.data.loading import DatasetArguments
from hf_lotus.models.loading import ModelArguments
from hf_lotus.publishing.recording import RecordArguments
from hf_lotus.requests.history import HISTORY, HISTORY_FIGURE
from hf_lotus.requests.queue import RequestQueue
from hf_lotus.requests.service import Served, publish_latest, serve
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.utils.text import counted

_UNNAMED = "trainer_output"  # what Trainer sets where no output_dir is given


def run(argv: list[str]) -> int:
    """Serve what is open; return 0, or 1 if a request had to stay open."""
    kinds = [ModelArguments, DatasetArguments, RecordArguments, QueueArguments, UnlearningArguments]
    model, data, recorded, at, arguments, method = parse(argv, kinds, "request run", method="lotus")
    _refuse(arguments, recorded)
    queue = RequestQueue(at.queue)
    options = {"record_classes": recorded.record_classes, "queue_repo": at.queue_repo, "say": print}
    served = serve(queue, model, data, arguments, method, **options)
    if arguments.process_index == 0:
        _print(queue, served)
        if arguments.push_to_hub:
            _publish(queue, arguments)
    return 1 if served.refused else 0


def _refuse(arguments: UnlearningArguments, recorded: RecordArguments) -> None:
    """Options of `unlearn` that the queue decides itself."""
    for name, given in {
        "--output_dir": arguments.output_dir not in (None, _UNNAMED),
        "--salt_file": recorded.salt_file is not None,
        "--record_rows": recorded.record_rows,
        "--resume_from_checkpoint": arguments.resume_from_checkpoint is not None,
    }.items():
        if given:
            raise ValueError(
                f"{name} is not for `request run`: models and salt are kept in the queue's folder, row numbers are "
                "not published, and what was broken off goes on by itself. Leave it out."
            )
    if arguments.push_to_hub and arguments.hub_model_id is None:
        raise ValueError("--push_to_hub needs --hub_model_id: each run's model is another folder.")


def _print(queue: RequestQueue, served: Served) -> None:
    """Print the history; name what stays open."""
    if served.history is not None:
        where = queue.folder / HISTORY, queue.folder / HISTORY_FIGURE
        print(f"{served.history}\n\nThe same in {where[0]}, as a figure in {where[1]}.")
    latest = queue.latest()
    print(f"The model: {latest.model}." if latest else "No run has made a model yet.")
    waiting = [request for request in queue.open() if request.id not in served.refused]
    if waiting:
        print(f"{counted(len(waiting), 'request')} {'is' if len(waiting) == 1 else 'are'} open.")
    else:
        print("No other request is open." if served.refused else "Nothing is open.")
    for name, reason in served.refused.items():
        print(f"Request {name} cannot be served and stays open: {reason}", file=sys.stderr)


def _publish(queue: RequestQueue, arguments: UnlearningArguments) -> None:
    assert arguments.hub_model_id is not None
    commit = publish_latest(
        queue,
        arguments.hub_model_id,
        token=arguments.hub_token,
        private=arguments.hub_private_repo,
        revision=arguments.hub_revision,
    )
    if commit is not None:
        print(f"Published: {commit.commit_url}")
