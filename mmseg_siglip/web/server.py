"""The server: Gradio's page inside an app of ours, behind a guard."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'

import gradio as gr
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from mmseg_siglip.web.guard import LOOPBACK, Guard
from mmseg_siglip.web.label_studio import build_label_studio
from mmseg_siglip.web.limits import Limits, Refusal
from mmseg_siglip.web.menu import Menu
from mmseg_siglip.web.page import build_page
from mmseg_siglip.web.routes import build_routes
from mmseg_siglip.web.service import Service

CONNECTIONS = 128
PATIENCE = 3  # seconds that open connections have when the server ends
FONTS = ['system-ui', 'sans-serif']
CODE_FONTS = ['ui-monospace', 'monospace']
HEAD = '<link rel="stylesheet" href="web/page.css"><script defer src="web/page.js"></script>'


def create_app(
    menu: Menu,
    limits: Limits,
    *,
    hosts: Sequence[str] = LOOPBACK,
    folder: Path | None = None,
) -> FastAPI:
    """Page, HTTP API and Label Studio's protocol.

    Args:
        menu: The models.
        limits: The most of everything.
        hosts: See `Guard`.
        folder: Where Label Studio's images are, see `read_task_image`.
    """
    service = Service(menu, limits)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, limits=limits, hosts=hosts)
    app.add_exception_handler(Refusal, _refused)
    app.include_router(build_routes(service))
    app.include_router(build_label_studio(service, folder))
    page = build_page(service)
    page.state_session_capacity = limits.sessions
    gr.mount_gradio_app(
        app,
        page,
        '/',
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=0,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Base(font=FONTS, font_mono=CODE_FONTS),
        head=HEAD,
        app_kwargs=dict(docs_url=None, redoc_url=None, openapi_url=None),
    )
    app.state.service = service
    return app


async def _refused(request: Request, refusal: Refusal) -> JSONResponse:
    headers = {'Retry-After': '5'} if refusal.status == 503 else {}
    return JSONResponse(dict(error=str(refusal)), refusal.status, headers)


class Server(uvicorn.Server):
    """uvicorn's, which hands a signal that ended it to the handler that was there before.

    uvicorn raises the signal once more, which a command takes for a second one, by which it is
    ended where it stands, its temporary files left behind.
    """

    ended_by: int | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        handler = before.get(self.ended_by)
        if callable(handler):
            handler(self.ended_by, None)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.ended_by = self.ended_by or sig
        super().handle_exit(sig, frame)


def serve(menu: Menu, limits: Limits, *, host: str, port: int, folder: Path | None = None) -> None:
    """Serve until the process is told to end.

    Args:
        menu: The models.
        limits: The most of everything.
        host: The address to listen at; names other than the loopback's own are taken only where
            it is another address.
        port: Its port.
        folder: See `create_app`.
    """
    hosts = LOOPBACK if host in LOOPBACK else ()
    app = create_app(menu, limits, hosts=hosts, folder=folder)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level='warning',
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=PATIENCE,
    )
    Server(config).run()
