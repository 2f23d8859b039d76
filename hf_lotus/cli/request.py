"""`hf-lotus request`: keep a queue of deletion requests (`add`, `list`), and serve what is open (`run`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone

from hf_lotus.cli.flags import parse_text_flags
from hf_lotus.cli.queue_arguments import QueueArguments
from hf_lotus.data.forget_choice import ForgetArguments, read_rows
from hf_lotus.requests.queue import DeletionRequest, RequestQueue
from hf_lotus.utils.clock import now
from hf_lotus.utils.text import markdown_table

_USAGE = """usage: hf-lotus request ACTION [options]

actions:
  add   add a deletion request to the queue
  list  show the requests, and which of them are served
  run   unlearn what is open, measure every request again, publish if asked

hf-lotus request ACTION --help lists the options."""


@dataclass
class AddArguments(ForgetArguments, QueueArguments):
    """Which samples are to be forgotten."""

    id: str | None = field(
        default=None,
        metadata={"help": "What to call the request. It is published: name nobody in it. Default: date and a number."},
    )
    date: str | None = field(default=None, metadata={"help": "The day it is of, as YYYY-MM-DD. Default: today, UTC."})


def run(argv: list[str]) -> int:
    """Do what the first word says; return the exit status."""
    actions = {"add": _add, "list": _list, "run": _run}
    if not argv or argv[0] not in actions:
        if not argv or argv[0] not in ("-h", "--help"):
            given = f"got {argv[0]!r}" if argv else "got nothing"
            raise ValueError(f"Say what to do with the requests: {', '.join(actions)}; {given}.")
        print(_USAGE)
        return 0
    return actions[argv[0]](argv[1:])


def _add(argv: list[str]) -> int:
    arguments = parse_text_flags(argv, AddArguments, "request add")
    day = arguments.date or datetime.now(timezone.utc).date().isoformat()
    request = DeletionRequest(arguments.id or DeletionRequest.new_id(day), day, _selector(arguments), now())
    if arguments.queue_repo is not None:
        from hf_lotus.requests.inbox import send  # with the Hub's client, which a folder does without

        send(request, arguments.queue_repo)
    else:
        RequestQueue(arguments.queue).add(request)
    print(f"Request {request.id} ({request}) is in {arguments.queue_repo or arguments.queue}.")
    return 0


def _selector(arguments: AddArguments) -> dict[str, object]:
    arguments.require_one_way()
    if arguments.forget_rows is not None:
        # Read now: the file may be gone, or another, when the request is served.
        rows = read_rows(arguments.forget_rows).tolist()
        if not rows:
            raise ValueError(f"{arguments.forget_rows} has no row number: the forget set would be empty.")
        return {"by": "rows", "rows": rows}
    if arguments.forget_class is not None:
        return {"by": "class", "classes": arguments.forget_class}
    return {"by": "column", "column": arguments.forget_column, "values": arguments.forget_values}


def _list(argv: list[str]) -> int:
    arguments = parse_text_flags(argv, QueueArguments, "request list")
    queue = RequestQueue(arguments.queue)
    if arguments.queue_repo is not None:
        from hf_lotus.requests.inbox import receive

        receive(queue, arguments.queue_repo)
    else:
        queue.require()
    planned, rows = queue.planned(), []
    for request in queue.requests():
        run = planned.get(request.id)
        status = "open" if run is None else f"run {run.number}" + ("" if run.is_done else ", not finished")
        if run is not None and run.pushed is not None:
            status += f", in {run.pushed['repo_id']}"
        rows.append([request.id, request.date, str(request), status])
    print(markdown_table(["Request", "Date", "Asks for", "Served by"], rows))
    return 0


def _run(argv: list[str]) -> int:
    from hf_lotus.cli import request_run, terminal  # with all that training needs

    terminal.quieten()
    return request_run.run(argv)
