"""Templates of a data set, ranked."""

from __future__ import annotations

import argparse
import json

from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from tqdm import trange

from mmseg_siglip.api.load import load_trained
from mmseg_siglip.cli.jobs.config import load_config, require, require_data
from mmseg_siglip.cli.jobs.test import place_checkpoint
from mmseg_siglip.device import find_device
from mmseg_siglip.io.files import write_atomically
from mmseg_siglip.models.segmentors import SCLIPSegmentor
from mmseg_siglip.models.segmentors.rank_templates import add_image
from mmseg_siglip.registry import DATASETS, MODELS
from mmseg_siglip.text.template_ranking import TemplateStatistics


def rank(args: argparse.Namespace) -> None:
    """See `mmseg_siglip.cli.rank_templates`.

    Raises:
        ValueError: The model needs training, or its images are not there.
    """
    cfg = load_config(args)
    require(cfg, 'model', 'test_dataloader')
    if MODELS.get(cfg.model.type) is not SCLIPSegmentor:
        raise ValueError(f'{cfg.filename}: expected an SCLIPSegmentor, found {cfg.model.type}')
    place_checkpoint(cfg, args.checkpoint)
    require_data(cfg.test_dataloader.dataset)
    init_default_scope(cfg.get('default_scope', 'mmseg_siglip'))
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    if cfg.get('load_from'):
        model = load_trained(SCLIPSegmentor, cfg)
    else:
        model = MODELS.build(cfg.model).to(find_device()).eval()
    names = model.vocabulary.names
    statistics = TemplateStatistics(len(model.templates), len(names))
    count = min(args.num_samples or len(dataset), len(dataset))
    for index in trange(count, desc='ranking templates', unit='image'):
        data = model.data_preprocessor(pseudo_collate([dataset[index]]))
        (image,), (sample,) = data['inputs'], data['data_samples']
        add_image(statistics, model, image, sample)
    ranking = dict(zip(names, statistics.best(), strict=True))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    lines = ',\n'.join(f' {json.dumps(name)}: {best}' for name, best in ranking.items())
    write_atomically(f'{{\n{lines}\n}}\n', args.out)
    ranked = sum(bool(best) for best in ranking.values())
    print(f'{ranked} of {len(names)} classes ranked by {count} images into {args.out}')
