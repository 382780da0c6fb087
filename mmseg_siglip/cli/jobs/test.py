"""Testing."""

from __future__ import annotations

import argparse
import copy
import inspect
from pathlib import Path

import mmseg.evaluation
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log

from mmseg_siglip.cli.common import PAMR_STEPS, PICTURES
from mmseg_siglip.cli.jobs.config import (
    build_runner,
    load_config,
    override,
    require,
    require_data,
)
from mmseg_siglip.cli.jobs.label import weights_digest
from mmseg_siglip.cli.jobs.saved import place_saved
from mmseg_siglip.cli.jobs.stopwatch import machine
from mmseg_siglip.engine import Runner, SegVisualizationHook
from mmseg_siglip.engine.kept_results import KeepResultsHook
from mmseg_siglip.engine.runner import unwrapped
from mmseg_siglip.evaluation import DepthMetric, RefSegMetric
from mmseg_siglip.misspelt import did_you_mean, settings_of_class
from mmseg_siglip.models.held_weights import hold_weights
from mmseg_siglip.models.segmentors import OpenVocabularySegmentor
from mmseg_siglip.precision import compute_name
from mmseg_siglip.registry import METRICS, MODELS
from mmseg_siglip.text.class_colours import class_colours
from mmseg_siglip.text.vocabulary import BACKGROUND, Vocabulary, split_words
from mmseg_siglip.weights.checkpoint import is_mmengine_file
from mmseg_siglip.weights.fetch import fetch

PAMR = 'PAMRPostProcessor'
_WEIGHT_SUFFIXES = ('.pth', '.pt', '.bin', '.ckpt', '.safetensors')


def place_checkpoint(cfg: Config, checkpoint: str | None) -> None:
    """Put the weights where they belong.

    A checkpoint of MMEngine's Runner goes to ``load_from``. Any other is the encoder's and goes to
    ``model.backbone.pretrained``, which only a training-free model can work with.

    Raises:
        ValueError: the file does not exist, or a model that was to be trained gets no checkpoint
            or one that holds an encoder only.
    """
    model = MODELS.get(cfg.model.type)
    if model is None:
        near = did_you_mean(cfg.model.type, MODELS.module_dict)
        raise ValueError(f'{cfg.filename}: there is no model type {cfg.model.type}{near or "."}')
    training_free = getattr(model, 'training_free', False)
    if checkpoint is None:
        if not training_free:
            require_weights(cfg)
        return
    if '://' in checkpoint:
        checkpoint = str(fetch(checkpoint))
    path = Path(checkpoint).expanduser()
    if not path.exists() and (path.suffix in _WEIGHT_SUFFIXES or not training_free):
        raise ValueError(f'checkpoint not found: there is no file {checkpoint}.')
    if not training_free or (path.is_file() and is_mmengine_file(path)):
        if path.is_dir():
            raise ValueError(f'{checkpoint} is a folder, expected a checkpoint file.')
        cfg.load_from = str(path)
    else:
        cfg.model.backbone.pretrained = str(path) if path.exists() else checkpoint


def place_weights(cfg: Config, args: argparse.Namespace) -> None:
    """Put the checkpoint, or the saved system with the user's settings, in its place.

    Raises:
        ValueError: See `place_checkpoint` and `place_saved`; or another encoder is asked for beside
            a saved system.
    """
    if args.checkpoint is None or not place_saved(cfg, args.checkpoint):
        place_checkpoint(cfg, args.checkpoint)
        return
    if args.encoder is not None:
        raise ValueError(
            f'--encoder: expected none beside a saved system, which has its own, found '
            f'{args.encoder}'
        )
    override(cfg, {k: v for k, v in (args.cfg_options or {}).items() if k.startswith('model.')})


def use_classes(cfg: Config, words: str) -> None:
    """Put the classes to look for where the model takes them.

    A background that the config sets by its index was one of its own classes. The thresholds that
    refer to it stay where the new classes have one that is marked.

    Raises:
        ValueError: the words are not usable, or the model's classes are fixed.
    """
    source = split_words(words)
    vocabulary = Vocabulary.load(source)
    model = MODELS.get(cfg.model.type)
    if not issubclass(model, OpenVocabularySegmentor):
        raise ValueError(f'--classes: the classes of a {cfg.model.type} are fixed by its training.')
    cfg.model[model.words_option] = source
    cfg.model.pop('background_index', None)
    if vocabulary.background_index is None:
        drop_thresholds(cfg)


def drop_thresholds(cfg: Config) -> None:
    """Remove what sends doubtful pixels to a background, and say so."""
    given = {name: cfg.model.pop(name, None) for name in ('prob_thd', 'area_thd')}
    dropped = [f'{name}={value}' for name, value in given.items() if value]
    if dropped:
        print_log(
            f'--classes: no class is marked {BACKGROUND}, so {cfg.filename} is used without '
            f'{" and ".join(dropped)}.',
            'current',
        )


def leave_unscored(runner: Runner, *, saved: bool) -> None:
    """Draw and save, but score nothing, where the words are not as many as the data's classes.

    Raises:
        ValueError: nothing is drawn or saved either.
    """
    model, loop = unwrapped(runner.model), runner.test_loop
    words, classes = model.vocabulary.names, loop.dataloader.dataset.metainfo['classes']
    if len(words) == len(classes):
        return
    what = f'--classes: {len(words)} classes cannot be scored by labels of {len(classes)}'
    if not saved:
        raise ValueError(f'{what}; give --out or --show-dir to see what is found.')
    runner.logger.info(f'{what}; they are looked for without a score.')
    for metric in loop.evaluator.metrics:
        metric.format_only = True
    for hook in runner.hooks:
        if isinstance(hook, SegVisualizationHook):
            hook.other_classes = dict(classes=words, palette=class_colours(words).tolist())


