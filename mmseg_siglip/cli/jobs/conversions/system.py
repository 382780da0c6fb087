"""A trained model as a folder that `from_pretrained` takes, measured if it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path

from mmengine.config import Config

from mmseg_siglip.api.load import read_config
from mmseg_siglip.api.model_card import CardFacts, Measured
from mmseg_siglip.api.system import SYSTEMS
from mmseg_siglip.cli.jobs.config import build_runner, require
from mmseg_siglip.cli.jobs.saved import place_saved
from mmseg_siglip.registry import MODELS


def convert(
    config: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    *,
    dtype: str = 'float32',
    evaluate: bool = False,
    name: str = '',
    licence: str | None = None,
    data: Sequence[str] = (),
    limit: Sequence[str] = (),
    push: str | None = None,
) -> str:
    """Write the folder, and upload it if a repository is named.

    Raises:
        ValueError: No system takes models of this config, or they cannot be told as data.
    """
    cfg = read_config(config)
    system = SYSTEMS[task_of(cfg)].from_config(cfg, checkpoint, device='cpu', precision='fp32')
    facts = CardFacts(name=name, licence=licence, data=data, limits=limit)
    system.save_pretrained(out, dtype=dtype, facts=facts)
    if evaluate:
        facts = replace(facts, results=[measured_by(cfg, config, out)])
        system.save_pretrained(out, dtype=dtype, facts=facts)
    said = f'{out}: a {type(system).__name__}'
    if push is not None:
        said += f', at {system.push_to_hub(push, dtype=dtype, facts=facts)}'
    return said


def task_of(config: Config) -> str:
    """The task whose system takes models of a config.

    Raises:
        ValueError: None does.
    """
    model = MODELS.get(config.model.type)
    for task, system in SYSTEMS.items():
        if isinstance(model, type) and issubclass(model, system.kind):
            return task
    kinds = ', '.join(system.kind.__name__ for system in SYSTEMS.values())
    raise ValueError(
        f'{config.filename}: expected a model of one of {kinds}, found {config.model.type}'
    )


def measured_by(config: Config, path: str | Path, folder: str | Path) -> Measured:
    """Scores of a saved system on the config's test set, by what ``mmseg-siglip test`` runs."""
    cfg = config.copy()
    cfg.setdefault('work_dir', str(Path('work_dirs', Path(path).stem)))
    require(cfg, 'test_dataloader', 'test_evaluator', 'test_cfg')
    place_saved(cfg, str(folder))
    metrics = build_runner(cfg).test()
    numbers = {key: float(value) for key, value in metrics.items() if isinstance(value, Real)}
    return Measured(
        f'{cfg.test_dataloader.dataset.type} test',
        numbers,
        f'mmseg-siglip test {path} {Path(folder).resolve().name}',
    )
