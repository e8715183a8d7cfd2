"""Pretend that this Python has no DALI: `PYTHONPATH=tests/elsewhere` does so in it and in all of its children."""

import sys

sys.modules["nvidia.dali"] = None  # type: ignore[assignment]  # an import raises ModuleNotFoundError
