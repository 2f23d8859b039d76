"""Building the site: `::: hf_lotus.Name` in a page is replaced by where the name is defined.

The package loads its public names when they are first used, which a reader of the source alone cannot follow.
"""

import re

import hf_lotus


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by mkdocs with the text of each page."""

    def where(found: re.Match) -> str:
        defined = getattr(hf_lotus, found[1])
        return f"::: {defined.__module__}.{defined.__qualname__}"

    return re.sub(r"^::: hf_lotus\.(\w+)$", where, markdown, flags=re.M)
