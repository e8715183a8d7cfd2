"""The report: an index, a page a table, and the pictures, rendered from JSON and CSV alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.errors import Failure
from pipeline.files import write_text
from pipeline.grid import TITLES
from pipeline.paths import facts, results, table
from pipeline.progress import duration
from reports.charts import MADE_BY, curves_chart, depth_chart, shallow_chart
from reports.markdown import grid, heading, interval, number, published_text, table_text, title

NO_DATA = ("table1", "table2")  # of the nets alone
PICTURES = ("depth.png", "curves.png", "shallow.png")
PAGES = (*(f"{name}.md" for name in TITLES), "training.md", *PICTURES)
FOOT = "\n[All tables](README.md)\n"  # ends every page but the index
WARNING = "> **These numbers are not comparable with the paper's.** {reason}.\n"
SPEEDS = (("images_per_second", 0), ("waited", 1))  # of a run, and their digits
FULL = ("paper", "published")  # profiles whose nets, sizes and images are the paper's
DIFFERENCES = {
    "mini": "on other images, with smaller nets and a shorter schedule",
    "imagenette": "on ten classes of its images, with a shorter schedule",
}


def render(profile: str, out: Path) -> list[Path]:
    """Write every page and picture of `profile` that its results allow under `out`/`profile`; their paths.

    Failure if there are no results at all.
    """
    results_here = Results(profile)
    if not results_here.tables and not results_here.summaries and results_here.others:
        raise Failure(f"all results of profile {profile} are of other images than those prepared now: dvc repro")
    if not results_here.tables and not results_here.summaries:
        raise Failure(f"there are no results of profile {profile} yet; make some with: dvc repro table1")
    folder = out / profile
    written = [*_tables(results_here, folder), *_training(results_here, folder)]
    written.insert(0, _page(folder / "README.md", _index(results_here, folder)))
    for path in (folder / name for name in PAGES):
        if path not in written and _is_ours(path):  # of other images
            path.unlink()
    return [path for path in written if path.suffix == ".md"]


def _is_ours(path: Path) -> bool:
    """Return whether a page or picture is there and was written by this program, not by its reader."""
    if not path.is_file():
        return False
    content = path.read_bytes()
    return content.endswith(FOOT.encode()) if path.suffix == ".md" else f"Software\0{MADE_BY}".encode() in content


class Results:
    """Everything on disk that is known of a profile and was made from the images that are prepared now."""

    def __init__(self, profile: str) -> None:
        self.profile = profile
        self.facts = _json(facts(profile))
        self.others: list[str] = []  # tables, runs and scores of other images
        folder = results(profile)
        self.tables = self._of_these({name: table(profile, name) for name in TITLES}, "manifest")
        self.summaries = self._of_these({path.stem: path for path in sorted((folder / "runs").glob("*.json"))}, "data")
        scores = self._of_these({path.stem: path for path in sorted((folder / "scores").glob("*.json"))}, "data")
        self.scores = list(scores.values())
        histories = ((run, folder / "runs" / f"{run}.csv") for run in self.summaries)
        self.histories = {run: pd.read_csv(path) for run, path in histories if path.exists()}

    def _of_these(self, paths: dict[str, Path], key: str) -> dict[str, Any]:
        """The JSON at those `paths` that have it, without what its `key` says is of other images."""
        found = {name: values for name, path in paths.items() if (values := _json(path))}
        these = self.facts["manifest"] if self.facts else "nothing is prepared"
        others = [name for name, one in found.items() if name not in NO_DATA and these != one.get(key)]
        self.others += others
        return {name: values for name, values in found.items() if name not in others}


def _json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def _tables(found: Results, folder: Path) -> Iterator[Path]:
    for name, values in found.tables.items():
        picture = ""
        if name == "shallow" and all(row["ours"] for row in values["rows"]):
            shallow_chart(values, folder / "shallow.png")
            yield folder / "shallow.png"
            picture = "\n![B and the shallow net at the centre crop](shallow.png)\n"
        body = table_text(values).split("\n\n", 1)[1]
        text = f"# {title(name)}\n\n{_warning(found, name)}\n{body}\n{picture}{FOOT}"
        yield _page(folder / f"{name}.md", text)
    if {"table3", "table4"} <= set(found.tables):
        depth_chart(found.tables["table3"], found.tables["table4"], folder / "depth.png")
        yield folder / "depth.png"


def _training(found: Results, folder: Path) -> Iterator[Path]:
    if not found.summaries:
        return
    rows = []
    for run, one in found.summaries.items():
        crop, source = one["centre_crop"], one["provenance"]
        best = {"error": crop["top1"], "low": crop["top1_low"], "high": crop["top1_high"]}
        scale = one["scale"]
        scale = f"{scale[0]} to {scale[1]}" if isinstance(scale, list) else str(scale)
        cells = [run, scale, one["init"], str(one["epochs"]), str(one["drops"]), f"{one['loss']:.2f}", interval(best)]
        speed = [f"{source[key]:.{digits}f}" if key in source else "–" for key, digits in SPEEDS]
        rows.append([*cells, *speed, duration(source["seconds"])])
    headings = ["run", "S", "from", "epochs", "drops", "loss", "centre-crop top-1 error, %"]
    headings += ["images/s", "waited, %", "time"]
    text = f"# Training\n\n{_warning(found)}\n{grid(headings, rows, right=(3, 4, 5, 7, 8, 9))}\n"
    text += (
        "\nThe centre crop is taken at the run's own Q: S, or the middle of a jittered S. "
        "The loss is the last epoch's mean on training crops. Images a second and the share of the time that the net "
        "waited for images are the epochs' medians.\n"
    )
    if found.histories:
        curves_chart(found.histories, folder / "curves.png")
        yield folder / "curves.png"
        text += "\n![Learning curves; dotted: the learning rate fell by a factor of ten](curves.png)\n"
        text += "\nDotted lines: the learning rate fell by a factor of ten.\n"
    yield _page(folder / "training.md", text + FOOT)


def _index(found: Results, folder: Path) -> str:
    parts = [f"# Very Deep Convolutional Networks, reproduced: profile `{found.profile}`", _warning(found).rstrip()]
    links = [f"- [{heading(name)}]({name}.md): {TITLES[name]}" for name in found.tables]
    if found.summaries:
        links.append("- [Training](training.md): every run, its error and its learning curve")
    if (data := folder / "data.md").exists() and found.facts and found.facts["manifest"][:16] in data.read_text():
        crops = ", sizes and colours, and training crops" if found.facts["train"] else " and sizes"
        links.append(f"- [Data](data.md): the images, their classes{crops}")
    parts.append("\n".join(links))
    if found.others:
        parts.append(
            f"Not shown, because made from other images than those prepared now: {_summed_up(found.others)}. "
            "`dvc repro` makes them anew."
        )
    if {"table3", "table4"} <= set(found.tables):
        parts.append("## Depth and scale\n\n![Error against depth, the paper's and ours](depth.png)")
        parts.append(
            "Open circles: net C, as deep as D with 1x1 filters where D has 3x3. Training at one S is S = 256; "
            "jittered S is drawn from [256, 512]."
        )
    parts += [
        table_text(found.tables[name]) for name in ("table3", "table4", "table5", "table6") if name in found.tables
    ]
    parts.append(_provenance(found))
    return "\n\n".join(parts) + "\n"


def _summed_up(names: list[str]) -> str:
    """Tables by their names, runs and scores by their number: Table 3, Table 4 and 12 runs and scores."""
    tables = [heading(name) for name in names if name in TITLES]
    rest = len(names) - len(tables)
    return " and ".join([", ".join(tables)] * bool(tables) + [f"{rest} runs and scores"] * bool(rest))


def _provenance(found: Results) -> str:
    sources = [one["provenance"] for one in [*found.summaries.values(), *found.scores] if one]
    rows = [["profile", found.profile]]
    if found.facts:
        rows.append(["data", found.facts["about"]])
        training = f"{found.facts['train']:,} training, " if found.facts["train"] else ""
        counts = f"{training}{found.facts['val']:,} validation"
        rows += [
            ["images", f"{counts}, {len(found.facts['classes'])} classes"],
            ["manifest", f"`{found.facts['manifest'][:16]}`"],
        ]
        if found.facts["mean_rgb"]:
            rows.append(["mean RGB", ", ".join(number(level) for level in found.facts["mean_rgb"])])
    published = {one["run"]: one["published"] for one in found.scores if "published" in one}
    rows += [[f"published weights, {run}", published_text(record)] for run, record in sorted(published.items())]
    seeds = {str(one["seed"]) for one in found.summaries.values()}
    rows.append(["seed", ", ".join(sorted(seeds)) or "–"])
    for what, group in (("training", found.summaries.values()), ("scoring", found.scores)):
        found_in = sorted({one["precision"] for one in group if "precision" in one})
        rows.append([f"precision, {what}", ", ".join(found_in) or "–"])
    for key in ("commit", "python", "machine", "device", "processes", "threads"):
        rows.append([key, ", ".join(sorted({str(source[key]) for source in sources if key in source})) or "–"])
    versions = {f"{name} {number}" for source in sources for name, number in source["versions"].items()}
    rows.append(["versions", ", ".join(sorted(versions)) or "–"])
    seconds = [sum(one["provenance"]["seconds"] for one in group) for group in (found.summaries.values(), found.scores)]
    if any(seconds):
        times = [f"{what} {duration(one)}" for what, one in zip(("training", "scoring"), seconds, strict=True) if one]
        rows.append(["time", f"{', '.join(times)}, added up over the runs"])
    return "## Where these numbers come from\n\n" + grid(["", ""], [row for row in rows if row[1] != "–"])


def _warning(found: Results, name: str = "") -> str:
    if name in NO_DATA or (found.profile in FULL and (not found.facts or found.facts["comparable"])):
        return ""
    difference = DIFFERENCES.get(found.profile, "not with its images, sizes and schedule together")
    reason = f"The profile `{found.profile}` runs the paper's method {difference}"
    if found.profile in FULL:
        reason = f"The images: {found.facts['about']}"
    return WARNING.format(reason=reason)


def _page(path: Path, text: str) -> Path:
    write_text(path, text)
    return path
