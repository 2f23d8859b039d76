"""What an exception says to a person at a terminal: one line, and an exit status.

Our own errors say by themselves what was given, what is allowed and what to do. What the libraries beneath raise is
told by the table here, by the names of their classes, so that nothing is imported to tell it. Whatever else comes
through is a bug of ours, and says so.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from hf_lotus.utils.text import one_line

# What the user gave, or the machine it ran on, does not do (as argparse has it); a bug (as BSD's sysexits.h has it);
# and as shells have it after the signals SIGINT and SIGPIPE.
BAD_INPUT, BUG, INTERRUPTED, UNREAD = 2, 70, 130, 141

DEBUG = "HF_LOTUS_DEBUG"

# Numbers of an `OSError` → what to do about it.
_DISK = {
    errno.ENOSPC: "The disk is full. Make room and run the command again; nothing that was whole before was touched",
    errno.EDQUOT: "The disk's quota is used up. Make room and run the command again",
    errno.EROFS: "It is on a file system that takes no changes. Write elsewhere",
    errno.EACCES: "You may not read or write there. Take another folder, or have its owner allow it",
    errno.EMFILE: "Too many files are open. Raise `ulimit -n`, or lower dataloader_num_workers",
    errno.ENAMETOOLONG: "The name is longer than the file system allows. Take a shorter one",
}
# Classes of libraries, by module and name, or of Python → what to do about it.
_ADVICE = {
    "torch.OutOfMemoryError": "The device's memory is full. Lower per_device_train_batch_size and batch sizes of "
    "evaluation, or raise gradient_accumulation_steps in return",
    "MemoryError": "The memory is full. Lower the batch sizes, or take a part of the data",
    "RecursionError": "A file is nested too deeply to be one of ours. Look at the files that you gave",
    "UnicodeDecodeError": "A file that should be text is not. Give one in UTF-8",
    "safetensors._safetensors_rust.SafetensorError": "A weights file is not whole. Copy or download it again",
    "PIL.Image.DecompressionBombError": "A picture says that it is larger than any picture should be. Take it out of "
    "the data set, or scale it down",
    "PIL.UnidentifiedImageError": "A file is no picture. Take it out of the data set",
    "ImportError": "A package that this needs is not installed here. Install it",
    "httpx.HTTPError": "The connection to the Hub broke, or what answered was not the Hub. Try again; behind a login "
    "page or a proxy, pass that first. HF_HUB_OFFLINE=1 takes what was downloaded before",
    "json.decoder.JSONDecodeError": "What should be JSON is not. If it came over the network, a login page or a proxy "
    "may have answered instead",
}
# Their own words are enough; a `KeyError` says a name and no more.
_TOLD = ("ValueError", "FloatingPointError", "OSError", "EOFError")


def report(error: BaseException, command: str) -> tuple[str, int]:
    """The line to print on the error stream, "" for none, and the exit status.

    Args:
        error: what came through.
        command: the command, as it was called.
    """
    if isinstance(error, KeyboardInterrupt):
        return f"hf-lotus {command}: interrupted.", INTERRUPTED
    if isinstance(error, BrokenPipeError) and error.filename is None:
        return "", UNREAD  # `hf-lotus … | head`: whoever read has gone
    told, known = _known(error)
    if known:
        return f"hf-lotus {command}: {told}", BAD_INPUT
    said = one_line(f"{type(error).__name__}: {error}")
    return f"hf-lotus {command}: {said} (This is a bug of hf-lotus: {DEBUG}=1 shows where.)", BUG


def _known(error: BaseException) -> tuple[str, bool]:
    """What is said of an error, and whether it is one that a user can do something about."""
    said = one_line(error) or type(error).__name__
    if isinstance(error, OSError) and error.errno in _DISK:
        where = f"{one_line(error.filename)}: " if error.filename else ""
        return f"{where}{_ended(os.strerror(error.errno))} {_DISK[error.errno]}.", True
    names = [f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.") for kind in type(error).__mro__]
    for name in names:
        if name in _ADVICE:
            return f"{_ended(said)} {_ADVICE[name]}.", True
    return said, any(name in _TOLD for name in names)


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def guarded(run: Callable[[], int], command: str, say: Callable[[str], object]) -> int:
    """What `run` returns; where it raises, the line is said, and its status returned.

    With HF_LOTUS_DEBUG set, whatever is raised goes through.

    Args:
        run: the command.
        command: what to call it.
        say: prints a line on the error stream.
    """
    try:
        return run()
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get(DEBUG):
            raise
        line, status = report(error, command)
        if line:
            say(line)
        return status
