"""Pages from templates: nothing that a name holds becomes markup, and what a template names must be there."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def rendered(template: str, **values: Any) -> str:
    """A template of `hf_lotus/reporting/templates`, filled in."""
    environment = Environment(
        loader=PackageLoader("hf_lotus.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
