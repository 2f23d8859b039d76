"""`hf-lotus lineage`: which published models still derive from an original."""

from __future__ import annotations

import argparse

from hf_lotus.publishing.lineage import derived_models


def run(argv: list[str]) -> int:
    """List them; return the exit status."""
    parser = argparse.ArgumentParser(prog="hf-lotus lineage", allow_abbrev=False)
    parser.add_argument("repo_id", help="The original model on the Hub, as namespace/name.")
    repo_id = parser.parse_args(argv).repo_id
    models = derived_models(repo_id)
    for model in models:
        commit = f" at {model.commit[:7]}" if model.commit else ""
        mark = ", unlearned by its card" if model.unlearned else ""
        line = f"{'  ' * (model.depth - 1)}{model.id}{commit}: {model.relation or 'derived'} of {model.base}{mark}"
        print("".join(c if c.isprintable() else "\ufffd" for c in line))
    knowing = sum(not model.unlearned for model in models)
    print(f"\n{len(models)} published models say that they derive from {repo_id}.")
    print(f"{knowing} of them do not say that they were made to forget anything.")
    print("Only models whose cards name their base, and that your token may see, are found.")
    return 0
