"""The rooms: imports run one way, the command line starts light, every file says what lives there."""

from __future__ import annotations

import ast
import re
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
        name, options = ast.unparse(call.func), {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if (
            (name == "torch.load" and options.get("weights_only") != "True")
            or options.get("allow_pickle", "False") != "False"
            or options.get("shell", "False") != "False"
            or name in ("pickle.load", "pickle.loads", "eval", "exec", "yaml.load", "os.system")
        ):
            yield f"line {call.lineno}: {name}"


def test_no_file_is_unpickled_as_code() -> None:
    calls_of = {str(path): [*code_runners(tree)] for path, tree in TREES.items()}
    assert {path: calls for path, calls in calls_of.items() if calls} == {}
    assert [str(path) for path, tree in TREES.items() if imported(tree) & PICKLES] == []


TRADES = {  # the folders of pipeline/, each with those that it may import besides itself, errors.py and vgg
    "system": set[str](),
    "experiment": {"system"},
    "datasets": {"system", "experiment"},
    "published": {"system", "experiment", "datasets"},
    "results": {"system", "experiment", "datasets"},
    "orchestration": {"system", "experiment", "datasets"},
    "cluster": {"system", "experiment", "datasets"},
    "doctor": {"system", "experiment", "datasets", "published", "results", "orchestration", "cluster"},
}


def trades_in(tree: ast.Module) -> set[str]:
    """Return the folders of pipeline/ that a file imports from."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("pipeline.")} & set(TRADES)


def test_the_trades_of_the_pipeline_import_one_way() -> None:
    wrong = {}
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        trade = path.relative_to(ROOT / "pipeline").parts[0]
        allowed = {trade, *TRADES.get(trade, ())}  # what lies in pipeline/ itself imports no trade
        wrong[str(path.relative_to(ROOT))] = sorted(trades_in(ast.parse(path.read_text())) - allowed)
    assert {path: trades for path, trades in wrong.items() if trades} == {}


def test_every_folder_of_the_pipeline_is_a_trade() -> None:
    folders = {path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")}
    assert folders == set(TRADES)


FILES = {
    path.relative_to(ROOT): ast.parse(path.read_text())
    for folder in (*MAY_IMPORT, "benchmarks", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def test_a_class_has_a_name_of_its_own() -> None:
    places: dict[str, list[str]] = {}
    for path, tree in FILES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(f"{path}:{node.lineno}")
    assert {name: lines for name, lines in places.items() if len(lines) > 1} == {}


def test_test_modules_share_through_support_alone() -> None:
    wrong = {}
    for path, tree in FILES.items():
        modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        wrong[str(path)] = [name for name in sorted(modules) if re.match(r"tests\.(?!support\b)", name)]
    assert {path: modules for path, modules in wrong.items() if modules} == {}
