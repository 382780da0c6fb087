"""RSRefSeg by its formulas, on stock modules of transformers, peft and torch.

Weights carry the names that its training writes (https://github.com/KyanChen/RSRefSeg).

Shapes: B images with a phrase each, L tokens, C channels of the towers, E of prompts, grid (h, w).
"""

from __future__ import annotations

from functools import partial

import torch
from peft import LoraConfig, get_peft_model
from tiny_encoders import TEXT, TOWER, write_siglip
from tiny_sams import SAM_CONFIG, disturb
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoTokenizer

SIDE = 46  # five patches of 8 pixels, and 6 pixels that none of them sees
SIGLIP = dict(model_type='siglip', vision_config=dict(TOWER, image_size=SIDE), text_config=TEXT)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MATRICES = ['k_proj', 'v_proj', 'q_proj', 'out_proj']
TEXT_PATTERN = (
    r'(^model\.encoder\.layers\..*\.self_attn\.(k_proj|v_proj|q_proj|out_proj))|(^model\.head)'
)
SAM_MATRICES = ['qkv', 'proj', 'lin1', 'lin2', 'neck.conv1', 'neck.conv2']


class Held(nn.Module):
    """A model beside other parts, as their training code holds it."""

    def __init__(self, model, **others):
        super().__init__()
        self.model = model
        for name, part in others.items():
            setattr(self, name, part)

    def forward(self, *args, **options):
        return self.model(*args, **options)


def with_adapters(module, targets, *, rank, dropout=0.1):
    config = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=dropout, target_modules=targets)
    return get_peft_model(module, config)


def small_rsrefseg(folder):
    """On the encoder of `write_encoder` and a small SAM."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    siglip = AutoModel.from_pretrained(folder)
    return PlainRSRefSeg(siglip, random_model(SAM_CONFIG), tokenizer).eval()


def write_encoder(folder):
    """A SigLIP whose tokenizer gives no mask, as the published ones."""
    write_siglip(folder, SIGLIP)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_input_names = ['input_ids']
    tokenizer.save_pretrained(folder)
    return str(folder)


def random_model(config):
    torch.manual_seed(1)
    fields = dict(config)
    return AutoModel.from_config(AutoConfig.for_model(fields.pop('model_type'), **fields))


def convolution(inputs, outputs, kernel, *, norm=True, **options):
    block = nn.Module()
    block.conv = nn.Conv2d(inputs, outputs, kernel, bias=not norm, **options)
    if norm:
        block.bn = nn.BatchNorm2d(outputs)
    return block


def run(block, x):
    return F.gelu(block.bn(block.conv(x))) if hasattr(block, 'bn') else block.conv(x)


def normalised(images, mean, std):
    return (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def stir(model):
    """Weights and statistics that matter, adapters included."""
    disturb(model, seed=2, scale=0.15)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
    return model


class PlainRSRefSeg(nn.Module):
    """On a SigLIP and a SAM of transformers, which it takes apart."""

    def __init__(self, siglip, sam, tokenizer=None, *, rank=4):
        super().__init__()
        self.tokenizer = tokenizer
        adapted = partial(with_adapters, rank=rank)
        vision = siglip.config.vision_config
        self.side, self.patch = vision.image_size, vision.patch_size
        width, prompts = vision.hidden_size, sam.config.prompt_encoder_config.hidden_size
        code = sam.shared_image_embedding
        self.backbone = adapted(Held(sam.vision_encoder, shared_image_embedding=code), SAM_MATRICES)
        self.clip_vision_encoder = adapted(Held(siglip.vision_model), MATRICES)
        logit = dict(logit_scale=siglip.logit_scale, logit_bias=siglip.logit_bias)
        self.clip_text_encoder = adapted(Held(siglip.text_model, **logit), TEXT_PATTERN)
        self.sam_prompt_encoder = Held(sam.prompt_encoder)
        self.sam_mask_decoder = Held(sam.mask_decoder)
        self.prompter_down_channel = convolution(3 * width, prompts, 1)
        self.prompter_down_spatial = nn.Sequential(
            convolution(prompts, prompts, 3, stride=2, padding=1),
            convolution(prompts, prompts, 3, stride=2, padding=1),
            convolution(prompts, prompts, 1, norm=False),
        )
        stir(self)
        with torch.no_grad():
            siglip.logit_scale.fill_(2.0)
            siglip.logit_bias.fill_(-1.5)

    def code(self, side):
        centres = (torch.arange(side) + 0.5) / side
        y, x = torch.meshgrid(centres, centres, indexing='ij')
        return self.backbone.shared_image_embedding(torch.stack([x, y], -1)).permute(2, 0, 1)[None]

    @torch.no_grad()
    def forward(self, images, texts):
        """Logits (B, 1, S/4, S/4) of B images (3, S, S) in [0, 1] and B phrases."""
        sam = self.backbone(normalised(images, *IMAGENET)).last_hidden_state
        small = F.interpolate(2 * images - 1, size=(self.side,) * 2, mode='bilinear')
        v = self.clip_vision_encoder(small).last_hidden_state
        side = self.side // self.patch
        v = v.transpose(1, 2).unflatten(2, (side, side))
        words = self.clip_text_encoder(**self.tokenizer(texts, padding=True, return_tensors='pt'))
        tokens, pooled = words.last_hidden_state, words.pooler_output
        s, b = self.clip_text_encoder.logit_scale.exp(), self.clip_text_encoder.logit_bias
        unit, said, phrase = F.normalize(v, dim=1), F.normalize(tokens, dim=2), F.normalize(pooled)
        a = (torch.einsum('bchw,bdc->bdhw', unit, said) * s + b).sigmoid()
        local = (v + torch.einsum('bdhw,bchw->bchw', a, v) / a.shape[1]) / 2
        g = torch.einsum('bchw,bc->bhw', unit, phrase)[:, None] * s + b
        x = run(self.prompter_down_channel, torch.cat([local, g.sigmoid() * v, v], 1))
        x = x + self.code(side)
        for block in self.prompter_down_spatial:
            x = run(block, x)
        large = F.interpolate(g, size=[4 * n for n in sam.shape[-2:]], mode='bilinear')
        dense = self.sam_prompt_encoder(None, None, None, large)[1]
        masks, *_ = self.sam_mask_decoder(
            image_embeddings=sam,
            image_positional_embeddings=self.code(sam.shape[-1]),
            sparse_prompt_embeddings=x.flatten(2).transpose(1, 2)[:, None],
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return masks[:, 0]
