"""The rows of a comparison: methods with their fields, and training arguments of their own."""

from __future__ import annotations

import types
from collections.abc import Mapping

from transformers import HfArgumentParser

from hf_lotus.methods import UnlearningMethod
from hf_lotus.methods.options import INNER, MethodFlags
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.utils.text import nearest


def read_entry(label: str, options: Mapping[str, object]) -> tuple[UnlearningMethod, dict[str, object]]:
    """A method of a recipe: its fields, and training arguments of its own.

    Args:
        label: the entry's name; the method's too unless `method` names it.
        options: name → value, as in the file.

    Returns:
        the method, and training argument → value.

    Raises:
        ValueError: for a name that is neither a field of the method nor a training argument.
    """
    options = dict(options or {})
    flags = MethodFlags(str(options.pop("method", label)), options.pop(INNER, None))
    parser = HfArgumentParser([flags.dataclass, UnlearningArguments], allow_abbrev=False)
    actions = {action.dest: action for action in parser._actions if action.dest != "help"}
    argv = []
    for name, value in options.items():
        if name not in actions:
            raise ValueError(f"{label} has the option {name!r}, which does not exist. {nearest(name, list(actions))}")
        values = value if isinstance(value, (list, tuple)) else [value]
        argv += [f"--{name}", *map(str, values)]
    values = vars(parser.parse_args(argv))
    method = flags.build(types.SimpleNamespace(**values))
    return method, {name: values[name] for name in options if name not in {*flags.own, *flags.within}}
