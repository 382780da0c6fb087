"""What a request sends: fields and one file, read within limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from mmseg_siglip.web.limits import Refusal
from mmseg_siglip.web.uploads import shown_name

FIELDS = 16
FIELD_BYTES = 2**16
IMAGE = 'image'


@dataclass(frozen=True)
class Form:
    """An image's file, and text by field."""

    data: bytes
    name: str
    fields: Mapping[str, str]


async def read_form(request: Request) -> Form:
    """The ``multipart/form-data`` of a request.

    Raises:
        Refusal: It is something else, or holds no image.
    """
    if not request.headers.get('content-type', '').startswith('multipart/form-data'):
        raise Refusal('expected multipart/form-data, such as curl -F image=@photo.jpg', 415)
    try:
        async with request.form(max_files=1, max_fields=FIELDS, max_part_size=FIELD_BYTES) as form:
            image = form.get(IMAGE)
            if not isinstance(image, UploadFile):
                raise Refusal('expected a file called image, such as curl -F image=@photo.jpg')
            fields = {key: value for key, value in form.items() if isinstance(value, str)}
            return Form(await image.read(), shown_name(image.filename), fields)
    except HTTPException as error:
        raise Refusal(f'the form cannot be read: {error.detail}') from None
