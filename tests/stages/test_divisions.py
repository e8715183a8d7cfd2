"""Sets of other data that have too few examples of a class: said at their preparation, and before their features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cli.main import app
from pipeline.datasets.readers.base import WHOLE, Examples
from pipeline.errors import Failure
from pipeline.experiment.other_sets import set_row
from pipeline.experiment.params import Params
from pipeline.experiment.validation import load
from stages import features as describe
from stages.divisions import divisions
from tests.support.images import repository_params
from tests.support.other_archives import unpack, voc
from tests.support.training import in_copy_of

CLASSES = ["cat", "dog", "horse"]


def of(source: str, folder: Path) -> Params:
    repository_params(folder)
    params = load(folder / "params-0.yaml")
    return params.model_copy(update={"datasets": {source: set_row(source, None)}})


def examples(classes: list[int], **subsets: list[int]) -> Examples:
    """Whole images of one class each; `subsets` has the numbers of each set's examples."""
    labels = np.full((len(classes), len(CLASSES)), -1, np.int8)
    labels[np.arange(len(classes)), classes] = 1
    whole = np.full(len(classes), WHOLE)
    masks = {name: np.isin(np.arange(len(classes)), numbers) for name, numbers in subsets.items()}
    return Examples(CLASSES, np.arange(len(classes)), whole, labels, masks, 0, whole)


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ({"train": [0, 1], "val": [3, 4, 5], "test": [6, 7, 8]}, "no example to train on of horse$"),
        ({"train": [0, 1, 2], "val": [3], "test": [6, 7, 8]}, "no example to choose C on of dog, horse$"),
        ({"train": [0, 1, 2], "val": [3, 4, 5], "test": [7, 8]}, "no example to test of cat$"),
        ({"train": [], "val": [3, 4, 5], "test": [7, 8]}, "no example to train on$"),
    ],
)
def test_the_class_and_the_part_are_named(sets: dict[str, list[int]], said: str, tmp_path: Path) -> None:
    with pytest.raises(Failure, match=f"^voc2007 has {said}"):
        divisions(of("voc2007", tmp_path), "voc2007", examples([0, 1, 2] * 3, **sets))


def test_a_class_that_all_examples_have_is_named(tmp_path: Path) -> None:
    found = examples([0, 1, 2] * 3, train=[0, 1, 2], val=[3, 4, 5], test=[6, 7, 8])
    found.labels[:, 1] = 1
    with pytest.raises(Failure, match=r"^voc2007 has no example to train on that is not of dog$"):
        divisions(of("voc2007", tmp_path), "voc2007", found)


def test_random_splits_need_more_examples_than_they_train_on(tmp_path: Path) -> None:
    params = of("caltech101", tmp_path)
    with pytest.raises(Failure, match=r"needs 30 examples of each class to train on, .* fewer of cat, horse$"):
        divisions(params, "caltech101", examples([0] * 30 + [1] * 31 + [2]))
    assert len(divisions(params, "caltech101", examples([0] * 31 + [1] * 31 + [2] * 40))) == 3


def test_it_is_said_at_the_preparation_and_before_the_features(
    describing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_copy_of(describing, tmp_path, monkeypatch)
    labels = {
        name: {f"{first + number:06d}": [1 if number % 2 == column % 2 else -1 for column in range(20)]
               for number in range(3)}
        for name, first in (("train", 0), ("val", 10), ("test", 20))
    }  # fmt: skip
    labels["val"] = {id: [-1, *row[1:]] for id, row in labels["val"].items()}
    app(
        ["prepare", "voc2007", "--path", str(unpack(voc(2007, labels), tmp_path / "given")), "--direct"],
        standalone_mode=False,
    )
    reason = "voc2007 has no example to choose C on of aeroplane"
    assert f"It cannot be classified as it is: {reason}\n" in capsys.readouterr().out
    with pytest.raises(Failure, match=reason):
        describe.main(load(), "voc2007", "D-jitter")
