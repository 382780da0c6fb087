"""Any system over photographs and folders: answers, pictures and JSON, image by image."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from mmseg_siglip.cli.common import refuse_inside
from mmseg_siglip.io.image_source import find_images

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
    options: Callable[[Sequence[Path]], dict[str, Any]] = lambda paths: {},
    tell: Callable[[Path, Answered], None] = lambda path, result: None,
    save: Callable[[Result, Path], None] = lambda result, path: result.save(path),
) -> None:
    """Ask a system about every image; what fails for one image does not stop the others.

    For an image NAME, ``--out`` gets what `Result.save` writes, ``NAME.picture.png`` and
    ``NAME.json``; of several results, each has its number.

    Args:
        args: With ``images`` and ``out``, which may be None.
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
    images = list(dict.fromkeys(path for given in args.images for path in find_images(given)))
    places = {}
    if args.out is not None:
        refuse_inside(args.out, args.images)
        places = output_places(args.images)
    system = build()
    prompt = system.check_prompt(prompt)
    broken: dict[Path, str] = {}
    quiet = len(images) == 1 or args.out is None
    with tqdm(total=len(images), desc='images', disable=quiet) as bar:
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            for path, found in outcomes(system, batch, prompt, options):
                try:
                    if isinstance(found, ValueError):
                        raise found
                    tell(path, found)
                    if args.out is not None:
                        keep(found, args.out / places[path], save)
                except ValueError as error:
                    broken[path] = str(error)
                bar.update()
    if args.out is not None and len(broken) < len(images):
        print(f'{len(images) - len(broken)} of {len(images)} images {done} into {args.out}')
    if broken and len(broken) == len(images) and len(set(broken.values())) == 1:
        raise ValueError(next(iter(broken.values())))
    if broken:
        named = [text if str(path) in text else f'{path}: {text}' for path, text in broken.items()]
        raise ValueError(f'{len(broken)} images could not be read: {"; ".join(named)}')


def answers_so_far(args: argparse.Namespace) -> str:
    if args.out is None:
        return 'the answers above are all; the same command begins anew'
    return f'what is done is in {args.out}; the same command begins anew'


def outcomes(
    system: System,
    paths: Sequence[Path],
    prompt: Any,
    options: Callable[[Sequence[Path]], dict[str, Any]],
) -> Iterator[tuple[Path, Answered | ValueError]]:
    """What is found in each image, or why nothing is; where one fails, each is tried alone."""
    try:
        found = system(paths, prompt, **options(paths))
    except ValueError as error:
        if len(paths) == 1:
            yield paths[0], error
            return
        for path in paths:
            yield from outcomes(system, [path], prompt, options)
    else:
        yield from zip(paths, found, strict=True)


def output_places(arguments: Sequence[Path]) -> dict[Path, Path]:
    """Image to where its output belongs: as it lies below its folder, or by its name.

    Raises:
        ValueError: Two images have one place.
    """
    places: dict[Path, Path] = {}
    owners: dict[Path, Path] = {}
    for argument in arguments:
        for image in find_images(argument):
            inside = inside_of(argument, image)
            other = owners.setdefault(inside, image)
            if other != image:
                raise ValueError(f'{other} and {image} have one name: {inside}')
            places.setdefault(image, inside)
    return places


def inside_of(argument: Path, image: Path) -> Path:
    """Where an image lies below a folder; of an argument that is the image, its name."""
    return image.relative_to(argument) if argument.is_dir() else Path(image.name)


def keep(found: Answered, target: Path, save: Callable[[Result, Path], None]) -> None:
    """Write what was found, beside each other: data, picture, JSON."""
    target.parent.mkdir(parents=True, exist_ok=True)
    results = found if isinstance(found, list) else [found]
    for number, result in enumerate(results, 1):
        name = f'{target.name}.{number}' if isinstance(found, list) else target.name
        save(result, target.with_name(f'{name}.{result.suffix}'))
        result.plot().save(target.with_name(f'{name}.picture.png'))
        text = json.dumps(result.to_dict(), ensure_ascii=False)
        target.with_name(f'{name}.json').write_text(text + '\n', encoding='utf-8')
