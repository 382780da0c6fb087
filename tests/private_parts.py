"""Private parts of other libraries that the package leans on, each with what we expect of it.

``python tests/private_parts.py`` writes the list as ``docs/private_parts.md``.
"""

from __future__ import annotations

import inspect
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import dynamic_module_utils

from mmseg_siglip.cli.jobs.costs import ON_CPU

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / 'docs' / 'private_parts.md'
HEAD = """# Private parts of other libraries

What the package uses of other libraries beyond their documented interface: names with an
underscore, methods of theirs that classes of ours replace, names out of files below a library's
public modules, the words of an error. Nobody promises that they stay. Each has a check in
`tests/private_parts.py` that fails when it moves, whose name is in the last column; `python
tests/private_parts.py` writes this file, and a test compares the list with the code. What mends a
library rather than uses it stands in `mmseg_siglip/compat.py`, tested by `tests/test_compat.py`.

| library | part | what for | used in | check |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Part:
    """One thing of another library.

    Attributes:
        library: Its name.
        names: Names as they stand in our code; of imports ``module:name``.
        why: What they are used for.
        check: Fails if they are gone or do something else.
    """

    library: str
    names: tuple[str, ...]
    why: str
    check: Callable[[], None]

    def places(self) -> list[str]:
        return sorted({place for name in self.names for place in places_of(name)})


def places_of(name: str) -> list[str]:
    """Files of ours in which a name stands, compat.py left out."""
    patterns = [re.compile(rf'(?<!\w){word}(?!\w)') for word in name.split(':')]
    package = ROOT / 'mmseg_siglip'
    texts = {
        path.relative_to(package).as_posix(): path.read_text(encoding='utf-8')
        for path in package.rglob('*.py')
        if path.name != 'compat.py'
    }
    return [
        place for place, text in texts.items() if all(pattern.search(text) for pattern in patterns)
    ]


PARTS: list[Part] = []


def part(library: str, *names: str, why: str) -> Callable[[Callable], Callable]:
    def add(check: Callable[[], None]) -> Callable[[], None]:
        PARTS.append(Part(library, names, why, check))
        return check

    return add


def document() -> str:
    rows = []
    for one in PARTS:
        names, places = (
            ', '.join(f'`{item}`' for item in items) for items in (one.names, one.places())
        )
        cells = one.library, names, one.why, places, f'`{one.check.__name__}`'
        rows.append(f'| {" | ".join(cells)} |\n')
    return HEAD + ''.join(rows)


@part(
    'torch',
    '_is_amx_tile_supported',
    '_is_avx512_bf16_supported',
    '_is_avx512_supported',
    '_is_avx2_supported',
    why='the kind of a CPU, and whether it multiplies bfloat16',
)
def kinds_of_cpu():
    for name in ('amx_tile', 'avx512_bf16', 'avx512', 'avx2'):
        assert isinstance(getattr(torch.cpu, f'_is_{name}_supported')(), bool)


@part('torch', '_apply', why='a second model that is no child moves with its owner')
def what_moves_a_module():
    class Owner(nn.Module):
        moved = False

        def _apply(self, fn, recurse=True):
            self.moved = True
            return super()._apply(fn, recurse)

    owner = Owner()
    nn.Sequential(owner).to(torch.float64)
    assert owner.moved


@part(
    'torch',
    '_scaled_dot_product_flash_attention_for_cpu',
    why="the benchmark counts the attention that a CPU fuses, which PyTorch's counter passes over",
)
def attention_of_a_cpu() -> None:
    q = torch.zeros(1, 1, 4, 8)
    with FlopCounterMode(display=False, custom_mapping=ON_CPU) as counter:
        nn.functional.scaled_dot_product_attention(q, q, q)
    assert counter.get_total_flops() == 4 * 4 * 4 * 8


@part('torch', '_parameters', why='a weight changes places with itself in another format, quickly')
def weights_by_name():
    layer = nn.Linear(2, 2, bias=False)
    layer._parameters['weight'] = other = nn.Parameter(torch.ones(2, 2))
    assert layer.weight is other


@part(
    'torch',
    'torch.utils._python_dispatch:TorchDispatchMode',
    'torch.utils._pytree:tree_leaves',
    '_to_copy',
    why='which weights autocast casts, and which are read as they are',
)
def casts_of_weights():
    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            weights = [x for x in tree_leaves((args, kwargs)) if isinstance(x, nn.Parameter)]
            found.extend((func, weight is layer.weight) for weight in weights)
            return func(*args, **(kwargs or {}))

    found, layer = [], nn.Linear(2, 2, bias=False)
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16), Names():
        layer(torch.zeros(1, 2))
    assert found == [(torch.ops.aten._to_copy.default, True)]


@part('torch', '_version', why='whether a number read of a weight is still its value')
def changes_are_counted():
    weight = nn.Parameter(torch.zeros(()))
    before = weight._version
    with torch.no_grad():
        weight.fill_(1.0)
    assert weight._version > before


@part('torch', '_metadata', why='versions of modules, kept when a state dict is made plain')
def versions_in_a_state_dict():
    assert nn.BatchNorm1d(2).state_dict()._metadata['']['version'] == 2


@part('torch', '_UNSUPPORTED', why='the names in the words of a weights-only refusal')
def words_of_a_refusal():
    from mmseg_siglip.weights.checkpoint import _UNSUPPORTED

    file = BytesIO(pickle.dumps(print, protocol=2))
    try:
        torch.load(file, weights_only=True)
    except pickle.UnpicklingError as error:
        assert any(name.endswith('print') for name in _UNSUPPORTED.findall(str(error)))
    else:
        raise AssertionError('expected a refusal')


@part('mmengine', '_resume', '_load_from', '_has_loaded', why='to choose the file to resume from')
def flags_of_the_runner():
    from mmengine.runner import Runner

    for resume in (False, True):
        called = []
        runner = SimpleNamespace(_resume=resume, _load_from='file', _has_loaded=False)
        runner.load_checkpoint = lambda path, called=called: called.append(('load', path))
        runner.resume = lambda path, called=called: called.append(('resume', path))
        Runner.load_or_resume(runner)
        Runner.load_or_resume(runner)
        assert called == [('resume' if resume else 'load', 'file')] and runner._has_loaded


@part('mmengine', '_maybe_compile', why='parts of a model are compiled, not a whole step')
def compiling_of_the_runner():
    from mmengine.runner import Runner

    model = SimpleNamespace(train_step=abs)
    logger = SimpleNamespace(info=str)
    runner = SimpleNamespace(cfg=dict(compile=None), model=model, logger=logger)
    Runner._maybe_compile(runner, 'train_step')
    assert model.train_step is abs
    runner.cfg = dict(compile=dict(backend='eager'))
    Runner._maybe_compile(runner, 'train_step')
    assert model.train_step is not abs
    assert "self._maybe_compile('train_step')" in inspect.getsource(Runner.train)


@part('torch', 'GONE', 'LATE', 'WORKER', why='the words of errors that other processes bring about')
def words_of_lost_processes():
    from torch.distributed import DistError, TCPStore
    from torch.utils.data import dataloader

    from mmseg_siglip.cli.common import WORKER
    from mmseg_siglip.engine.peers import GONE, LATE

    assert WORKER.search('DataLoader worker (pid(s) 7) exited unexpectedly')
    source = inspect.getsource(dataloader)
    assert "f'DataLoader worker (pid(s) {pids_str}) exited" in source.replace('"', "'")
    store = TCPStore('localhost', 0, is_master=True, wait_for_workers=False)
    with pytest.raises(DistError) as late:
        store.wait(['never'], timedelta(seconds=0.1))
    assert LATE.search(str(late.value)) and not GONE.search(str(late.value))


@part('mmengine', '_schemes', why='every address is read without running anything')
def table_of_loaders():
    from mmengine.runner import CheckpointLoader

    kept = CheckpointLoader._schemes
    CheckpointLoader._schemes = dict(kept)
    try:
        CheckpointLoader.register_scheme('private-part://', lambda name, _: dict(at=name))
        assert set(CheckpointLoader._schemes) - set(kept) == {'private-part://'}
        found = CheckpointLoader.load_checkpoint('private-part://a', logger='silent')
        assert found == dict(at='private-part://a')
    finally:
        CheckpointLoader._schemes = kept


@part(
    'mmengine',
    '_save_checkpoint_with_step',
    '_save_best_checkpoint',
    why='an order of writing and removing in which a kill loses nothing',
)
def saving_of_the_checkpoint_hook():
    from mmengine.hooks import CheckpointHook

    saved = []

    class Hook(CheckpointHook):
        def _save_checkpoint_with_step(self, runner, step, meta):
            saved.append((step, meta))

        def _save_best_checkpoint(self, runner, metrics):
            saved.append(metrics)

    runner = SimpleNamespace(iter=4, epoch=0, logger=SimpleNamespace(info=str))
    hook = Hook(interval=5, by_epoch=False)
    hook.after_train_iter(runner, 4)
    hook.after_val_epoch(runner, dict(mIoU=1))
    assert saved == [(5, dict(epoch=0, iter=5)), dict(mIoU=1)]
    used = {'out_dir', 'last_ckpt', 'filename_tmpl', 'keep_ckpt_ids', 'file_backend', 'args'}
    assert used <= set(re.findall(r'self\.(\w+)', inspect.getsource(CheckpointHook)))


@part(
    'mmengine',
    '_save_checkpoint',
    '_publish_model',
    why='weights that are not finite are neither saved nor published',
)
def saving_and_publishing_of_the_checkpoint_hook():
    from mmengine.hooks import CheckpointHook

    asked = []

    class Hook(CheckpointHook):
        def _save_checkpoint(self, runner):
            asked.append('save')

        def _publish_model(self, runner, ckpt_path):
            asked.append(ckpt_path)

    runner = SimpleNamespace(iter=4, epoch=0, logger=SimpleNamespace(info=str))
    hook = Hook(interval=5, by_epoch=False, published_keys='state_dict')
    hook.after_train_iter(runner, 4)
    hook.last_ckpt = 'iter_5.pth'
    hook.after_train(runner)
    assert asked == ['save', 'iter_5.pth']


@part(
    'mmengine',
    'mmengine.runner.checkpoint:get_external_models',
    'mmengine.runner.checkpoint:get_deprecated_model_names',
    'mmengine.runner.checkpoint:get_mmcls_models',
    'mmengine.runner.checkpoint:get_torchvision_models',
    why='addresses of the names in model zoos',
)
def model_zoos():
    from mmengine.runner import checkpoint

    for name in ('external', 'mmcls', 'torchvision'):
        addresses = getattr(checkpoint, f'get_{name}_models')().values()
        assert any(address.startswith('https://') for address in addresses if address)
    assert set(checkpoint.get_deprecated_model_names().values()) & set(
        checkpoint.get_external_models()
    )


@part('mmcv', '_resize_seg', '_pad_seg', '_crop_seg_map', why='masks and depth go with the image')
def transforms_call_for_the_labels():
    from mmcv.transforms import CenterCrop, Pad, Resize

    called = []

    class OurResize(Resize):
        def _resize_seg(self, results):
            called.append(results['img_shape'])

    class OurPad(Pad):
        def _pad_seg(self, results):
            called.append(results['img_shape'])

    class OurCenterCrop(CenterCrop):
        def _crop_seg_map(self, results, bboxes):
            super()._crop_seg_map(results, bboxes)
            called.append(results['gt_seg_map'].shape)

    OurResize(scale=(3, 2)).transform(dict(img=np.zeros((4, 6, 3), np.uint8)))
    OurPad(size=(8, 7)).transform(dict(img=np.zeros((4, 6, 3), np.uint8)))
    labels = dict(gt_seg_map=np.zeros((4, 6)))
    OurCenterCrop(crop_size=(5, 1)).transform(dict(img=np.zeros((4, 6, 3), np.uint8)) | labels)
    assert [tuple(shape[:2]) for shape in called] == [(2, 3), (7, 8), (1, 5)]


@part('mmseg', '_forward', why='the tensor mode of a segmentor')
def tensor_mode():
    from mmseg.models import BaseSegmentor

    stub = SimpleNamespace(_forward=lambda inputs, samples: (inputs, samples))
    assert BaseSegmentor.forward(stub, 'inputs', 'samples', mode='tensor') == ('inputs', 'samples')


@part('mmseg', '_decode_head_forward_train', why='losses of the depth head')
def losses_of_the_head():
    from mmseg.models import DepthEstimator

    head = SimpleNamespace(loss=lambda inputs, samples, config: dict(loss=(inputs, samples)))
    stub = SimpleNamespace(decode_head=head, train_cfg=None)
    found = DepthEstimator._decode_head_forward_train(stub, 'inputs', 'samples')
    assert found == {'decode.loss': ('inputs', 'samples')}


@part('mmseg', '_visualizer', why='pictures of samples that are no files')
def pictures():
    from mmengine.visualization import Visualizer
    from mmseg.engine.hooks import SegVisualizationHook

    visualizer = Visualizer.get_instance('private parts')
    assert SegVisualizationHook(draw=True)._visualizer is visualizer


@part(
    'mmseg',
    'mmseg.models.decode_heads.dpt_head:FeatureFusionBlock',
    'mmseg.models.decode_heads.dpt_head:ReassembleBlocks',
    why='weights of a DPT decoder under the names of published ones',
)
def blocks_of_dpt():
    from mmseg.models.decode_heads.dpt_head import FeatureFusionBlock, ReassembleBlocks

    fusion = FeatureFusionBlock(4, act_cfg=dict(type='ReLU'), norm_cfg=None)
    names = {name.rpartition('.')[0] for name, _ in fusion.named_parameters()}
    units = {f'res_conv_unit{i}.conv{k}.conv' for i in (1, 2) for k in (1, 2)}
    assert names == units | {'project.conv'}
    blocks = ReassembleBlocks(8, [4, 5, 6, 7], readout_type='project', patch_size=16)
    assert [project.out_channels for project in blocks.projects] == [4, 5, 6, 7]
    assert len(blocks.resize_layers) == 4 and blocks.readout_type == 'project'
    layer, _ = blocks.readout_projects[0]
    assert layer.weight.shape == (8, 16)


@part('transformers', '_model_mapping', why='whether a configuration is a language model')
def language_models():
    from transformers import AutoModelForCausalLM, LlamaConfig, ViTConfig

    assert LlamaConfig in AutoModelForCausalLM._model_mapping
    assert ViTConfig not in AutoModelForCausalLM._model_mapping


@part('transformers', '_init_weights', why='depth fusion starts without effect')
def initialisation_of_modules():
    from transformers import PretrainedConfig, PreTrainedModel

    seen = []

    class Model(PreTrainedModel):
        config_class = PretrainedConfig

        def __init__(self, config):
            super().__init__(config)
            self.layer = nn.Linear(2, 2)
            self.post_init()

        def _init_weights(self, module):
            seen.append(module)

    model = Model(PretrainedConfig())
    assert model.layer in seen


@part(
    'transformers',
    'transformers.models.llava.modeling_llava:LlavaCausalLMOutputWithPast',
    'transformers.models.llava.modeling_llava:LlavaMultiModalProjector',
    why="LLaVA's projector, and what its model gives",
)
def parts_of_llava():
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig
    from transformers.models.llava import modeling_llava

    vision = CLIPVisionConfig(hidden_size=8, num_attention_heads=2)
    language = LlamaConfig(hidden_size=6, num_attention_heads=2)
    config = LlavaConfig(vision_config=vision, text_config=language)
    projector = modeling_llava.LlavaMultiModalProjector(config)
    assert projector.linear_1.in_features == 8 and projector.linear_2.out_features == 6
    fields = set(modeling_llava.LlavaCausalLMOutputWithPast.__dataclass_fields__)
    assert {'loss', 'logits', 'hidden_states', 'attentions'} <= fields
    assert fields & {'past_key_values', 'cache'}, 'its name from transformers 5.24 on'


@part(
    'transformers',
    'TIME_OUT_REMOTE_CODE',
    why="without time for an answer nobody is asked whether a checkpoint's code may run",
)
def no_question_about_code() -> None:
    patience = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        dynamic_module_utils.resolve_trust_remote_code(None, 'x', False, True)
        raise AssertionError('expected a refusal')
    except ValueError as error:
        assert 'trust_remote_code' in str(error)
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = patience


@part('transformers', '_attn_implementation', why='a vision model set to eager attends plainly')
def names_of_attention():
    from transformers import CLIPVisionConfig, CLIPVisionModel

    layers = dict(hidden_size=8, intermediate_size=8, num_attention_heads=2, num_hidden_layers=1)
    model = CLIPVisionModel(CLIPVisionConfig(**layers, image_size=32, patch_size=16))
    assert model.config._attn_implementation == 'sdpa'
    model.set_attn_implementation('eager')
    assert model.config._attn_implementation == 'eager'


@part(
    'transformers',
    'transformers.models.siglip2.image_processing_siglip2:get_image_size_for_max_num_patches',
    why='sizes as NaFlex chooses them',
)
def sizes_of_naflex():
    from transformers.models.siglip2 import image_processing_siglip2

    fit = image_processing_siglip2.get_image_size_for_max_num_patches
    assert tuple(fit(300, 300, 16, 256)) == (256, 256)
    height, width = fit(200, 400, 16, 128)
    assert height % 16 == width % 16 == 0 and height // 16 * (width // 16) <= 128


@part(
    'open_clip',
    'open_clip.transformer:ResidualAttentionBlock',
    'open_clip.transformer:TextTransformer',
    'open_clip.transformer:VisionTransformer',
    'open_clip.transformer:text_global_pool',
    why='which CLIPs are plain ViTs, their blocks one step at a time, and a text tower alone',
)
def trunks_of_clip():
    from open_clip import CLIP, transformer
    from tiny_encoders import CLIP_CONFIG

    model = CLIP(**CLIP_CONFIG)
    visual = model.visual
    assert isinstance(visual, transformer.VisionTransformer)
    assert (visual.attn_pool, visual.pool_type, visual.final_ln_after_pool) == (None, 'tok', False)
    names = 'conv1 class_embedding positional_embedding grid_size ln_pre ln_post proj patch_size'
    assert all(hasattr(visual, name) for name in names.split())
    for block in (*visual.transformer.resblocks, *model.transformer.resblocks):
        assert isinstance(block, transformer.ResidualAttentionBlock)
        assert all(hasattr(block, name) for name in ('ln_1', 'ln_2', 'ls_1', 'ls_2', 'mlp'))
        assert block.attn.in_proj_weight.shape[0] == 3 * block.attn.embed_dim
    assert model.attn_mask is not None and model.text_pool_type == 'argmax'
    names = [name for name in model.state_dict() if not name.startswith(('visual.', 'logit_'))]
    tower = transformer.TextTransformer(77, 49408, width=64, heads=1, layers=2, output_dim=48)
    assert sorted(tower.state_dict()) == sorted(names) and tower.pool_type == 'argmax'
    x, tokens = torch.arange(6.0).view(1, 3, 2), torch.tensor([[5, 9, 0]])
    assert transformer.text_global_pool(x, tokens).tolist() == [[2, 3]]


@part(
    'open_clip',
    'open_clip.pretrained:download_pretrained',
    'open_clip.pretrained:get_pretrained_cfg',
    'open_clip.constants:HF_CONFIG_NAME',
    'open_clip.constants:HF_SAFE_WEIGHTS_NAME',
    'open_clip.constants:HF_WEIGHTS_NAME',
    'open_clip.constants:OPENAI_DATASET_MEAN',
    'open_clip.constants:OPENAI_DATASET_STD',
    why='where weights of a name are, and their statistics',
)
def names_of_clip():
    from open_clip import constants, pretrained

    config = pretrained.get_pretrained_cfg('ViT-B-16', 'openai')
    assert config['quick_gelu'] and tuple(config['mean']) == constants.OPENAI_DATASET_MEAN
    assert tuple(config['std']) == constants.OPENAI_DATASET_STD
    assert not pretrained.get_pretrained_cfg('ViT-B-16', 'none')
    assert not pretrained.download_pretrained({})
    assert constants.HF_CONFIG_NAME == 'open_clip_config.json'
    assert constants.HF_SAFE_WEIGHTS_NAME.endswith('.safetensors')
    assert constants.HF_WEIGHTS_NAME.endswith('.bin')


@part('open_clip', 'open_clip.tokenizer:canonicalize_text', why='text as SigLIP was trained on')
def canonical_text():
    from open_clip.tokenizer import canonicalize_text

    assert canonicalize_text(' A photo,  of_it! ') == 'a photo of it'


if __name__ == '__main__':
    DOCUMENT.write_text(document(), encoding='utf-8')
