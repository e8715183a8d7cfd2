"""The file of a bundle: written whole, the same bytes for the same contents, and refused if anything is wrong."""

from __future__ import annotations

import json
import os
import signal
import stat
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import Failure, UsageError
from pipeline.results.bundle_file import LIST, SCHEMA, Content, Packed, opened_bundle, write_bundle

HEAD = {"profile": "mini", "outdated": {"table3": "table3: method.table: 1, now 2"}}
FILES: dict[str, Content] = {
    "params.yaml": b"profile: mini\n",
    "reports/mini/table3.json": b'{"rows": [' + b"1, " * 500 + b"1]}",
    "reports/mini/ranks/table3.npz": bytes(range(256)) * 8,
    "scores/dense-A-256.npz": b"posteriors" * 100,
}
METADATA = "ro-crate-metadata.json"
Entries = dict[str, bytes]


def described(packed: Mapping[str, Packed]) -> bytes:
    """Return metadata of the packed files."""
    return json.dumps(sorted(packed)).encode()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A small bundle."""
    path = tmp_path / "results.zip"
    write_bundle(path, FILES, HEAD, described)
    return path


def rewritten(path: Path, edit: Callable[[Entries], Any], listed: Callable[[Any], Any] | None = None) -> Path:
    """Write the bundle again with other files, and with another list if `listed` edits it."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    if listed:
        values = json.loads(entries[LIST])
        listed(values)
        entries[LIST] = json.dumps(values).encode()
    edit(entries)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def refused(path: Path, message: str, kind: type[Failure] = Failure) -> None:
    """Check that a bundle is refused with a message that names it."""
    with pytest.raises(kind, match=message) as failure, opened_bundle(path):
        pass
    assert str(path) in str(failure.value)


def test_what_was_packed_is_unpacked_but_the_posteriors(bundle: Path) -> None:
    with opened_bundle(bundle) as opened:
        found = {path.relative_to(opened.root).as_posix() for path in opened.root.rglob("*") if path.is_file()}
        assert found == {*FILES, METADATA} - {"scores/dense-A-256.npz"}
        assert (opened.root / "reports/mini/table3.json").read_bytes() == FILES["reports/mini/table3.json"]
        assert (opened.profile, opened.outdated) == ("mini", HEAD["outdated"])
    assert not opened.root.exists()


def test_equal_contents_give_equal_bytes(bundle: Path, tmp_path: Path) -> None:
    files: dict[str, Content] = {}
    for number, (name, content) in enumerate(reversed(FILES.items())):
        files[name] = tmp_path / str(number)
        files[name].write_bytes(content)  # type: ignore[union-attr, arg-type]
        os.utime(files[name], (number, number))  # type: ignore[arg-type]
    write_bundle(tmp_path / "again.zip", files, HEAD, described)
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


def test_the_zip_says_nothing_of_when_and_by_whom(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {stat.S_IMODE(info.external_attr >> 16) for info in archive.infolist()} == {0o644}
        assert archive.testzip() is None


def test_a_large_file_is_streamed_and_needs_zip64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1 << 20)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    write_bundle(tmp_path / "large.zip", {"scores/dense-A-256.npz": large}, HEAD, described)
    with opened_bundle(tmp_path / "large.zip"):
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20
    with zipfile.ZipFile(tmp_path / "large.zip") as archive:
        assert archive.infolist()[0].extract_version == zipfile.ZIP64_VERSION


def test_a_process_that_is_killed_while_it_writes_leaves_no_bundle(tmp_path: Path) -> None:
    path, old = tmp_path / "results.zip", tmp_path / "old.zip"
    old.write_text("an older file")
    for target in (path, old):
        if not (child := os.fork()):
            write_bundle(target, FILES, HEAD, lambda _: os.kill(os.getpid(), signal.SIGKILL) or b"")  # type: ignore[func-returns-value]
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
    assert not path.exists() and old.read_text() == "an older file"


def test_a_file_that_cannot_be_read_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"absent\.json could not be read: No such file"):
        write_bundle(tmp_path / "results.zip", {"a.json": tmp_path / "absent.json"}, HEAD, described)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_bundle_is_refused(share: float, bundle: Path) -> None:
    content = bundle.read_bytes()
    bundle.write_bytes(content[: int(share * len(content))])
    refused(bundle, "is damaged or no bundle: .* Download or copy it again")


