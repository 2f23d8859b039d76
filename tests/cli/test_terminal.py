"""What is seen in a terminal."""

import logging

from hf_lotus.cli.terminal import quieten
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
