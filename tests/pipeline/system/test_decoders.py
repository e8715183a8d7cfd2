"""The choice of the decoder: DALI where it is installed, and a clear failure where it is asked for and missing."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from pipeline.errors import Failure
from pipeline.system import decoders
from pipeline.system.decoders import DALI, PILLOW, decoder_in_use, differing, has_dali


@pytest.fixture(params=[True, False], ids=["with DALI", "without"])
def there(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Return whether DALI is installed."""
    monkeypatch.setattr(decoders, "has_dali", lambda: request.param)
    return bool(request.param)


def test_auto_is_dali_where_it_is_installed_and_pillow_is_always_pillow(there: bool) -> None:
    assert decoder_in_use("auto") == (DALI if there else PILLOW)
    assert decoder_in_use(PILLOW) == PILLOW


def test_dali_that_is_asked_for_and_missing_is_a_failure(there: bool) -> None:
    if there:
        assert decoder_in_use(DALI) == DALI
    else:
        with pytest.raises(Failure, match=r"requires DALI \(decoder: dali\), which is not installed"):
            decoder_in_use(DALI)


def test_dali_leaves_no_trace_in_an_identity_and_pillow_does(there: bool) -> None:
    assert differing("auto") == ({} if there else {"decoder": "pillow"})
    assert differing("pillow") == {"decoder": "pillow"}


@pytest.mark.parametrize("made", ["package", "folder", "nothing"])
def test_dali_is_its_package_and_no_folder_that_was_left(
    made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip leaves a folder where something else wrote a file into it, such as a cache."""
    if made != "nothing":
        (tmp_path / "nvidia" / "dali" / "__pycache__").mkdir(parents=True)
    if made == "package":
        (tmp_path / "nvidia" / "dali" / "__init__.py").write_text("raise ImportError('it is not imported')\n")
    for name in [name for name in sys.modules if name == "nvidia" or name.startswith("nvidia.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    importlib.invalidate_caches()
    assert has_dali() == (made == "package")
