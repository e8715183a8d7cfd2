"""The facts of a prepared data set."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.datasets.facts import Facts


def test_the_colours_standard_deviation_is_that_of_the_pixels(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (1000, 3))
    values = {"source": "", "about": "", "comparable": False, "classes": [], "train": 1, "val": 0, "rescaled": 0,
              "stored": {}, "manifest": ""}  # fmt: skip
    covariance = np.cov(pixels, rowvar=False, bias=True).tolist()
    facts = Facts(**values, mean_rgb=pixels.mean(0).tolist(), covariance=covariance)
    assert facts.std_rgb == pytest.approx(pixels.std(0).tolist())
    assert Facts(**values, mean_rgb=[], covariance=[]).std_rgb == []
