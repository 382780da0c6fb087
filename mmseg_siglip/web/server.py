"""The server: Gradio's page inside an app of ours, behind a guard."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

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
    gr.mount_gradio_app(
        app,
        build_page(service),
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
    uvicorn.run(app, host=host, port=port, log_level='warning', limit_concurrency=CONNECTIONS)
