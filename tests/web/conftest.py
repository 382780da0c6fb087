"""A server of the model that ships along, asked inside this process."""

from __future__ import annotations

import pytest


@pytest.fixture(scope='session')
def shapes_offer():
    from mmseg_siglip.api import OpenVocabSegmenter
    from mmseg_siglip.web.menu import Offer

    system = OpenVocabSegmenter.from_pretrained(
        'tiny_siglip_shapes', device='cpu', precision='fp32', templates='plain'
    )
    return Offer('shapes', system)


@pytest.fixture(scope='session')
def media(tmp_path_factory):
    """The folder of Label Studio's images."""
    return tmp_path_factory.mktemp('media')


@pytest.fixture(scope='session')
def client(shapes_offer, media):
    pytest.importorskip('gradio')
    from fastapi.testclient import TestClient

    from mmseg_siglip.web.limits import Limits
    from mmseg_siglip.web.menu import Menu
    from mmseg_siglip.web.server import create_app

    app = create_app(Menu([shapes_offer]), Limits(), folder=media)
    with TestClient(app, base_url='http://localhost', raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope='session')
def scene() -> bytes:
    """The file of an example: grass and brick, a ring and other shapes."""
    from mmseg_siglip.web.examples import draw_example

    return draw_example(0).upload.data
