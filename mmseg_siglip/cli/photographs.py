"""Any system over photographs and folders: answers, pictures and JSON, image by image."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from mmseg_siglip.cli.image_arguments import ImageAt, images_of, output_places, refuse_among
from mmseg_siglip.io.failures import Failure
from mmseg_siglip.io.files import write_atomically, write_image
from mmseg_siglip.io.image_folder import passed_over
from mmseg_siglip.io.outcomes import outcomes, raise_others

if TYPE_CHECKING:
    from mmseg_siglip.api import Result, System

Answered = Any  # a result, or a list of them where several phrases are asked for


def answer(
    args: argparse.Namespace,
    build: Callable[[], System],
    prompt: Any = None,
    *,
    done: str,
    batch_size: int = 1,
    options: Callable[[Sequence[ImageAt]], dict[str, Any]] = lambda paths: {},
    tell: Callable[[ImageAt, Answered], None] = lambda path, result: None,
    save: Callable[[Result, Path], None] = lambda result, path: result.save(path),
) -> None:
    """Ask a system about every image; what fails for one image does not stop the others.

    For an image NAME, ``--out`` gets what `Result.save` writes, ``NAME.picture.png`` and
    ``NAME.json``; of several results, each has its number.

    Args:
        args: With ``images``, ``frame`` and ``out``, of which the last two may be None.
        build: Makes the system, once images and output folder are known to be usable.
        prompt: What the system asks for.
        done: A word for what has been done to an image.
        batch_size: Images at a time.
        options: Further arguments of the system's call for some images.
        tell: Called with each image and what was found in it.
        save: Writes a result to a path that ends in its ``suffix``.

    Raises:
        ValueError: Nothing could be done at all; or, after all others were done, some images could
            not be used.
    """
    found = images_of(args.images)
    images = list(dict.fromkeys(path for each in found.values() for path in each.images))
    failures = [failure for each in found.values() for failure in each.failures]
    others = [path for each in found.values() for path in each.others]
    places = {}
    if args.out is not None:
        refuse_among(args.out, args.images)
        places = output_places(found)
    if not images:
        raise ValueError('; '.join(map(str, failures)))
    system = build()
    prompt = system.check_prompt(prompt)
    if others:
        print(passed_over(others), file=sys.stderr)

    def ask(paths: Sequence[ImageAt]) -> Sequence[Answered]:
        return system(opened(paths, args.frame), prompt, **options(paths))

    broken: list[Failure] = []
    quiet = len(images) == 1 or args.out is None
    with tqdm(total=len(images), desc='images', disable=quiet) as bar:
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            for path, result in outcomes(ask, batch):
                try:
                    if isinstance(result, Exception):
                        raise result
                    tell(path, result)
                    if args.out is not None:
                        keep(result, args.out / places[path], save)
                except Exception as error:
                    raise_others(error)
                    broken.append(Failure.of(path, error))
                bar.update()
    answered = len(images) - len(broken)
    failures += broken
    if args.out is not None and answered:
        print(f'{answered} of {answered + len(failures)} images {done} into {args.out}')
    if not answered and len(failures) > 1 and len({failure.reason for failure in failures}) == 1:
        raise ValueError(failures[0].reason)
    if failures:
        named = '; '.join(map(str, failures))
        raise ValueError(f'{len(failures)} images could not be read: {named}')


def opened(paths: Sequence[ImageAt], frame: int | None) -> Sequence[Any]:
    """What a system takes: the paths, or that frame of each."""
    if frame is None:
        return paths
    from mmseg_siglip.io.image import read_image

    return [read_image(path, frame=frame) for path in paths]


def answers_so_far(args: argparse.Namespace) -> str:
    if args.out is None:
        return 'the answers above are all; the same command begins anew'
    return f'what is done is in {args.out}; the same command begins anew'


def keep(found: Answered, target: Path, save: Callable[[Result, Path], None]) -> None:
    """Write what was found, beside each other: data, picture, JSON."""
    target.parent.mkdir(parents=True, exist_ok=True)
    results = found if isinstance(found, list) else [found]
    for number, result in enumerate(results, 1):
        name = f'{target.name}.{number}' if isinstance(found, list) else target.name
        save(result, target.with_name(f'{name}.{result.suffix}'))
        write_image(result.plot(), target.with_name(f'{name}.picture.png'))
        text = json.dumps(result.to_dict(), ensure_ascii=False)
        write_atomically(text + '\n', target.with_name(f'{name}.json'))
