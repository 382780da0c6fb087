"""Where the configs of this package are."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent


def config_folder() -> Path:
    """The configs of this checkout, or those inside an installed package."""
    checkout = PACKAGE.parent / 'configs'
    return checkout if checkout.is_dir() else PACKAGE / '.mim' / 'configs'
