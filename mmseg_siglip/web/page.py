"""The page: a tab for each system on the menu, made from what it asks for.

Images come and results go by routes of our own (see `mmseg_siglip.web.routes`), not by Gradio's
components for files: its image input decodes before anything is capped. A hidden text holds the
name of the upload, and ``page.js`` fills it.
"""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr

from mmseg_siglip.api import SYSTEMS
from mmseg_siglip.web.controls import Control
from mmseg_siglip.web.limits import Refusal
from mmseg_siglip.web.results import ResultFiles
from mmseg_siglip.web.service import Answered, Question, Service
from mmseg_siglip.web.views import EMPTY, view_of

TITLE = 'mmseg_siglip'
PROMPTS = {
    'words': ('Words', 'one class each, between commas', 'sky, grass, dog'),
    'phrases': ('Phrases', 'between semicolons', 'the red cup; the cup on the left'),
    'question': ('Question', 'about this image', 'What is nearest?'),
}
"""Label, explanation and example, by what a system asks for."""


def build_page(service: Service) -> gr.Blocks:
    """The page of a service's menu."""
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.HTML('<h1>mmseg_siglip</h1>')
        for task in service.menu.offers:
            with gr.Tab(task.capitalize()):
                _add_tab(service, task)
    page.queue(default_concurrency_limit=None, api_open=False)
    return page


def _add_tab(service: Service, task: str) -> None:
    asks, named = SYSTEMS[task].asks, service.menu.offers[task]
    controls = {
        control.name: control for offer in named.values() for control in offer.controls.values()
    }
    with gr.Row(elem_classes='asking'):
        with gr.Column(scale=2, min_width=320):
            gr.HTML(_picker(service, task, asks), apply_default_css=False)
            upload = gr.Textbox(elem_classes=['upload-name', task], container=False)
            text = _prompt(task, asks)
            names = list(named)
            model = gr.Dropdown(names, value=names[0], label='Model', visible=len(names) > 1)
            settings = [_setting(control) for control in controls.values()]
            button = gr.Button(task.capitalize(), variant='primary', elem_classes=['go', task])
        with gr.Column(scale=3, min_width=320):
            shown = gr.HTML(EMPTY, elem_classes=['shown', task], apply_default_css=False)

    def adjust(name: str) -> Any:
        """The settings that the chosen model has; Gradio takes a list for several alone."""
        own = service.menu.find(task, name).controls
        changes = [_adjusted(own.get(control_name)) for control_name in controls]
        return changes if len(changes) > 1 else changes[0]

    if settings:
        model.change(adjust, model, settings, **QUIET)
    button.click(
        _answerer(service, task, tuple(controls)),
        [upload, text, model, *settings],
        shown,
        trigger_mode='once',
        **PRIVATE,
    )


PRIVATE = dict(api_visibility='private')
QUIET = dict(show_progress='hidden', **PRIVATE)


def _prompt(task: str, asks: str | None) -> gr.Textbox:
    label, info, example = PROMPTS.get(asks, (str(asks).capitalize(), '', ''))
    return gr.Textbox(
        label=label,
        info=info,
        placeholder=example,
        lines=1 if asks == 'question' else 2,
        visible=asks is not None,
        elem_classes=['prompt', task],
    )


def _setting(control: Control) -> gr.Dropdown | gr.Textbox | gr.Checkbox | gr.Slider:
    if control.choices:
        return gr.Dropdown(list(control.choices), value=control.default, label=control.label)
    if isinstance(control.default, str):
        return gr.Textbox(control.default, label=control.label)
    if isinstance(control.default, bool):
        return gr.Checkbox(control.default, label=control.label)
    return gr.Slider(0, 1, value=control.default, step=0.01, label=control.label)


def _adjusted(control: Control | None) -> dict[str, Any]:
    if control is None:
        return gr.update(visible=False)
    changes = dict(choices=list(control.choices)) if control.choices else {}
    return gr.update(visible=True, value=control.default, **changes)


def _answerer(service: Service, task: str, names: tuple[str, ...]) -> Callable[..., Awaitable[str]]:
    """What a click on the button does."""

    async def answer(upload: str, text: str, model: str, *values: Any) -> str:
        def keep(answered: Answered) -> tuple[Answered, list[ResultFiles]]:
            return answered, [ResultFiles.of(result) for result in answered.results]

        try:
            own = service.menu.find(task, model).controls
            settings = {
                name: value for name, value in zip(names, values, strict=True) if name in own
            }
            image = service.find(upload or '')
            question = Question(task, text or '', model or '', settings)
            answered, files = await service.ask(question, image.data, image.name, keep)
        except Refusal as refusal:
            raise gr.Error(html.escape(str(refusal)), print_exception=False) from None
        places = {f'results/{service.results.put(each)}/': each for each in files}
        return view_of(places, answered)

    return answer


def _picker(service: Service, task: str, asks: str | None) -> str:
    """Where an image is chosen or dropped, and examples."""
    limits = service.limits
    buttons = ''.join(
        f'<button type="button" class="example" data-name="{name}" data-task="{task}" '
        f'data-prompt="{html.escape(example.prompts.get(asks, ""))}" '
        f'title="{html.escape(example.upload.name)}">'
        f'<img src="uploads/{name}.jpg" alt="{html.escape(example.upload.name)}"></button>'
        for name, example in service.examples.items()
    )
    return (
        f'<label class="picker" data-task="{task}" data-most="{limits.file_bytes}">'
        '<input type="file" accept="image/*,.heic,.heif">'
        '<img class="chosen" alt="the chosen image" hidden>'
        '<span>Choose an image, or drop one here</span>'
        f'<small>at most {limits.file_bytes / 1e6:g} MB and '
        f'{limits.pixels / 1e6:.1f} megapixels</small></label>'
        f'<div class="examples">{buttons}</div>'
    )
