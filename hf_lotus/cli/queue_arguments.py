"""The flags that say where a queue of deletion requests is."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class QueueArguments:
    """Where the queue is."""

    queue: str = field(default="requests", metadata={"help": "Folder of the queue. It is private: keep it so."})
    queue_repo: str | None = field(
        default=None,
        metadata={
            "help": "A private data set repository on the Hub where requests arrive: `add` sends the request there "
            "instead of into the folder, `list` and `run` first copy what is new from there into the folder."
        },
    )
