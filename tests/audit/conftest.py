"""What the tests of the audit have in common."""

import pytest


@pytest.fixture(scope="module")
def few_deals():
    """Enough that p can be 0.025."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_lotus.audit.exchange.DEALS", 39)
        yield
