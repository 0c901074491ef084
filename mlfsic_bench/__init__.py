"""mlfsic-bench: the place where multi-label few-shot image classification is measured."""

__version__ = "0.1.0"