@pytest.mark.parametrize("name", [*FILES, METADATA, LIST])
def test_a_flipped_byte_in_any_file_is_found(name: str, bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        info = archive.getinfo(name)
        start = info.header_offset + 30 + len(name)
    content = bytearray(bundle.read_bytes())
    content[start + info.compress_size // 2] ^= 1
    bundle.write_bytes(content)
    refused(bundle, f"is damaged or no bundle: {name} cannot be read")


def test_another_content_with_a_right_checksum_is_found_by_its_hash(bundle: Path) -> None:
    changed = bytes(FILES["params.yaml"]).replace(b"mini", b"tiny")  # type: ignore[arg-type]
    rewritten(bundle, lambda entries: entries.update({"params.yaml": changed}))
    refused(bundle, f"params.yaml is not the file that {LIST} lists")


def test_a_missing_and_an_unlisted_file_are_named(bundle: Path) -> None:
    content = bundle.read_bytes()
    rewritten(bundle, lambda entries: entries.pop("reports/mini/table3.json"))
    refused(bundle, "reports/mini/table3.json is missing")
    bundle.write_bytes(content)
    rewritten(bundle, lambda entries: entries.update({"reports/mini/more.json": b"1"}))
    refused(bundle, f"reports/mini/more.json is not in {LIST}")


@pytest.mark.parametrize(
    "name",
    ["../out.json", "/out.json", "reports/../../out.json", "C:/out.json", "a\\..\\out.json", "./a.json", "a//b.json"],
)
def test_a_name_that_leads_out_of_the_bundle_is_refused(name: str, bundle: Path, tmp_path: Path) -> None:
    listed = {"size": 1, "sha256": "0"}
    rewritten(
        bundle, lambda entries: entries.update({name: b"1"}), lambda values: values["files"].update({name: listed})
    )
    refused(bundle, "is no name of a file inside the bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["results.zip"]


def test_a_link_is_refused(bundle: Path) -> None:
    with zipfile.ZipFile(bundle, "a") as archive:
        info = zipfile.ZipInfo("reports/link.json")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    refused(bundle, "reports/link.json' is no name of a file inside")


@pytest.mark.parametrize("name", ["run.py", "weights.pt", "values.pkl", "reports/"])
def test_only_kinds_of_data_are_taken(name: str, bundle: Path) -> None:
    rewritten(bundle, lambda entries: entries.update({name: b""}))
    refused(
        bundle, "no name of a file inside" if name.endswith("/") else f"{name} is of a kind that bundles do not have"
    )


def test_a_file_that_is_there_twice_is_refused(bundle: Path) -> None:
    with zipfile.ZipFile(bundle, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("params.yaml", b"profile: mini\n")
    refused(bundle, "params.yaml is there twice")


def test_a_file_that_unpacks_to_more_than_the_list_says_is_refused_before_it_is_unpacked(bundle: Path) -> None:
    rewritten(bundle, lambda entries: entries.update({"params.yaml": bytes(50 << 20)}))
    assert bundle.stat().st_size < 1 << 20
    refused(bundle, rf"params\.yaml has 14 bytes in {LIST} and 52,428,800 in the zip")


def test_more_than_the_disk_holds_is_refused_before_it_is_unpacked(bundle: Path) -> None:
    def huge(values: Any) -> None:
        values["files"]["huge.json"] = {"size": 1 << 60, "sha256": "0"}

    rewritten(bundle, lambda entries: entries.update({"huge.json": b"1"}), huge)
    refused(bundle, "huge.json has 1,152,921,504,606,846,976 bytes in")


def test_a_full_disk_is_named_with_what_is_needed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    refused(bundle, "kB to unpack and .* has 0 kB free. Free some, or set TMPDIR")


def test_a_bundle_of_a_newer_version_is_refused_by_its_version(bundle: Path) -> None:
    newer = {"schema": SCHEMA + 1, "program": "vgg-repro 9.0", "other": 1}
    rewritten(bundle, lambda entries: None, lambda values: values.update(newer))
    refused(bundle, rf"newer program \(vgg-repro 9.0, bundle version {SCHEMA + 1}\).* Update vgg-repro")


@pytest.mark.parametrize(
    "edit",
    [
        lambda values: values.pop("files"),
        lambda values: values.update(files=[]),
        lambda values: values.pop("profile"),
        lambda values: values.update(outdated=None),
        lambda values: values["files"]["params.yaml"].update(size=-1),
        lambda values: values["files"]["params.yaml"].pop("sha256"),
        lambda values: values.pop("schema"),
    ],
)
def test_a_list_that_lacks_something_is_refused(edit: Callable[[Any], Any], bundle: Path) -> None:
    rewritten(bundle, lambda entries: None, edit)
    refused(bundle, LIST)


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_broken_list_is_refused(text: bytes, bundle: Path) -> None:
    rewritten(bundle, lambda entries: entries.update({LIST: text}))
    refused(bundle, f"{LIST} cannot be read")


def test_what_is_no_bundle_is_refused_by_what_it_is(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder, not a bundle", UsageError)
    refused(tmp_path / "absent.zip", "there is no file .*absent.zip; make a bundle with: vgg-repro bundle", UsageError)
    (tmp_path / "text.zip").write_text("a page that says: not found")
    refused(tmp_path / "text.zip", "is damaged or no bundle: it is no complete zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("photo.jpg", b"")
    refused(tmp_path / "other.zip", "is a zip, but no bundle of vgg-repro")
