"""`hf-lotus publish-metric`: create a Hub Space with one of the metrics in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from huggingface_hub import HfApi

from hf_lotus.cli.flags import flag_parser
from hf_lotus.publishing.spaces import SPACES, metric_path


@dataclass
class PublishArguments:
    """Where to publish the metric. The token is the one of `hf auth login` or the variable HF_TOKEN."""

    repo_id: str = field(metadata={"help": "The Space, as namespace/name; the name must be the metric's."})
    private: bool = field(default=False, metadata={"help": "Make the Space private, if it is created."})
    commit_message: str | None = field(default=None, metadata={"help": "Message of the commit."})


def run(argv: list[str]) -> int:
    """Create the Space if it is not there, upload the metric's folder, and say how to load it."""
    parser = flag_parser(PublishArguments, "publish-metric")
    parser.add_argument("metric", choices=SPACES, help="The metric to publish.")
    arguments, chosen = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    _publish(chosen.metric, arguments)
    return 0


def _publish(metric: str, arguments: PublishArguments) -> None:
    namespace, slash, name = arguments.repo_id.partition("/")
    if not (namespace and slash) or name != metric:
        # `evaluate.load` looks in a Space for a script of the Space's own name.
        raise ValueError(f"--repo_id must be NAMESPACE/{metric}, got {arguments.repo_id!r}: the Space has its name.")
    api = HfApi()
    url = api.create_repo(
        arguments.repo_id, repo_type="space", space_sdk="gradio", private=arguments.private or None, exist_ok=True
    )
    api.upload_folder(
        folder_path=metric_path(metric),
        repo_id=arguments.repo_id,
        repo_type="space",
        commit_message=arguments.commit_message or f"Publish {metric}",
        ignore_patterns=["__pycache__/*", "*.pyc"],
    )
    print(f"{metric} is at {url}. Load it with:\n\n    evaluate.load({arguments.repo_id!r})")
