"""The facts of made-up images, for the tests of tables."""

from __future__ import annotations

from pipeline.datasets.facts import Facts

FACTS = Facts(
    "digits", "digits", False, [str(i) for i in range(10)], 100, 40, 0, [0.0] * 3, [[0.0] * 3] * 3, {}, "m",
)  # fmt: skip
