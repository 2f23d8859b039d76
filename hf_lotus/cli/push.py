"""`hf-lotus push`: publish a model's folder on the Hub, all of it in one commit."""

from __future__ import annotations

from dataclasses import dataclass, field

from hf_lotus.cli.flags import flag_parser
from hf_lotus.publishing.hub import push


@dataclass
class PushArguments:
    """How to publish. The token is the one of `hf auth login` or the variable HF_TOKEN."""

    private: bool = field(default=False, metadata={"help": "Make the repository private, if it is created."})
    revision: str | None = field(default=None, metadata={"help": "Branch to push to. Default: main."})
    commit_message: str = field(default="Unlearned model", metadata={"help": "Message of the commit."})


def run(argv: list[str]) -> int:
    """Check that the folder is whole, create the repository if it is not there, upload; return the exit status."""
    parser = flag_parser(PushArguments, "push")
    parser.add_argument("folder", help="Folder with weights, forget_set.json and README.md.")
    parser.add_argument("repo_id", help="The repository, as namespace/name.")
    arguments, given = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    commit = push(
        given.folder,
        given.repo_id,
        private=arguments.private or None,
        revision=arguments.revision,
        commit_message=arguments.commit_message,
    )
    print(f"{given.folder} is published: {commit.commit_url}\nCheck it with: hf-lotus verify {given.repo_id}")
    return 0
