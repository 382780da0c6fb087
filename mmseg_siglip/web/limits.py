"""What visitors may ask for, and the sentence that says no."""

from __future__ import annotations

from dataclasses import dataclass, replace

MEGAPIXEL = 2**20
WRONG = 'something went wrong on the server; its log says what'


class Refusal(ValueError):
    """One sentence for a visitor.

    Args:
        sentence: What was expected, and what was found.
        status: HTTP's number for it.
    """

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """The most of everything.

    Attributes:
        file_bytes: Of an image's file.
        pixels: Of an image.
        words: Classes or phrases of one request.
        letters: Characters of one request's words, phrases or question.
        waiting: Requests that wait for the one that is computed.
        tasks: Images of one request of Label Studio.
        kept_bytes: Uploads and results that are kept, the newest.
        kept_seconds: How long they are kept.
        body_seconds: How long a request may take to arrive.
        sessions: Open pages that Gradio remembers, the newest, at some 80 kB each.
    """

    file_bytes: int = 10_000_000
    pixels: int = 4 * MEGAPIXEL
    words: int = 64
    letters: int = 4000
    waiting: int = 8
    tasks: int = 8
    kept_bytes: int = 256_000_000
    kept_seconds: float = 900
    body_seconds: float = 30
    sessions: int = 256

    @property
    def body_bytes(self) -> int:
        """Of a request: an image in base64, and what is written around it."""
        return self.file_bytes * 3 // 2

    @classmethod
    def on(cls, device_type: str) -> Limits:
        """Those of a device: a GPU takes four times the pixels."""
        limits = cls()
        return limits if device_type == 'cpu' else replace(limits, pixels=4 * limits.pixels)
