"""Machine unlearning for Hugging Face image classifiers: LoTUS and its measurements."""

from hf_lotus.version import __version__

__all__ = ["__version__"]
