"""The rooms: imports run one way, the command line starts light, every file says what lives there."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "vgg": {"vgg"},
    "pipeline": {"pipeline", "vgg"},
    "reports": {"reports", "pipeline", "vgg"},
    "stages": {"stages", "reports", "pipeline", "vgg"},
    "cli": {"cli", "stages", "reports", "pipeline", "vgg"},
}
TREES = {
    path.relative_to(ROOT): ast.parse(path.read_text())
    for room in MAY_IMPORT
    for path in sorted((ROOT / room).rglob("*.py"))
}
PICKLES = {"pickle", "cPickle", "_pickle", "joblib", "dill", "marshal", "shelve"}


def imported(tree: ast.Module) -> set[str]:
    """Return the top names of all that a file imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def test_imports_run_one_way() -> None:
    wrong = {str(path): imported(tree) & set(MAY_IMPORT) - MAY_IMPORT[path.parts[0]] for path, tree in TREES.items()}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_a_files_first_line_says_what_lives_there() -> None:
    first = {path: (ROOT / path).read_text()[:3] for path in TREES}
    assert [str(path) for path, tree in TREES.items() if first[path] != '"""' or not ast.get_docstring(tree)] == []


def test_help_imports_nothing_heavy() -> None:
    heavy = ["torch", "nvidia", "pandas", "matplotlib", "pydantic", "dvc"]
    code = f"import sys, cli.main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def code_runners(tree: ast.Module) -> Iterator[str]:
    """Yield the calls that may run what they read: torch.load of more than weights, pickles, shells."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name, options = ast.unparse(call.func), {one.arg: ast.unparse(one.value) for one in call.keywords}
        if (
            (name == "torch.load" and options.get("weights_only") != "True")
            or options.get("allow_pickle", "False") != "False"
            or options.get("shell", "False") != "False"
            or name in ("pickle.load", "pickle.loads", "eval", "exec", "yaml.load", "os.system")
        ):
            yield f"line {call.lineno}: {name}"


def test_no_file_is_unpickled_as_code() -> None:
    found = {str(path): [*code_runners(tree)] for path, tree in TREES.items()}
    assert {path: calls for path, calls in found.items() if calls} == {}
    assert [str(path) for path, tree in TREES.items() if imported(tree) & PICKLES] == []
