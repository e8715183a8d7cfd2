"""The evaluation modes: one row each, views of the same name, and a stage of the graph."""

from __future__ import annotations

import pytest
import torch
import yaml

from pipeline.experiment.modes import MODES, runs_of, scales_of
from pipeline.experiment.validation import load
from tests.support import ROOT
from vgg.score import VIEWS

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def test_every_mode_has_views_of_an_image() -> None:
    assert list(MODES) == list(VIEWS)


@pytest.mark.parametrize("mode", MODES)
def test_a_modes_row_says_how_many_views_there_are_and_of_which_size(mode: str) -> None:
    views = list(VIEWS[mode](torch.zeros(1, 3, 40, 50), 32))
    sides = (40, 50) if MODES[mode].whole_images else (32, 32)
    assert len(views) == MODES[mode].views
    assert all(view.shape == (1, 3, *sides) for view in views)


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_is_a_stage_for_each_of_its_runs(mode: str) -> None:
    listed = "${runs}" if MODES[mode].every_run else f"${{{mode}}}"
    assert STAGES[mode]["foreach"] == listed
    assert STAGES[mode]["do"]["cmd"].startswith(f"vgg-repro stage score {mode} ")


def test_only_the_centre_crop_is_scored_at_one_scale_whatever_the_run() -> None:
    params = load(ROOT / "params.yaml")
    assert set(runs_of(params, "dense")) == set(params.runs)
    run = params.runs["D-384"]
    assert [scales_of(run, mode) for mode in MODES] == [(352, 384, 416), (352, 384, 416), (256,)]
    assert [scales_of(run, mode, single=True) for mode in MODES] == [(384,), (384,), (256,)]
