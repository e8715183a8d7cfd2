"""vgg-repro prepare: the data set."""

from __future__ import annotations

from cli.common import Direct, in_stage, params, repro, through_dvc


def prepare(direct: Direct = False) -> None:
    """Decode and rescale the source's images into shards, and measure their mean RGB and colours.

    Example: vgg-repro prepare
    """
    chosen = params()

    def work() -> None:
        from stages.prepare import main

        main(chosen)

    through_dvc("prepare", direct, work)
    if not (direct or in_stage()):
        _make_missing_shards()


def _make_missing_shards() -> None:
    """Make the shards again where DVC, which does not track them, thinks all is done: on another machine, say."""
    from pipeline.paths import shards_root
    from pipeline.prepare import is_whole, shards_key

    if not is_whole(shards_root() / shards_key(params())):
        repro("--force", "--single-item", "prepare")
