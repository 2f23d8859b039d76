"""`hf-lotus card`: write a model's card anew from its record, or from its results where there is no record."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from hf_lotus.cli.flags import flag_parser
from hf_lotus.evaluation.metrics import ORIGINAL
from hf_lotus.evaluation.results import UnlearningResult, is_control_row
from hf_lotus.publishing.folder_checks import RESULTS
from hf_lotus.publishing.manifest import changed_files
from hf_lotus.publishing.model_card import CARD, write_model_card, write_recorded_card
from hf_lotus.publishing.record import RECORD, ForgetSetRecord


@dataclass
class CardArguments:
    """What the card's header has beside what is recorded."""

    language: str | None = field(default=None, metadata={"help": "Language of the data."})
    license: str | None = field(default=None, metadata={"help": "License of the model. Default: the base model's."})
    tags: list[str] | None = field(default=None, metadata={"nargs": "+", "help": "Further tags."})
    model_name: str | None = field(default=None, metadata={"help": "Name of the model. Default: the folder's."})


def run(argv: list[str]) -> int:
    """Write the card; return the exit status."""
    parser = flag_parser(CardArguments, "card")
    parser.add_argument("folder", help="Folder of the model, with forget_set.json or results.json.")
    arguments, given = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    folder = Path(given.folder)
    if (folder / RECORD).is_file():
        record = ForgetSetRecord.from_json(folder / RECORD)
        if wrong := changed_files(folder, record.files):
            raise ValueError(f"{', '.join(wrong)} in {folder}, by its {RECORD}: a card would tell of another model.")
        if record.format_version > 1:
            told = {key: value for key, value in vars(arguments).items() if value is not None}
            if told:  # the card is what the record makes, so the record has to know
                replace(record, card={**record.card, **told}).to_json(folder / RECORD)
            write_recorded_card(folder)
            print(f"The card is in {folder / CARD}." + (f" It changed {RECORD} too: sign both anew." if told else ""))
            return 0
        result, name = record.result, str((record.results or record.method).get("name", "unlearned"))
    elif (folder / RESULTS).is_file():
        record, result = None, UnlearningResult.from_json(folder / RESULTS)
        name = next((row.name for row in result.models if not is_control_row(row.name)), ORIGINAL)
    else:
        raise ValueError(f"{folder} has neither {RECORD} nor {RESULTS} to write a card from.")
    write_model_card(folder, result, name, record, **vars(arguments))
    print(f"The card is in {folder / CARD}.")
    return 0
