"""What is seen in a terminal."""

import io
import logging
import sys

import pytest

from hf_lotus.cli.terminal import escaped, quieten
from hf_lotus.utils.text import markdown_table
from tests.conftest import TINY_MODELS


def test_bars_of_moments_and_lines_that_tell_nothing_are_left_out(tmp_path, capfd):
    from transformers import AutoModelForImageClassification
    from transformers.utils import logging as transformers_logging

    quieten()
    quieten()
    try:
        TINY_MODELS["resnet"]().save_pretrained(tmp_path)
        AutoModelForImageClassification.from_pretrained(tmp_path)
        assert "it/s" not in capfd.readouterr().err
        handlers = [handler for handler in logging.getLogger("transformers").handlers if handler.filters]
        assert handlers and all(len(handler.filters) == 1 for handler in handlers)
        lines = ["mtime may not be reliable on this filesystem, falling back", "The weights are another model's."]
        records = [logging.LogRecord("transformers", logging.WARNING, "", 1, line, None, None) for line in lines]
        for handler in handlers:
            assert [bool(handler.filter(record)) for record in records] == [False, True]
    finally:
        transformers_logging.enable_progress_bar()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_table_is_folded_for_a_terminal_and_whole_in_a_file(is_terminal, monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: is_terminal
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout", stream)
    table = markdown_table(["Model", *map(str, range(10))], [["lotus", *["0.5"] * 10]])
    with escaped():
        sys.stdout.write(f"\n{table}\n\nThat is all.\n")
    text = stream.getvalue()
    assert text.endswith("\n\nThat is all.\n")
    if is_terminal:
        assert max(map(len, text.split("\n"))) <= 40 and text.count("lotus") == 2
    else:
        assert table in text
