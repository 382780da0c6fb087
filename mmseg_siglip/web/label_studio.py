"""Label Studio's protocol of machine-learning backends, over the systems that make masks.

https://labelstud.io/guide/ml_create: ``GET /health``, ``POST /setup`` and ``POST /predict``. Labels
are the words of ``segment``, or else the phrases of ``refer``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

import mmseg_siglip
from mmseg_siglip.api import Referred, Result, Segmentation
from mmseg_siglip.web.brush import encode_brush
from mmseg_siglip.web.label_config import LabelTag, read_label_config
from mmseg_siglip.web.limits import Refusal
from mmseg_siglip.web.service import Answered, Question, Service
from mmseg_siglip.web.task_images import read_task_image

TASKS = ('segment', 'refer')
LEAST_AREA = 16  # pixels of a polygon
TOLERANCE = 1.0  # pixels between a polygon and the rim of its mask


def build_label_studio(service: Service, folder: Path | None) -> APIRouter:
    """The three routes.

    Args:
        service: What answers.
        folder: See `read_task_image`.
    """
    routes = APIRouter()

    def version() -> str:
        return f'mmseg_siglip {mmseg_siglip.__version__} {masking_task(service)}'

    @routes.get('/health')
    async def health() -> JSONResponse:
        return JSONResponse(dict(status='UP', model_class='mmseg_siglip'))

    @routes.post('/setup')
    async def setup(request: Request) -> JSONResponse:
        body = await read_object(request)
        read_label_config(body.get('schema') or body.get('label_config'))
        return JSONResponse(dict(model_version=version()))

    @routes.post('/predict')
    async def predict(request: Request) -> JSONResponse:
        body = await read_object(request)
        tag = read_label_config(body.get('label_config'))
        tasks = body.get('tasks')
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise Refusal('tasks: expected a list of objects')
        if len(tasks) > service.limits.tasks:
            raise Refusal(
                f'tasks: expected at most {service.limits.tasks}, found {len(tasks)}', 413
            )
        question = Question(masking_task(service), tag.labels)

        def regions(answered: Answered) -> list[dict[str, Any]]:
            return [region for result in answered.results for region in label_regions(result, tag)]

        predictions = []
        for task in tasks:
            data = task.get('data')
            address = data.get(tag.field) if isinstance(data, dict) else None
            image = read_task_image(address, folder, service.limits)
            found = await service.ask(question, *image, regions)
            scores = [region['score'] for region in found]
            score = sum(scores) / len(scores) if scores else 0.0
            predictions.append(dict(model_version=version(), score=score, result=found))
        return JSONResponse(dict(results=predictions, model_version=version()))

    return routes


def masking_task(service: Service) -> str:
    """Raises: Refusal: Nothing on the menu makes masks."""
    for task in TASKS:
        if task in service.menu.offers:
            return task
    raise Refusal('expected a model of segment or refer on this server, found none', 404)


async def read_object(request: Request) -> dict[str, Any]:
    """Raises: Refusal: The body is no JSON object."""
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Refusal('expected a JSON object')
    return body


def masks_of(result: Result, labels: tuple[str, ...]) -> Iterator[tuple[np.ndarray, str, float]]:
    """Mask (H, W) bool, label as the config has it, and score."""
    if isinstance(result, Referred) and result.mask.any():
        yield result.mask, result.text, float(result.score)
    if isinstance(result, Segmentation):
        for index in result.found:
            mask = result.labels == index
            yield mask, labels[index], float(result.scores[mask].mean())


def label_regions(result: Result, tag: LabelTag) -> list[dict[str, Any]]:
    """Regions as Label Studio keeps them."""
    height, width = result.image.shape[:2]
    common = dict(
        from_name=tag.name,
        to_name=tag.image,
        type=tag.kind,
        original_width=width,
        original_height=height,
        image_rotation=0,
    )
    return [
        dict(common, value=value | {tag.kind: [label]}, score=score)
        for mask, label, score in masks_of(result, tag.labels)
        for value in region_values(mask, tag.kind)
    ]


def region_values(mask: np.ndarray, kind: str) -> list[dict[str, Any]]:
    """A mask as one brush, or as a polygon for each of its parts (holes are filled), in percent."""
    if kind == 'brushlabels':
        return [dict(format='rle', rle=encode_brush(mask))]
    size = np.array(mask.shape[::-1])
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    parts = [part for part in found if cv2.contourArea(part) >= LEAST_AREA]
    polygons = [cv2.approxPolyDP(part, TOLERANCE, True)[:, 0] for part in parts]
    return [
        dict(points=(100 * (polygon + 0.5) / size).tolist(), closed=True)
        for polygon in polygons
        if len(polygon) > 2
    ]
