"""A model card: what people read of a saved system, and what the Hub reads of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from mmseg_siglip.api.system_folder import SystemFolder
from mmseg_siglip.io.files import write_atomically

LIBRARY = 'mmseg_siglip'
PIPELINES = dict(
    segment='image-segmentation',
    refer='image-segmentation',
    depth='depth-estimation',
    ask='image-text-to-text',
)
"""The Hub's name of each task; a task that it does not know has none."""
USES = dict(
    words="result = system('photo.jpg', ['cat', 'dog', 'grass'])",
    phrases="result = system('photo.jpg', 'the red cup left of the plate')",
    question="answer = system('photo.jpg', 'Which object is nearest?')",
)
"""A call of a system by what it asks."""
ALONE = "result = system('photo.jpg')"


@dataclass(frozen=True)
class Measured:
    """Scores on one data set.

    Attributes:
        data: Name of the data set, and of the split.
        metrics: Name to value.
        command: What measured them.
    """

    data: str
    metrics: Mapping[str, float]
    command: str


@dataclass(frozen=True)
class CardFacts:
    """What a card says beside what the folder itself tells.

    Attributes:
        name: What the model is called.
        source: What `from_pretrained` takes; the folder's name if it is not given.
        licence: The Hub's name of it, such as ``apache-2.0``; of the weights in the folder.
        data: Data sets that it was trained on.
        results: What was measured.
        limits: What it cannot do, a sentence each.
    """

    name: str = ''
    source: str = ''
    licence: str | None = None
    data: Sequence[str] = ()
    results: Sequence[Measured] = ()
    limits: Sequence[str] = field(default_factory=tuple)


def write_card(saved: SystemFolder, kind: str, asks: str | None, facts: CardFacts) -> None:
    """Write ``README.md`` into the folder of a saved system.

    Args:
        saved: The folder.
        kind: Name of the system's class.
        asks: What the system asks for.
        facts: What else there is to say.
    """
    name = facts.name or saved.folder.resolve().name
    origins = [origin.name for origin in saved.origins.values() if origin.kind == 'hub']
    data = ModelCardData(
        library_name=LIBRARY,
        license=facts.licence,
        base_model=origins or None,
        pipeline_tag=PIPELINES.get(saved.task),
        tags=[LIBRARY, saved.task, saved.model['type']],
        datasets=list(facts.data) or None,
        model_name=name if facts.results else None,
        eval_results=_results(saved.task, facts.results) or None,
    )
    card = ModelCard(f'---\n{data.to_yaml()}\n---\n\n{_text(saved, name, kind, asks, facts)}')
    write_atomically(card.content, saved.folder / 'README.md')


def _results(task: str, results: Sequence[Measured]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type=PIPELINES.get(task, task),
            dataset_type=each.data.split()[0].lower(),
            dataset_name=each.data,
            metric_type=metric,
            metric_value=round(float(value), 4),
        )
        for each in results
        for metric, value in each.metrics.items()
    ]


def _text(saved: SystemFolder, name: str, kind: str, asks: str | None, facts: CardFacts) -> str:
    source = facts.source or saved.folder.resolve().name
    origins = [f'- `{place}`: {origin}' for place, origin in saved.origins.items()]
    parts = [
        f'# {name}',
        f'A `{saved.model["type"]}` of mmseg_siglip, for `{kind}` (task `{saved.task}`).',
        '## Use',
        f'```python\nfrom mmseg_siglip.api import {kind}\n\n'
        f"system = {kind}.from_pretrained('{source}')  # this folder, or its id on the Hub\n"
        f'{USES.get(asks, ALONE)}\n```',
        '## Weights',
        'Here are those that were trained, or differ from what the model is built of; the others '
        + ('are of' if origins else 'come with the package, if there are any.'),
        '\n'.join(origins),
        '## Data',
        ', '.join(facts.data) or 'Not stated.',
        '## Measured',
        _table(facts.results) or 'Nothing yet.',
        '## Limits',
        '\n'.join(f'- {limit}' for limit in facts.limits) or 'Not stated.',
        '## Licence',
        (facts.licence or 'Not stated.')
        + (' Weights named above have licences of their own.' if origins else ''),
    ]
    return '\n\n'.join(part for part in parts if part) + '\n'


def _table(results: Sequence[Measured]) -> str:
    lines = [
        f'| {each.data} | {metric} | {value:.4g} | `{each.command}` |'
        for each in results
        for metric, value in each.metrics.items()
    ]
    return '\n'.join(
        ['| data | metric | value | by |', '|---|---|--:|---|', *lines] if lines else []
    )
