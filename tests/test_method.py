"""A change of the method's code asks for a decision: raise the step's number in params.yaml, or stamp it as harmless.

`python tests/test_method.py --stamp` writes tests/method.json anew.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
STAMPS = Path(__file__).parent / "method.json"
DECODING = ["vgg/draws.py", "vgg/images.py"]
SCORING = [
    *DECODING,
    "vgg/nets.py",
    "vgg/normalise.py",
    "vgg/score.py",
    "vgg/errors.py",
    "pipeline/experiment/modes.py",
    "pipeline/experiment/paper_tables.py",
    "pipeline/experiment/targets.py",
]
SCORING = [*SCORING, "vgg/distributed.py", "vgg/gpu.py", "stages/common.py"]
TRAINING = ["stages/random.py", "stages/tasks.py", "stages/trainer.py"]
BOXES = ["vgg/boxes.py", "vgg/localise.py", "vgg/merging.py", "pipeline/results/localisation.py", "stages/boxes.py"]
TRANSFER = ["vgg/descriptors.py", "vgg/measures.py", "vgg/splits.py", "vgg/svm.py"]
TRANSFER += ["pipeline/experiment/other_sets.py", "pipeline/results/other_sets.py"]
TRANSFER += ["stages/features.py", "stages/other_set.py", "stages/regions.py", "stages/svm.py", "stages/divisions.py"]
TRANSFER += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "pipeline" / "datasets" / "readers").rglob("*.py"))
BOXES += ["stages/centre_boxes.py", "stages/threshold.py", "stages/truth.py", "stages/windows.py"]
PREPARING = [
    "pipeline/datasets/prepare.py",
    "pipeline/datasets/dataset_key.py",
    "pipeline/datasets/shard_worker.py",
    "pipeline/datasets/shards.py",
    "pipeline/datasets/image_file.py",
]
PREPARING = [*PREPARING, "pipeline/datasets/colour_stats.py", "pipeline/datasets/manifest.py"]
PREPARING += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "pipeline" / "datasets" / "sources").rglob("*.py"))
PUBLISHED = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "pipeline" / "published").glob("*.py")
    if path.name != "agreement.py"
)
STEPS = {
    "prepare": [*DECODING, *PREPARING],
    "published": [*PUBLISHED, "stages/imported.py"],
    "train": [*SCORING, "vgg/initialise.py", "vgg/stream.py", "vgg/fit.py", *TRAINING],
    "score": [*SCORING, "stages/score.py"],
    "localise": BOXES,
    "transfer": TRANSFER,
    "table": [
        "vgg/errors.py",
        "pipeline/experiment/modes.py",
        "pipeline/experiment/paper_tables.py",
        "pipeline/experiment/targets.py",
        "pipeline/results/tables.py",
        "pipeline/results/scores.py",
        "pipeline/results/resampled.py",
        "vgg/resampling.py",
        "pipeline/results/illustrations.py",
        "stages/illustrations.py",
        "stages/images.py",
        "vgg/maps.py",
        "vgg/receptive.py",
    ],
}


def meaning(node: object) -> object:
    """A syntax tree as plain values, without comments, layout, docstrings and what only some Pythons have."""
    if isinstance(node, list):
        return [meaning(child) for child in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: value for name, value in ast.iter_fields(node) if value not in (None, [])}
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
        fields["body"] = fields["body"][1:]
    return [type(node).__name__, {name: meaning(value) for name, value in fields.items() if name != "kind"}]


def stamp(step: str) -> str:
    """The hash of a step's code."""
    trees = [meaning(ast.parse((ROOT / path).read_text())) for path in STEPS[step]]
    return hashlib.sha256(json.dumps(trees, sort_keys=True).encode()).hexdigest()


def stamps() -> dict[str, dict[str, object]]:
    """Every step's number in params.yaml and the hash of its code."""
    numbers = yaml.safe_load((ROOT / "params.yaml").read_text())["method"]
    return {step: {"number": numbers[step], "code": stamp(step)} for step in STEPS}


@pytest.mark.parametrize("step", STEPS)
def test_a_change_of_the_method_was_decided_upon(step: str) -> None:
    kept, now = json.loads(STAMPS.read_text())[step], stamps()[step]
    assert kept == now, (
        f"the code of `{step}` has changed. If its results change, raise method.{step} in params.yaml; then, or if "
        "they do not, write the new stamp: python tests/test_method.py --stamp"
    )


def test_comments_and_layout_change_no_stamp_and_code_does() -> None:
    before = meaning(ast.parse('def f(x):\n    "a word"\n    return x + 1\n'))
    assert meaning(ast.parse("# why\ndef f( x ):\n    return (x+1)  # because\n")) == before
    assert meaning(ast.parse("def f(x):\n    return x + 2\n")) != before


if __name__ == "__main__" and "--stamp" in sys.argv:
    STAMPS.write_text(json.dumps(stamps(), indent=1) + "\n")
