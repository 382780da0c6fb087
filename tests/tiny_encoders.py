"""Tiny encoders with random weights, in their publishers' formats."""

import json
import string
from contextlib import contextmanager
from pathlib import Path

import pytest
import timm
import torch
from open_clip import CLIP, CustomTextCLIP
from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast, SiglipImageProcessor
from transformers.models.tipsv2.image_processing_tipsv2 import Tipsv2ImageProcessor
from transformers.models.tipsv2.tokenization_tipsv2 import Tipsv2Tokenizer

import mmseg_siglip

WORDS = 'a photo of the cat dog sky grass red star road person in large small'.split()
CLIP_CONFIG = dict(
    embed_dim=48,
    quick_gelu=True,
    vision_cfg=dict(layers=3, width=128, patch_size=8, image_size=32),
    text_cfg=dict(context_length=77, vocab_size=49408, width=64, heads=1, layers=2),
)
TOWER = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, patch_size=8
)
TEXT = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    vocab_size=4096,
    max_position_embeddings=16,
    projection_size=32,
    bos_token_id=0,
    eos_token_id=1,
    pad_token_id=1,
)
SIGLIP_CONFIGS = dict(
    siglip=dict(model_type='siglip', vision_config=dict(TOWER, image_size=32), text_config=TEXT),
    siglip2=dict(model_type='siglip2', vision_config=dict(TOWER, num_patches=16), text_config=TEXT),
)

SMALL = dict(hidden_size=32, num_attention_heads=4)
TIPS_CONFIG = dict(
    model_type='tipsv2',
    vision_config=dict(
        SMALL, num_hidden_layers=3, mlp_ratio=2, image_size=32, patch_size=8, layerscale_value=0.7
    ),
    text_config=dict(SMALL, num_hidden_layers=2, intermediate_size=48, vocab_size=32),
)
DINO_SIZES = dict(
    SMALL,
    num_hidden_layers=3,
    image_size=32,
    patch_size=8,
    num_register_tokens=2,
    layerscale_value=0.7,
)
DINO_CONFIG = dict(DINO_SIZES, model_type='dinov2_with_registers', mlp_ratio=2)
RADIO_CONFIG = dict(
    SMALL,
    model_type='radio',
    num_hidden_layers=3,
    mlp_ratio=2.0,
    image_size=32,
    patch_size=8,
    max_img_size=48,
    num_cls_tokens=2,
    num_registers=3,
)
DINO3_CONFIG = dict(DINO_SIZES, model_type='dinov3_vit', intermediate_size=48)
LETTERS = {
    token: i for i, token in enumerate(['<pad>', '<unk>', '\u2581', *string.ascii_lowercase])
}
PE_SIZES = dict(
    img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=2, ref_feat_shape=(4, 4)
)
PE_CONFIG = dict(
    embed_dim=40,
    vision_cfg=dict(
        image_size=32,
        timm_model_name='vit_pe_core_tiny_patch16_384',
        timm_model_pretrained=False,
        timm_pool='map',
        timm_proj=None,
    ),
    text_cfg=dict(context_length=32, vocab_size=49408, width=32, heads=2, layers=2),
    custom_text=True,
)


@pytest.fixture(scope='session')
def clip_config():
    return CLIP_CONFIG


@pytest.fixture(scope='session')
def tiny_clip():
    """A stock open_clip CLIP; residual weights large enough for the last block to matter."""
    torch.manual_seed(0)
    model = CLIP(**CLIP_CONFIG).eval().requires_grad_(False)
    for parameter in model.visual.parameters():
        parameter += 0.05 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope='session')
def openai_file(tiny_clip, tmp_path_factory):
    """`tiny_clip` as OpenAI publishes a state dict: its three marks among the weights."""
    marks = dict(input_resolution=32, context_length=77, vocab_size=49408)
    state = tiny_clip.state_dict() | {name: torch.tensor(n) for name, n in marks.items()}
    path = tmp_path_factory.mktemp('openai') / 'ViT-tiny.pt'
    torch.save(state, path)
    return str(path)


