"""Building the site: `::: hf_lotus.Name` in a page is replaced by where the name is defined.

The package loads its public names when they are first used, which a reader of the source alone cannot follow.
"""

import importlib
import re


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by mkdocs with the text of each page."""

    def where(found: re.Match) -> str:
        package = importlib.import_module(f"hf_lotus{found[1] or ''}")
        defined = getattr(package, found[2])
        return f"::: {defined.__module__}.{defined.__qualname__}"

    return re.sub(r"^::: hf_lotus(\.audit)?\.(\w+)$", where, markdown, flags=re.M)
