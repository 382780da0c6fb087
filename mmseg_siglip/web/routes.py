"""The HTTP API, and what the page loads: uploads, examples, results."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from mmseg_siglip.web.forms import read_form
from mmseg_siglip.web.limits import Refusal
from mmseg_siglip.web.results import png
from mmseg_siglip.web.service import Answered, Question, Service

HERE = Path(__file__).parent
ASSETS = ('page.js', 'page.css')
TYPES = {
    '.png': 'image/png',
    '.jpg': 'image/jpeg',
    '.json': 'application/json',
    '.txt': 'text/plain; charset=utf-8',
    '.npy': 'application/octet-stream',
}
FORMATS_OF_ANSWERS = ('json', 'png')
SECONDS = 'X-Seconds'


def build_routes(service: Service) -> APIRouter:
    """Routes beside Gradio's."""
    routes = APIRouter()

    @routes.get('/api')
    async def describe() -> JSONResponse:
        limits = service.limits
        kept = dict(file_bytes=limits.file_bytes, pixels=limits.pixels, words=limits.words)
        return JSONResponse(dict(systems=service.menu.describe(), limits=kept))

    @routes.post('/api/{task}')
    async def answer(task: str, request: Request) -> Response:
        form = await read_form(request)
        fields = dict(form.fields)
        kind = fields.pop('format', 'json')
        if kind not in FORMATS_OF_ANSWERS:
            raise Refusal(f'format: expected json or png, found {kind!r}')
        asks = service.menu.find(task).system.asks
        text = fields.pop(asks, '') if asks else ''
        question = Question(task, text, fields.pop('model', ''), fields)

        def respond(answered: Answered) -> Response:
            headers = {SECONDS: f'{answered.seconds:.3f}'}
            results = answered.results
            if kind == 'json':
                found = [result.to_dict() for result in results]
                return JSONResponse(found if asks == 'phrases' else found[0], headers=headers)
            if len(results) > 1:
                raise Refusal(f'format: expected one phrase for png, found {len(results)}')
            return Response(png(results[0].plot()), media_type='image/png', headers=headers)

        return await service.ask(question, form.data, form.name, respond)

    @routes.post('/uploads')
    async def upload(request: Request) -> JSONResponse:
        form = await read_form(request)
        name, kept = await service.keep(form.data, form.name)
        return JSONResponse(dict(name=name, size=kept.size, preview=f'uploads/{name}.jpg'))

    @routes.get('/uploads/{name}.jpg')
    async def preview(name: str) -> Response:
        return Response(service.find(name).preview, media_type='image/jpeg')

    @routes.get('/results/{name}/{file}')
    async def result_file(name: str, file: str) -> Response:
        files = service.results.get(name).files
        if file not in files:
            raise Refusal(f'expected one of {", ".join(files)}, found {file!r}', 404)
        return Response(files[file], media_type=TYPES[Path(file).suffix])

    @routes.get('/web/{file}')
    async def asset(file: str) -> FileResponse:
        if file not in ASSETS:
            raise Refusal(f'expected one of {", ".join(ASSETS)}, found {file!r}', 404)
        return FileResponse(HERE / file)

    return routes
