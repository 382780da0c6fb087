"""What page, HTTP API and Label Studio share: one way to ask, and what is kept meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mmseg_siglip.api import Result
from mmseg_siglip.io.cache import cache_folder
from mmseg_siglip.web.examples import Example, draw_examples
from mmseg_siglip.web.limits import WRONG, Limits, Refusal
from mmseg_siglip.web.menu import Menu
from mmseg_siglip.web.prompts import check_amount, typed_prompt
from mmseg_siglip.web.results import ResultFiles
from mmseg_siglip.web.shelf import Shelf
from mmseg_siglip.web.uploads import Upload, decode_upload, take_upload
from mmseg_siglip.web.waiting_room import WaitingRoom

CACHE_BYTES = 64_000_000
LOG = logging.getLogger(__name__)

T = TypeVar('T')


@dataclass(frozen=True)
class Question:
    """What a visitor wants to know.

    Attributes:
        task: A key of `SYSTEMS`.
        given: Words, phrases or a question; see `typed_prompt`.
        model: A name on the menu; the first of the task if empty.
        settings: See `Control`.
    """

    task: str
    given: str | Sequence[str] = ''
    model: str = ''
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answered:
    """What came out.

    Attributes:
        results: One, or one for each phrase.
        model: What answered.
        seconds: How long it took, the decoding of the image included.
    """

    results: list[Result]
    model: str
    seconds: float


class Service:
    """Answers for visitors, one at a time.

    Args:
        menu: The models.
        limits: The most of everything.
    """

    def __init__(self, menu: Menu, limits: Limits) -> None:
        self.menu, self.limits = menu, limits
        self.turns, self.decoding = WaitingRoom(limits.waiting), WaitingRoom(4 * limits.waiting)
        self.uploads: Shelf[Upload] = Shelf(limits)
        self.results: Shelf[ResultFiles] = Shelf(limits)
        self.examples: dict[str, Example] = draw_examples()

    async def keep(self, data: bytes, name: str) -> tuple[str, Upload]:
        """An image that can be asked about from now on, and its name on the shelf.

        Raises:
            Refusal: See `decode_upload`.
        """
        upload = await self.decoding(take_upload, data, name, self.limits)
        return self.uploads.put(upload), upload

    def find(self, name: str) -> Upload:
        """An upload or an example. Raises: Refusal: It is not there."""
        if name in self.examples:
            return self.examples[name].upload
        if not name:
            raise Refusal('expected an image, found none')
        return self.uploads.get(name)

    async def ask(
        self, question: Question, data: bytes, name: str, make: Callable[[Answered], T]
    ) -> T:
        """What `make` makes of the answer for an image's file, within the same turn.

        Raises:
            Refusal: Anything that a visitor could do better, or that went wrong here.
        """
        offer = self.menu.find(question.task, question.model)
        prompt = typed_prompt(offer.system.asks, question.given, self.limits)
        for setting, value in question.settings.items():
            check_amount(setting, [str(value)], self.limits)

        def answer() -> T:
            start = time.perf_counter()
            rgb = decode_upload(data, name, self.limits)
            results = offer(rgb, prompt, question.settings)
            return make(Answered(results, offer.name, time.perf_counter() - start))

        return await self.turns(self._guarded, answer)

    def _guarded(self, answer: Callable[[], T]) -> T:
        try:
            return answer()
        except Refusal:
            raise
        except ValueError as error:
            raise Refusal(' '.join(str(error).split())) from None
        except Exception:
            LOG.exception('a request failed')
            raise Refusal(WRONG, 500) from None
        finally:
            trim(cache_folder('text_bank'), CACHE_BYTES)


def trim(folder: Path, most: int) -> None:
    """Remove the oldest files of a folder until `most` bytes are left."""
    if not folder.is_dir():
        return
    files = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime)
    size = sum(file.stat().st_size for file in files)
    for file in files:
        if size <= most:
            return
        size -= file.stat().st_size
        file.unlink()
