"""What a command costs before it does anything: CPU seconds, user and system, of a process of its own.

python benchmarks/startup.py [--repeats 5]

CPU time and not wall time, and the least of several: other work on the machine then counts for little. Another version
is measured by another PYTHONPATH.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile

COMMANDS = {
    "hf-lotus unlearn --help": ["-m", "hf_lotus.cli.main", "unlearn", "--help"],
    "hf-lotus compare --help": ["-m", "hf_lotus.cli.main", "compare", "--help"],
    "hf-lotus verify --help": ["-m", "hf_lotus.cli.main", "verify", "--help"],
    "hf-lotus request add": ["-m", "hf_lotus.cli.main", "request", "add", "--forget_class", "cat"],
    "hf-lotus request list": ["-m", "hf_lotus.cli.main", "request", "list"],
    "import hf_lotus": ["-c", "import hf_lotus"],
    "from hf_lotus import UnlearningTrainer": ["-c", "from hf_lotus import UnlearningTrainer"],
    "(import torch, transformers.Trainer alone)": ["-c", "import torch; from transformers import Trainer"],
}


def cpu_seconds(arguments: list[str], folder: str) -> float:
    """User and system seconds of one run of this Python, in a folder."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, sys.path[1:]))  # without this folder
    print("| Command | CPU seconds |\n|:--|--:|")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, *COMMANDS["hf-lotus request add"]], cwd=folder, check=True, capture_output=True
        )
        for command, arguments in COMMANDS.items():
            print(f"| `{command}` | {min(cpu_seconds(arguments, folder) for _ in range(repeats)):.2f} |", flush=True)


if __name__ == "__main__":
    main()