def write_siglip(folder, config):
    torch.manual_seed(0)
    fields = dict(config)
    model = AutoModel.from_config(AutoConfig.for_model(fields.pop('model_type'), **fields))
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    SiglipImageProcessor(size=dict(height=32, width=32)).save_pretrained(folder)
    return str(folder)


def known_words():
    """`WORDS`, then all that the shipped vocabularies hold, as SigLIP cleans them."""
    cleaned = str.maketrans('', '', string.punctuation)
    lists = sorted((Path(mmseg_siglip.__file__).parent / 'text/vocabularies').glob('*.txt'))
    text = ' '.join(path.read_text(encoding='utf-8').replace(',', ' ') for path in lists)
    return list(dict.fromkeys([*WORDS, *text.lower().translate(cleaned).split()]))


def write_tokenizer(folder):
    words = {word: i for i, word in enumerate(['<pad>', '</s>', '<unk>', *known_words()])}
    tokenizer = Tokenizer(WordLevel(words, unk_token='<unk>'))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token='<pad>',
        eos_token='</s>',
        unk_token='<unk>',
        model_max_length=TEXT['max_position_embeddings'],
    ).save_pretrained(folder)


@contextmanager
def small_timm(**sizes):
    """Whatever is built of timm's meanwhile has these sizes."""
    create = timm.create_model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, 'create_model', lambda *args, **kw: create(*args, **sizes | kw))
        yield


def open_clip_model(config):
    """A stock open_clip model; weights large enough for every part to matter."""
    torch.manual_seed(0)
    fields = {name: value for name, value in config.items() if name != 'custom_text'}
    model = CustomTextCLIP(**fields).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter += 0.05 * torch.randn_like(parameter)
    return model


def write_open_clip(folder, config, model, **pixels):
    """A folder as open_clip has them on the Hub."""
    config = dict(model_cfg=config, preprocess_cfg=pixels)
    Path(folder, HF_CONFIG_NAME).write_text(json.dumps(config))
    save_file(model.state_dict(), Path(folder, HF_SAFE_WEIGHTS_NAME))
    return str(folder)


@pytest.fixture(scope='session')
def siglip_folder(tmp_path_factory):
    return write_siglip(tmp_path_factory.mktemp('siglip'), SIGLIP_CONFIGS['siglip'])


@pytest.fixture(scope='session')
def naflex_folder(tmp_path_factory):
    return write_siglip(tmp_path_factory.mktemp('naflex'), SIGLIP_CONFIGS['siglip2'])


def tips_model(**vision):
    torch.manual_seed(0)
    fields = dict(TIPS_CONFIG, vision_config=TIPS_CONFIG['vision_config'] | vision)
    model = AutoModel.from_config(AutoConfig.for_model(fields.pop('model_type'), **fields)).eval()
    for name, parameter in model.requires_grad_(False).named_parameters():
        if name != 'temperature':
            parameter += 0.05 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope='session')
def tips_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tips')
    tips_model().save_pretrained(folder)
    Tipsv2Tokenizer(vocab=LETTERS).save_pretrained(folder)
    Tipsv2ImageProcessor(size=dict(height=32, width=32)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope='session')
def pe_folder(tmp_path_factory):
    with small_timm(**PE_SIZES):
        folder = tmp_path_factory.mktemp('pe')
        return write_open_clip(folder, PE_CONFIG, open_clip_model(PE_CONFIG))


def dino_model(config, **change):
    """A DINO of transformers; weights large enough for every part to matter."""
    torch.manual_seed(0)
    fields = dict(config, **change)
    model = AutoModel.from_config(AutoConfig.for_model(fields.pop('model_type'), **fields)).eval()
    for parameter in model.requires_grad_(False).parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope='session')
def dino_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('dino')
    dino_model(DINO_CONFIG).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope='session')
def dino3_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('dino3')
    dino_model(DINO3_CONFIG).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope='session')
def radio_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('radio')
    dino_model(RADIO_CONFIG).save_pretrained(folder)
    return str(folder)
