"""Models by a description that a stranger wrote: beside a checkpoint, in a Hub folder, on a page.

A config is a program, which its user has read. A description is data: JSON that says which of this
package's classes to build and with which numbers. MMEngine's registries import whatever a ``type``
with a dot names, and build any class of any library that they know; so a description is looked
through before anything of it is built, and only `build_from_data` builds it.
"""

from __future__ import annotations

import inspect
import math
import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from mmengine.registry import DefaultScope, Registry
from torch import nn

from mmseg_siglip.misspelt import settings_of_class
from mmseg_siglip.registry import DENSE_METHODS, GUIDES, MODELS, SCOPE
from mmseg_siglip.text.vocabulary import bundled_names
from mmseg_siglip.weights.json_file import check_model_fields
from mmseg_siglip.weights.source import bundled

REGISTRIES = (MODELS, GUIDES, DENSE_METHODS)
MODES = ('finetune', 'sam_finetune')
"""Settings whose ``type`` is the name of a mode, and no class's."""
BARE = re.compile(r'[\w+-]+(\.[\w+-]+)*')
DEEPEST = 32


def ships(name: str) -> bool:
    """Whether a checkpoint of that name ships with this package."""
    return bundled(name) != name


def is_vocabulary(name: str) -> bool:
    """Whether a vocabulary of that name ships with this package."""
    return name in bundled_names()


def never(name: str) -> bool:
    """Of what nothing ships with this package."""
    return False


ELSEWHERE: dict[str, Callable[[str], bool]] = {
    **dict.fromkeys(('pretrained', 'checkpoint', 'config', 'tokenizer'), ships),
    **dict.fromkeys(('name_or_path', 'vision'), ships),
    **dict.fromkeys(('vocabulary', 'test_vocabulary'), is_vocabulary),
    **dict.fromkeys(('guide', 'sam', 'llm', 'clip', 'dino', 'siglip', 'radio'), never),
    **dict.fromkeys(('folder', 'ranking', 'revision', 'compile_backend'), never),
}
"""Arguments by which a class reads what lies elsewhere, and the names that are taken all the same:
of what ships with this package."""


def build_from_data(
    registry: Registry,
    settings: Mapping,
    where: object,
    *,
    complete: Callable[[Mapping], Mapping] = dict,
) -> nn.Module:
    """Build a model by a description.

    Args:
        registry: One of `REGISTRIES`.
        settings: See `check_data`; its ``type`` is registered there.
        where: Where it comes from, for messages.
        complete: Puts what lies elsewhere into a description that has been looked through, by
            sources that the caller vouches for.

    Raises:
        ValueError: See `check_data`; or the values fit no such class.
    """
    check_data(settings, where)
    if settings.get('type') not in own_names(registry):
        raise ValueError(
            f'{where}: expected a {registry.name} of this package as type, found '
            f'{settings.get("type")!r}'
        )
    completed = dict(complete(settings))
    try:
        with DefaultScope.overwrite_default_scope(SCOPE):
            return registry.build(completed)
    except OSError:
        raise
    except ValueError as error:
        raise ValueError(f'{where}: {error}') from error
    except Exception as error:
        raise ValueError(f'{where}: no {settings["type"]} can be built ({error})') from error


def check_data(settings: Mapping, where: object) -> None:
    """Refuse a description that asks for more than this package's own classes and plain values.

    Taken are dicts, lists, strings, finite numbers, booleans and null. In a dict with ``type``,
    that is the bare name of a class that this package registers, and every other key an argument of
    it. A string that is the value of a key is a bare name, no path, address or Hub id; in a list it
    is text, such as a class's name. What a class would read elsewhere is null, described by a
    dict, or the name of something that ships with this package (see `ELSEWHERE`).

    Args:
        settings: The description, as JSON gives it.
        where: Where it comes from, for messages.

    Raises:
        ValueError: It asks for more; nothing has been built.
    """
    if type(settings) is not dict:
        raise ValueError(f'{where}: expected an object, found a {type(settings).__name__}')
    _check(settings, str(where), '', 0)
    check_model_fields(settings, where)


def own_names(registry: Registry) -> dict[str, type]:
    """The classes that this package registered there, by name."""
    registry.import_from_location()
    package = f'{SCOPE}.'
    return {
        name: kind
        for name, kind in registry.module_dict.items()
        if inspect.isclass(kind) and kind.__module__.startswith(package)
    }


def takes(settings: Mapping, argument: str) -> bool:
    """Whether a description, of a class or of what its place decides, may have that argument."""
    if 'type' not in settings:
        return True
    return argument in settings_of_class(_class_of(settings['type'], 'type'))


def _check(value: Any, where: str, name: str, depth: int) -> None:
    place = f'{where}: {name}' if name else where
    if depth > DEEPEST:
        raise ValueError(f'{where}: expected at most {DEEPEST} levels, found more')
    if type(value) is dict:
        _check_dict(value, where, name, depth)
    elif type(value) is list:
        for item in value:
            if type(item) is not str:
                _check(item, where, name, depth + 1)
    elif type(value) is str:
        _check_string(value, place, name)
    elif name in ELSEWHERE and value is not None:
        raise ValueError(
            f'{place}: expected nothing that lies elsewhere, found {reprlib.repr(value)}'
        )
    elif type(value) is float and not math.isfinite(value):
        raise ValueError(f'{place}: expected a finite number, found {value}')
    elif type(value) not in (int, float, bool, type(None)):
        raise ValueError(f'{place}: expected a plain value, found a {type(value).__name__}')


def _check_dict(settings: dict, where: str, name: str, depth: int) -> None:
    place = f'{where}: {name}' if name else where
    known = None
    if 'type' in settings and name not in MODES:
        known = {'type', *settings_of_class(_class_of(settings['type'], place))}
    for key, value in settings.items():
        if type(key) is not str or key.startswith('_'):
            raise ValueError(f'{place}: expected names of settings, found {key!r}')
        if known is not None and key not in known:
            raise ValueError(
                f'{place}: expected arguments of {settings["type"]} '
                f'({", ".join(sorted(known - {"type"}))}), found {key!r}'
            )
        if key != 'type' or name in MODES:
            _check(value, where, key, depth + 1)


def _class_of(kind: object, place: str) -> type:
    for registry in REGISTRIES:
        if isinstance(kind, str) and kind in (names := own_names(registry)):
            return names[kind]
    raise ValueError(f'{place}: expected the bare name of a class of this package, found {kind!r}')


def _check_string(value: str, place: str, name: str) -> None:
    if name in ELSEWHERE and not ELSEWHERE[name](value):
        raise ValueError(f'{place}: expected nothing that lies elsewhere, found {value!r}')
    if not BARE.fullmatch(value):
        raise ValueError(f'{place}: expected a bare name, no path or address, found {value!r}')
