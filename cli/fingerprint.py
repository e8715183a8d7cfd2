"""vgg-repro fingerprint: DVC's look at the source, no command for people."""

from __future__ import annotations

from cli.common import params


def fingerprint() -> None:
    """Write what the source of images looks like now (used by DVC)."""
    from stages.fingerprint import main

    main(params())
