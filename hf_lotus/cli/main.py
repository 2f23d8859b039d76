"""The `hf-lotus` command: one module of this folder per subcommand."""

from __future__ import annotations

import importlib
import sys

from hf_lotus.cli.shipped_help import shipped_parser

# name → (module, what it does). A module is imported only when its command runs, so `--help` is instant.
COMMANDS = {
    "unlearn": ("unlearn", "unlearn a forget set from an image classifier, measure, and save"),
    "compare": ("compare", "unlearn by many methods and put them into one table, beside original and retrain"),
    "pool": ("pool", "train reference models once, for audits; several processes share the work"),
    "benchmark": ("benchmark", "run a recipe: train, unlearn by every method, measure, and write a report"),
    "evaluate": ("evaluate", "measure a checkpoint that has already been unlearned, by anything"),
    "audit": ("audit", "ask by every known test whether a model still knows what it was made to forget"),
    "card": ("card", "write a model's card anew, from its record"),
    "prove": ("prove", "prove of one picture that it is in a model's record, or check such a proof"),
    "sign": ("sign", "sign all that is published of a model with a bare key, and make such a key"),
    "bom": ("bom", "write the bill of materials of a model (CycloneDX ML-BOM)"),
    "lineage": ("lineage", "list the published models that still derive from an original, by their cards"),
    "push": ("push", "publish an unlearned model on the Hub, all of it in one commit"),
    "verify": ("verify", "check a published model against its record, its card and the data"),
    "request": ("request", "keep a queue of deletion requests, and serve them: add, list, run"),
    "publish-metric": ("publish_metric", "publish RF-JSD, JSD or membership inference as a Hub Space"),
    "demo": ("demo", "the whole way on scikit-learn's digits, in a minute or two, without any download"),
}


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: hf-lotus COMMAND [options]",
            "",
            "commands:",
            *lines,
            "",
            "hf-lotus COMMAND --help lists the options.",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Run a subcommand and return its exit status.

    That is 0, or what the command says (1 for checks that fail and requests that stay open, 3 for a model that nothing
    changed); 2 after an error in what the user gave, 70 after a bug, 130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        from hf_lotus.version import __version__

        print(__version__)
        return 0
    from hf_lotus.cli.errors import guarded
    from hf_lotus.cli.terminal import escaped

    with escaped():
        return guarded(lambda: _run(argv), argv[0], say=lambda line: print(line, file=sys.stderr))


def _run(argv: list[str]) -> int:
    if argv[0] not in COMMANDS:
        from hf_lotus.utils.text import nearest

        raise ValueError(f"unknown command {argv[0]!r}. {nearest(argv[0], list(COMMANDS))}")
    if (parser := shipped_parser(argv)) is not None:
        parser.parse_args(["--help"])  # which ends as the command's own parser does
    module = importlib.import_module(f"hf_lotus.cli.{COMMANDS[argv[0]][0]}")
    if "transformers" in sys.modules:  # where it is not, there is nothing that talks
        importlib.import_module("hf_lotus.cli.terminal").quieten()
    return module.run(argv[1:])


if __name__ == "__main__":
    sys.exit(main())
