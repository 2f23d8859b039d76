"""Tables that fit a screen."""

import pytest

from hf_lotus.utils.text import fold_tables, markdown_table

ROWS = [["lotus", "0.5", "0.9", "0.7"], ["a \\| b", "1", "2", "3"]]
TABLE = markdown_table(["Model", "Forget", "Retain", "Test"], ROWS)


def test_a_wide_table_becomes_several_with_the_first_column_each():
    folded = """\
before

| Model  | Forget | Retain |
|--------|-------:|-------:|
| lotus  |    0.5 |    0.9 |
| a \\| b |      1 |      2 |

| Model  | Test |
|--------|-----:|
| lotus  |  0.7 |
| a \\| b |    3 |

after"""
    assert fold_tables(f"before\n\n{TABLE}\n\nafter", 30) == folded


@pytest.mark.parametrize("width", range(1, 50))
def test_no_line_is_wider_than_asked_but_for_a_single_column(width):
    lines = fold_tables(TABLE, width).split("\n")
    assert max(map(len, lines)) <= max(width, len("| Model  | Forget |"))
    headings = [cell for line in lines if "Model" in line for cell in line.strip("|").split("|")[1:]]
    assert [heading.strip() for heading in headings] == ["Forget", "Retain", "Test"]


def test_what_fits_or_is_no_table_stays_as_it_is():
    for text in (TABLE, "| a line that begins so\n| and another that is no ruler " + "x" * 90, "x" * 200, ""):
        assert fold_tables(text, len(TABLE.split("\n")[0])) == text
    alone = markdown_table(["Only one column, and wide"], [["a"]])
    assert fold_tables(alone, 10) == alone
