"""How the server hands on the signal that ends it, and what it remembers of visitors."""

import signal

import pytest

pytest.importorskip('gradio')

import uvicorn

from mmseg_siglip.web.limits import Limits
from mmseg_siglip.web.menu import Menu
from mmseg_siglip.web.server import Server, create_app


@pytest.fixture
def server():
    return Server(uvicorn.Config(lambda *_: None))


@pytest.fixture
def handled(monkeypatch):
    """Signals that reach the handler from before, which none is raised for a second time."""
    found = []
    before = signal.signal(signal.SIGINT, lambda number, frame: found.append(number))
    raised = signal.raise_signal
    yield found, raised, monkeypatch
    signal.signal(signal.SIGINT, before)


def test_a_signal_is_handed_on_once(server, handled):
    found, raised, monkeypatch = handled
    with server.capture_signals():
        raised(signal.SIGINT)
        monkeypatch.setattr(signal, 'raise_signal', lambda number: pytest.fail('raised again'))
        assert server.should_exit and not found
    assert found == [signal.SIGINT]
    raised(signal.SIGINT)
    assert found == [signal.SIGINT] * 2


def test_without_a_signal_none_is_handed_on(server, handled):
    found, _, _ = handled
    with server.capture_signals():
        pass
    assert found == [] and not server.should_exit


def test_the_second_ctrl_c_waits_for_nobody(server, handled):
    _, raised, _ = handled
    with server.capture_signals():
        raised(signal.SIGINT)
        raised(signal.SIGINT)
        assert server.force_exit


def test_a_page_that_is_opened_again_and_again_takes_no_more_memory(shapes_offer):
    app = create_app(Menu([shapes_offer]), Limits(sessions=3))
    (page,) = (route.app for route in app.routes if hasattr(route, 'app') and route.path == '')
    for visitor in range(10):
        page.state_holder[str(visitor)]
    assert list(page.state_holder.session_data) == ['7', '8', '9']
