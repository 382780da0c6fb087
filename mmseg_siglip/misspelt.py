"""Settings and names that are not there, and those that were meant."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

UNFIT = re.compile(
    r'(?P<owner>\w+)\.__init__\(\) (?:got an unexpected keyword argument(?: \'(?P<strange>\w+)\')?'
    r'|missing \d+ required .*arguments?: (?P<missing>.*)'
    r'|takes exactly one argument)|(?P<bare>\w+)\(\) takes no arguments'
)
BUILDER = 'build_from_cfg'
SHOWN = 12


def did_you_mean(name: object, names: Iterable[str], *, likeness: float = 0.6) -> str:
    """The end of a sentence that asks for the nearest of some names, or nothing.

    Args:
        name: What was given.
        names: What there is.
        likeness: How near a name has to be, 0 to 1, as `difflib` measures it.
    """
    found = difflib.get_close_matches(str(name), list(names), n=1, cutoff=likeness)
    return f'; did you mean {found[0]!r}?' if found else ''


def check_options(
    options: Iterable[str], *takers: Callable, but: Collection[str] = (), what: str
) -> None:
    """Refuse options that none of some functions takes by its name.

    Args:
        options: Names.
        takers: Functions or classes.
        but: Arguments of theirs that are no options.
        what: What the options are of, for the error.

    Raises:
        ValueError: There is such an option; the sentence names the nearest that there is.
    """
    parameters = [p for taker in takers for p in inspect.signature(taker).parameters.values()]
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = dict.fromkeys(p.name for p in parameters if p.kind in named and p.name not in but)
    for option in options:
        if option not in names:
            raise ValueError(
                f'{what}: unknown option {option!r}; expected one of '
                f'{", ".join(names)}{did_you_mean(option, names)}'
            )


def settings_of_class(kind: type) -> list[str]:
    """What the constructor takes, that of its bases included where it passes settings on."""
    found: dict[str, None] = {}
    for owner in kind.__mro__:
        if '__init__' not in vars(owner) or owner is object:
            continue
        parameters = inspect.signature(owner.__init__).parameters.values()
        kinds = {parameter.kind for parameter in parameters}
        found |= {
            parameter.name: None
            for parameter in list(parameters)[1:]
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        }
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return list(found)


def refuse_strange_settings(
    kind: type, given: Iterable[str], *, further: Sequence[str] = ()
) -> None:
    """Refuse settings that a class takes without a word and heeds nowhere.

    Args:
        kind: Whose constructor gets them.
        given: Names of the settings.
        further: Settings that the constructor does not name.

    Raises:
        ValueError: It has no such setting.
    """
    known = [*settings_of_class(kind), *further]
    for name in given:
        if name not in known:
            raise ValueError(_strange(kind, name, known))


def explain_settings(error: Exception) -> str | None:
    """What of a configuration does not fit the class that it names; None of any other error.

    Args:
        error: Raised while MMEngine built an object.
    """
    if isinstance(error, KeyError):
        return _unregistered(error) if ' registry. ' in str(error) else None
    fits = UNFIT.search(str(error)) if isinstance(error, TypeError) else None
    if fits is None:
        return None
    for names in _innermost_first(error):
        kind, given = _being_built(names)
        owners = {fits['owner'], fits['bare']}
        if kind is not None and owners & {'Module', *(base.__name__ for base in kind.__mro__)}:
            return _unfit(kind, given, fits)
    return None


def _unfit(kind: type, given: Mapping[str, Any], fits: re.Match) -> str:
    known = settings_of_class(kind)
    strange = [name for name in given if name not in known]
    if fits['strange'] and fits['strange'] not in strange:
        strange.insert(0, fits['strange'])
    if strange:
        return _strange(kind, strange[0], known)
    if fits['missing']:
        return f'{kind.__name__} needs the setting {fits["missing"].replace(chr(39), "")}'
    return f'{kind.__name__} does not take the settings {", ".join(given)}'


def _strange(kind: type, name: str, known: Sequence[str]) -> str:
    others = ', '.join(known[:SHOWN]) + (', ...' if len(known) > SHOWN else '')
    hint = did_you_mean(name, known) or f'; it has {others or "none"}'
    return f'{kind.__name__} has no setting {name}{hint}'


def _being_built(names: Mapping[str, Any]) -> tuple[type | None, Mapping[str, Any]]:
    """The class and the settings that a frame is about to build by, if it is MMEngine's."""
    if names.get('registry') is None or not inspect.isclass(names.get('obj_cls')):
        return None, {}
    return names['obj_cls'], names['args']


def _unregistered(error: KeyError) -> str | None:
    for names in _innermost_first(error):
        registry, wanted = names.get('registry'), names.get('obj_type')
        if registry is None or not isinstance(wanted, str):
            return None
        known: list[str] = []
        while registry is not None:
            name = registry.name
            known += registry.module_dict
            registry = registry.parent
        return f'there is no {name} {wanted}{did_you_mean(wanted, known)}'
    return None


def _innermost_first(error: Exception) -> Iterator[Mapping[str, Any]]:
    """The local names of MMEngine's builders that an error came through."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    return (frame.f_locals for frame in frames[::-1] if frame.f_code.co_name == BUILDER)
