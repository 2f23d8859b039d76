"""`hf-lotus bom`: write the bill of materials of a model's folder."""

from __future__ import annotations

from dataclasses import dataclass, field

from hf_lotus.cli.flags import flag_parser
from hf_lotus.publishing.bom import write_bom


@dataclass
class BomArguments:
    """What the record does not say."""

    model_name: str | None = field(default=None, metadata={"help": "Name of the model. Default: the folder's."})


def run(argv: list[str]) -> int:
    """Write the bill; return the exit status."""
    parser = flag_parser(BomArguments, "bom")
    parser.add_argument("folder", help="Folder of the model, with weights and forget_set.json.")
    arguments, given = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    print(f"The bill of materials is in {write_bom(given.folder, arguments.model_name)}.")
    return 0
