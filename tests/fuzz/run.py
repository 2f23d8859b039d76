"""Fuzz for as long as is asked: `python -m tests.fuzz.run --minutes 30`. Status 1 where something was found."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.mutations import damaged, documents
from tests.fuzz.published import publish
from tests.fuzz.targets import Target, restore, targets

# Seconds that a reader may take on a shared core.
_LIMIT = 60


def fuzz(target: Target, folder: Path, number: int, examples: int, counts: Counter) -> str | None:
    """Some examples of one target; the traceback of the smallest find, None where there is none."""

    def ring(*_: object) -> None:
        raise TimeoutError("it hangs")

    signal.signal(signal.SIGALRM, ring)

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
              phases=[Phase.generate], print_blob=False)  # fmt: skip
    @seed(number)
    @given(st.data())
    def once(data):
        counts[target.name] += 1
        good = target.content(target.good)
        if isinstance(target.good, bytes) or data.draw(st.integers(0, 3)) == 0:
            content = data.draw(damaged(good))
        else:
            content = target.content(data.draw(documents(target.good)))
        signal.alarm(_LIMIT)
        try:
            if target.run(folder, content) is not None:
                counts["refused"] += 1
        finally:
            if signal.alarm(0) == 0:
                raise AssertionError(f"{target.name}: more than {_LIMIT} s for {content[:3000]!r}")

    try:
        once()
    except Exception as error:
        error = getattr(error, "exceptions", [error])[0]  # hypothesis groups several
        frames = [line for line in traceback.format_tb(error.__traceback__) if "hypothesis" not in line]
        return "".join([*frames[-6:], f"{type(error).__name__}: {str(error)[:3000]}"])
    finally:
        restore(target, folder)
    return None


def main() -> int:
    """Fuzz; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given_arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import ViTImageProcessorPil
    from transformers.utils import logging

    logging.set_verbosity(logging.CRITICAL)
    counts: Counter = Counter()
    finds: dict[tuple[str, str], str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        with contextlib.redirect_stdout(io.StringIO()):
            published = publish(root, ViTImageProcessorPil(size={"height": 16, "width": 16}))
        (root / "targets").mkdir()
        with targets(root / "targets", published) as found:
            end, number = time.monotonic() + 60 * given_arguments.minutes, given_arguments.seed
            while time.monotonic() < end:
                for target in found:
                    if time.monotonic() > end:
                        break
                    number += 1
                    trace = fuzz(target, root / "targets", number, 50, counts)
                    if trace is not None:
                        lines = trace.strip().splitlines()
                        key = target.name, lines[-1][:60]
                        if key not in finds:
                            finds[key] = trace
                            sys.stdout.write(f"FOUND in {target.name}:\n{trace}\n")
                            sys.stdout.flush()
                sys.stderr.write(f"{sum(counts.values()) - counts['refused']:,} files read, {len(finds)} finds\n")
    refused = counts.pop("refused", 0)
    sys.stdout.write(f"{sum(counts.values()):,} files read, {refused:,} refused, {len(finds)} finds, seed "
                     f"{given_arguments.seed}: {dict(counts)}\n")  # fmt: skip
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
