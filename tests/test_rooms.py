"""The rooms: imports run one way, the command line starts light, every file says what lives there."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "vgg": {"vgg"},
    "pipeline": {"pipeline", "vgg"},
    "reports": {"reports", "pipeline", "vgg"},
    "stages": {"stages", "reports", "pipeline", "vgg"},
    "cli": {"cli", "stages", "reports", "pipeline", "vgg"},
}
FILES = [path for room in MAY_IMPORT for path in sorted((ROOT / room).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """The top names of all that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    assert imported(path) & set(MAY_IMPORT) <= MAY_IMPORT[room]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_files_first_line_says_what_lives_there(path: Path) -> None:
    assert path.read_text().startswith('"""')
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_help_imports_nothing_heavy() -> None:
    heavy = ["torch", "nvidia", "pandas", "matplotlib", "pydantic", "dvc"]
    code = f"import sys, cli.main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_unpickled_as_code(path: Path) -> None:
    """torch.load takes weights only, NumPy no pickles. Nothing else reads pickles."""
    tree = ast.parse(path.read_text())
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name, options = ast.unparse(call.func), {one.arg: ast.unparse(one.value) for one in call.keywords}
        assert name != "torch.load" or options.get("weights_only") == "True"
        assert options.get("allow_pickle", "False") == "False"
        assert name not in ("pickle.load", "pickle.loads", "eval", "exec", "yaml.load", "os.system")
        assert options.get("shell", "False") == "False"
    readers = {"pickle", "cPickle", "_pickle", "joblib", "dill", "marshal", "shelve"}
    assert not imported(path) & readers
