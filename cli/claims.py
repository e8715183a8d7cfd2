"""vgg-repro claims: did it reproduce?"""

from __future__ import annotations

from typing import Annotated

import typer

from cli.common import FromBundle, complete_profiles, in_bundle, params_in, profile_in, show


def claims(
    profile: Annotated[
        str | None, typer.Option(help="Profile to show; default: the active one.", autocompletion=complete_profiles)
    ] = None,
    bundle: FromBundle = None,
) -> None:
    """Test the paper's claims on the tables so far, and show each with its verdict.

    Example: vgg-repro claims --profile evening
    """
    from pipeline.experiment.targets import check_profile
    from reports.claims_page import claims_section
    from reports.markdown import markdown
    from reports.page_parts import difference
    from stages.claims import current

    with in_bundle(bundle) as opened:
        parameters = params_in(opened)
        name = check_profile(parameters, profile_in(opened, profile, parameters))
        show(claims_section(current(parameters, name), small=bool(difference(name))), markdown)
