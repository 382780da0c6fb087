"""Label Studio's labelling config: which image is labelled, by which tag, with which labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

from mmseg_siglip.web.limits import Refusal

KINDS = {'brushlabels': 'brushlabels', 'polygonlabels': 'polygonlabels'}
LETTERS = 2**16


@dataclass(frozen=True)
class LabelTag:
    """A tag that labels an image.

    Attributes:
        kind: ``brushlabels`` or ``polygonlabels``.
        name: The tag's own.
        image: The name of the image's tag.
        field: The key of the image in a task's data.
        labels: What it offers.
    """

    kind: str
    name: str
    image: str
    field: str
    labels: tuple[str, ...]


@dataclass
class _Tag:
    kind: str
    attributes: dict[str, str]
    labels: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    """Reads tags alone: no entity, declaration or address of a document counts."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.images: dict[str, str] = {}
        self.tags: list[_Tag] = []
        self.open: _Tag | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {key: value or '' for key, value in attributes}
        if tag == 'image':
            self.images[given.get('name', '')] = given.get('value', '').removeprefix('$')
        elif tag in KINDS:
            self.open = _Tag(KINDS[tag], given)
            self.tags.append(self.open)
        elif tag == 'label' and self.open is not None:
            self.open.labels.append(given.get('value', ''))

    def handle_endtag(self, tag: str) -> None:
        if tag in KINDS:
            self.open = None


def read_label_config(text: object) -> LabelTag:
    """The first tag of a config that labels regions of an image.

    Raises:
        Refusal: There is none, or it has no labels or no image.
    """
    if not isinstance(text, str) or len(text) > LETTERS:
        raise Refusal(f'label_config: expected text of at most {LETTERS} characters')
    reader = _Reader()
    reader.feed(text)
    for tag in reader.tags:
        name, image = (tag.attributes.get(key, '') for key in ('name', 'toname'))
        labels = tuple(label for label in tag.labels if label.strip())
        if name and image in reader.images and labels:
            return LabelTag(tag.kind, name, image, reader.images[image], labels)
    raise Refusal(
        'label_config: expected BrushLabels or PolygonLabels with labels, on an Image, found none'
    )