def require_argument(cfg: Config, argument: str, flag: str) -> None:
    """Refuse a flag about what the model of a config has not.

    Raises:
        ValueError: It takes no such argument.
    """
    if argument not in inspect.signature(MODELS.get(cfg.model.type)).parameters:
        raise ValueError(f'{flag}: expected a model with {argument}, found {cfg.model.type}')


def use_windows(cfg: Config) -> None:
    """Predict by windows."""
    require_argument(cfg, 'test_cfg', '--slide-inference')
    cfg.model.setdefault('test_cfg', {})
    cfg.model.test_cfg.mode = 'slide'


def use_pamr(cfg: Config, *, wanted: bool) -> None:
    """Have PAMR last among the postprocessors, once, or not at all."""
    require_argument(cfg, 'postprocessor', '--use-pamr')
    given = cfg.model.get('postprocessor') or []
    given = list(given) if isinstance(given, (list, tuple)) else [given]
    others = [each for each in given if each.get('type') != PAMR]
    if not wanted:
        cfg.model.postprocessor = others
    elif others == given:
        cfg.model.postprocessor = [*given, dict(type=PAMR, num_iter=PAMR_STEPS)]


def require_weights(cfg: Config) -> None:
    if cfg.get('load_from') is None:
        raise ValueError(
            f'{cfg.model.type} has to be trained: give its CHECKPOINT, or load_from in the config.'
        )


def show_predictions(cfg: Config, args: argparse.Namespace) -> None:
    """Turn the visualisation hook on.

    Raises:
        ValueError: The config has none.
    """
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise ValueError('--show and --show-dir need default_hooks.visualization in the config.')
    hook.draw, hook.interval = True, 1
    if args.show:
        hook.show = True
        hook.wait_time = args.wait_time
    if args.show_dir:
        require(cfg, 'visualizer')
        cfg.visualizer.save_dir = args.show_dir


def evaluators_of(cfg: Config) -> list[dict]:
    evaluators = cfg.test_evaluator
    return evaluators if isinstance(evaluators, list) else [evaluators]


def save_predictions(cfg: Config, folder: str) -> None:
    """Have the metrics save what is predicted.

    Raises:
        ValueError: One saves nothing.
    """
    for evaluator in evaluators_of(cfg):
        kind = evaluator.type
        kind = METRICS.get(kind) if isinstance(kind, str) else kind
        if kind is not None and 'output_dir' not in settings_of_class(kind):
            raise ValueError(
                f'--out: expected metrics that save what is predicted, found {evaluator.type}'
            )
        evaluator['output_dir'] = folder


def keep_results(runner: Runner, args: argparse.Namespace) -> None:
    """Have a test with ``--out`` keep what it counts, and go on from what is kept if asked to.

    Raises:
        ValueError: It is asked to, and a metric does not count image by image.
    """
    others = [
        type(metric).__name__
        for metric in runner.test_loop.evaluator.metrics
        if not isinstance(metric, (mmseg.evaluation.IoUMetric, DepthMetric, RefSegMetric))
    ]
    if not others:
        hook = KeepResultsHook(Path(args.out), settings=settings_of_test, go_on=args.go_on)
        runner.register_hook(hook)
    elif args.go_on:
        raise ValueError(
            '--continue: expected metrics that count image by image (IoUMetric, DepthMetric, '
            f'RefSegMetric), found {", ".join(others)}'
        )


def settings_of_test(runner: Runner) -> dict[str, str]:
    """What predictions and scores depend on, as plain values."""
    cfg = copy.deepcopy(runner.cfg)
    for evaluator in evaluators_of(cfg):
        del evaluator['output_dir']
    cfg.test_cfg.pop('pixels_at_once', None)
    return dict(
        weights=weights_digest(runner.model),
        precision=precision_of(runner),
        model=str(cfg.model),
        data=str(cfg.test_dataloader.dataset),
        evaluator=str(cfg.test_evaluator),
        loop=str(cfg.test_cfg),
    )


def precision_of(runner: Runner) -> str:
    """The number format of the model's products, which ``auto`` leaves to the machine."""
    parts = (getattr(part, 'precision', None) for part in runner.model.modules())
    wanted = next((precision for precision in parts if isinstance(precision, str)), 'fp32')
    return compute_name(wanted, torch.device(get_device()))


def test(args: argparse.Namespace) -> dict[str, float]:
    """What ``mmseg-siglip test`` does with its arguments; the scores."""
    cfg = load_config(args)
    require(cfg, 'model', 'test_dataloader', 'test_evaluator', 'test_cfg')
    place_weights(cfg, args)
    require_data(cfg.test_dataloader.dataset)
    if args.classes is not None:
        use_classes(cfg, args.classes)
    if args.slide_inference:
        use_windows(cfg)
    if args.use_pamr is not None:
        use_pamr(cfg, wanted=args.use_pamr)
    if args.show_dir is PICTURES:
        args.show_dir = str(Path(cfg.work_dir, 'vis'))
    if args.show or args.show_dir:
        show_predictions(cfg, args)
    if args.tta:
        require(cfg, 'tta_model', 'tta_pipeline')
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.model = dict(**cfg.tta_model, module=cfg.model)
    if args.out is not None:
        save_predictions(cfg, args.out)
    runner = build_runner(cfg)
    hold_weights(unwrapped(runner.model))
    runner.logger.info(f'products in {precision_of(runner)}, on {machine()}')
    if args.out is not None:
        keep_results(runner, args)
    if args.classes is not None:
        leave_unscored(runner, saved=bool(args.out or args.show or args.show_dir))
    return runner.test()
