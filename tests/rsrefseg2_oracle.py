"""RSRefSeg 2 by its formulas, on stock modules of transformers, peft and torch.

Weights carry the names that its training writes (https://github.com/KyanChen/RSRefSeg2): one
module for each step that its config lists, SAM 2 in the names of the package sam2.

Shapes: B images with a phrase each, L tokens, C channels of the towers, E of prompts, grid (h, w),
M = h*w.
"""

from __future__ import annotations

import math
import re
from functools import partial

import torch
from rsrefseg_oracle import IMAGENET, Held, normalised, random_model, stir, with_adapters
from tiny_sams import SAM2_CONFIG
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

INNER, HEADS = 512, 8
VISION_PATTERN = (
    r'^(model\.head\.(attention\.out_proj|mlp\.fc[12])'
    r'|model\.encoder\.layers\.\d+\.self_attn\.(k_proj|v_proj|q_proj|out_proj))$'
)
TEXT_PATTERN = (
    r'^(model\.head|model\.encoder\.layers\.\d+\.self_attn\.(k_proj|v_proj|q_proj|out_proj))$'
)
SAM_PATTERN = r'^(backbone\.blocks\.\d+\.attn\.(qkv|proj)|neck\.convs\.\d+)$'


class PlainAttention(nn.Module):
    def __init__(self, query, memory=None):
        super().__init__()
        self.q_proj = nn.Linear(query, INNER)
        self.k_proj, self.v_proj = (nn.Linear(memory or query, INNER) for _ in range(2))
        self.out_proj = nn.Linear(INNER, query)

    def forward(self, q, k, v):
        heads = [
            part.unflatten(-1, (HEADS, INNER // HEADS)).transpose(1, 2)
            for part in (self.q_proj(q), self.k_proj(k), self.v_proj(v))
        ]
        q, k, v = heads
        weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(-1)
        return self.out_proj((weights @ v).transpose(1, 2).flatten(2))


class PlainMLP(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, INNER), nn.Linear(INNER, width)])

    def forward(self, x):
        return self.layers[1](F.gelu(self.layers[0](x)))


def block(c, e, names):
    """A module for each step, by what its name says."""
    parts = nn.Module()
    for name in names.split():
        width = e if re.match(r'(self_attn|cross_attn|norm|mlp)_prompt', name) else c
        if 'attn' in name:
            memory = e if name == 'self_attn_prompt_1' else c
            part = PlainAttention(width, memory)
        else:
            part = nn.LayerNorm(width) if name.startswith('norm') else PlainMLP(width)
        setattr(parts, name, part)
    return parts


BOTH = ' '.join(
    f'self_attn_query_query{i} norm_query{i}_1 cross_attn_query_text_query{i}_text norm_query{i}_2 '
    f'mlp_query{i}_2 norm_query{i}_3 cross_attn_query_query_query{i}_query{3 - i} norm_query{i}_4 '
    f'mlp_query{i}_3 norm_query{i}_5'
    for i in (1, 2)
)
LOOK = 'norm_text_1 cross_attn_img_text_1 norm_img_1 mlp_img_1 norm_img_2'
PROMPT = (
    'self_attn_prompt_1 norm_prompt_1 cross_attn_prompt_text_1 norm_prompt_2 mlp_prompt_2 '
    'norm_prompt_3 cross_attn_prompt_img_1 norm_prompt_4 mlp_prompt_3 norm_prompt_5'
)


class PlainPrompter(nn.Module):
    def __init__(self, c, e, side):
        super().__init__()
        self.text_query_pe_embedding1, self.text_query_pe_embedding2 = (
            nn.Parameter(torch.randn(3, c)) for _ in range(2)
        )
        self.img_pe = nn.Parameter(torch.randn(1, c, side, side))
        self.prompt_pe_embedding, self.prompt_embedding = (
            nn.Parameter(torch.randn(9, e)) for _ in range(2)
        )
        self.two_queries_text_attn_layers = nn.ModuleList(block(c, e, BOTH) for _ in range(2))
        self.queries1_to_img_attn_layers = nn.ModuleList(
            block(c, e, f'self_attn_text_text_1 {LOOK}') for _ in range(2)
        )
        self.prompt_queries2_img_attn_layers = nn.ModuleList(
            block(c, e, f'self_attn_text_1 {LOOK} {PROMPT}') for _ in range(2)
        )
        self.sparse_prompt_mlp = PlainMLP(e)
        self.dense_prompt_conv = nn.Sequential(
            nn.Conv2d(c, c // 2, 3, padding=1),
            nn.BatchNorm2d(c // 2),
            nn.GELU(),
            nn.Conv2d(c // 2, c, 3, padding=1),
        )

    def apart(self, layer, q1, q2, words):
        """The phrase's two subspaces, in the order of the config's list."""
        p1, p2 = self.text_query_pe_embedding1, self.text_query_pe_embedding2
        q1 = layer.norm_query1_1(q1 + layer.self_attn_query_query1(q1 + p1, q1 + p1, q1))
        q2 = layer.norm_query2_1(q2 + layer.self_attn_query_query2(q2 + p2, q2 + p2, q2))
        read = layer.cross_attn_query_text_query1_text(q1 + p1, words, words)
        q1 = layer.norm_query1_2(q1 + read)
        q1 = layer.norm_query1_3(q1 + layer.mlp_query1_2(q1))
        read = layer.cross_attn_query_text_query2_text(q2 + p2, words, words)
        q2 = layer.norm_query2_2(q2 + read)
        q2 = layer.norm_query2_3(q2 + layer.mlp_query2_2(q2))
        read = layer.cross_attn_query_query_query1_query2(q1 + p1, q2 + p2, q2)
        q1 = layer.norm_query1_4(q1 + read)
        q1 = layer.norm_query1_5(q1 + layer.mlp_query1_3(q1))
        read = layer.cross_attn_query_query_query2_query1(q2 + p2, q1 + p1, q1)
        q2 = layer.norm_query2_4(q2 + read)
        return q1, layer.norm_query2_5(q2 + layer.mlp_query2_3(q2))

    def look(self, layer, own, queries, place, cells, code):
        q = queries + place
        queries = layer.norm_text_1(queries + own(q, q, queries))
        read = layer.cross_attn_img_text_1(cells + code, queries + place, queries)
        cells = layer.norm_img_1(cells + read)
        return queries, layer.norm_img_2(cells + layer.mlp_img_1(cells))

    def forward(self, v, words, pooled, s, b, size):
        """V (B, C, h, w), words (B, L, C) and t (B, C) to prompts (B, 9, E), a mask
        (B, 1, size, size), and both subspaces' queries (B, 3, C)."""
        q1 = q2 = F.adaptive_avg_pool1d(words.transpose(1, 2), 3).transpose(1, 2)
        for layer in self.two_queries_text_attn_layers:
            q1, q2 = self.apart(layer, q1, q2, words)
        code = self.img_pe.flatten(2).transpose(1, 2)
        cells, queries = v.flatten(2).transpose(1, 2), q1
        for layer in self.queries1_to_img_attn_layers:
            own, place = layer.self_attn_text_text_1, self.text_query_pe_embedding1
            queries, cells = self.look(layer, own, queries, place, cells, code)
        p, queries = self.prompt_embedding.expand(len(v), -1, -1), q2
        at, place = self.prompt_pe_embedding, self.text_query_pe_embedding2
        for layer in self.prompt_queries2_img_attn_layers:
            queries, cells = self.look(layer, layer.self_attn_text_1, queries, place, cells, code)
            p = layer.norm_prompt_1(p + layer.self_attn_prompt_1(p + at, p + at, p))
            read = layer.cross_attn_prompt_text_1(p + at, queries + place, queries)
            p = layer.norm_prompt_2(p + read)
            p = layer.norm_prompt_3(p + layer.mlp_prompt_2(p))
            p = layer.norm_prompt_4(p + layer.cross_attn_prompt_img_1(p + at, cells + code, cells))
            p = layer.norm_prompt_5(p + layer.mlp_prompt_3(p))
        large = self.dense_prompt_conv(cells.transpose(1, 2).unflatten(2, v.shape[-2:]))
        large = F.interpolate(large, size=(size, size), mode='bilinear', align_corners=True)
        mask = torch.einsum('bchw,bc->bhw', F.normalize(large, dim=1), F.normalize(pooled, dim=1))
        return self.sparse_prompt_mlp(p), s * mask[:, None] + b, q1, q2


class PlainRSRefSeg2(nn.Module):
    """On a SigLIP and a SAM 2 of transformers, which it takes apart."""

    def __init__(self, siglip, sam, tokenizer=None, *, rank=4):
        super().__init__()
        self.tokenizer = tokenizer
        adapted = partial(with_adapters, rank=rank, dropout=0.0)
        vision = siglip.config.vision_config
        self.input_side, self.side = vision.image_size, vision.image_size // vision.patch_size
        self.size = sam.config.prompt_encoder_config.image_size // 4
        self.sam = sam
        sam.vision_encoder = adapted(sam.vision_encoder, SAM_PATTERN)
        self.clip_vision_encoder = adapted(Held(siglip.vision_model), VISION_PATTERN)
        logit = dict(logit_scale=siglip.logit_scale, logit_bias=siglip.logit_bias)
        self.clip_text_encoder = adapted(Held(siglip.text_model, **logit), TEXT_PATTERN)
        prompts = sam.config.prompt_encoder_config.hidden_size
        self.prompter = PlainPrompter(vision.hidden_size, prompts, self.side)
        self.decode_head = nn.Module()
        for name, value in (('scale', math.log(1 / 0.07)), ('bias', math.log(0.5))):
            for i in (1, 2):
                setattr(self.decode_head, f'logit_{name}{i}', nn.Parameter(torch.tensor(value)))
        stir(self)
        with torch.no_grad():
            siglip.logit_scale.fill_(2.0)
            siglip.logit_bias.fill_(-1.5)

    def published_state(self):
        """The state dict as their code names it."""
        state = {}
        for name, value in self.state_dict().items():
            if not name.startswith('sam.'):
                state[name] = value
            elif not name.startswith('sam.shared_image_embedding.'):
                state |= in_sam2_names(name.removeprefix('sam.'), value)
        return state

    def prompt(self, images, texts):
        """What the prompter makes of B images (3, S, S) in [0, 1] and B phrases, and V."""
        small = F.interpolate(2 * images - 1, size=(self.input_side,) * 2, mode='bilinear')
        v = self.clip_vision_encoder(small).last_hidden_state
        v = v.transpose(1, 2).unflatten(2, (self.side, self.side))
        words = self.clip_text_encoder(**self.tokenizer(texts, padding=True, return_tensors='pt'))
        s, b = self.clip_text_encoder.logit_scale.exp(), self.clip_text_encoder.logit_bias
        made = self.prompter(v, words.last_hidden_state, words.pooler_output, s, b, self.size)
        return *made, v

    def forward(self, images, texts):
        """Logits (B, 1, S/4, S/4)."""
        sparse, mask, *_ = self.prompt(images, texts)
        decoder, side = self.sam.mask_decoder, self.size // 4
        features = self.sam.vision_encoder(normalised(images, *IMAGENET)).fpn_hidden_states
        fine, middle, coarse = features
        centres = (torch.arange(side) + 0.5) / side
        y, x = torch.meshgrid(centres, centres, indexing='ij')
        code = self.sam.prompt_encoder.shared_embedding(torch.stack([x, y], -1))
        masks, *_ = decoder(
            image_embeddings=coarse + self.sam.no_memory_embedding.reshape(1, -1, 1, 1),
            image_positional_embeddings=code.permute(2, 0, 1)[None],
            sparse_prompt_embeddings=sparse[:, None],
            dense_prompt_embeddings=self.sam.prompt_encoder(None, None, None, mask)[1],
            multimask_output=False,
            high_resolution_features=[decoder.conv_s0(fine), decoder.conv_s1(middle)],
        )
        return masks[:, 0]


WRAPPED = 'image_encoder.base_model.model.'
SAM2_NAMES = (
    (r'\.patch_embed\.projection\.', '.patch_embed.proj.'),
    (r'^vision_encoder\.base_model\.model\.backbone\.', f'{WRAPPED}trunk.'),
    (r'^vision_encoder\.base_model\.model\.neck\.convs\.(\d+)\.', rf'{WRAPPED}neck.convs.\1.conv.'),
    (r'\.layer_norm_final_attn\.', '.norm_final_attn.'),
    (r'^no_memory_embedding$', 'no_mem_embed'),
    (r'mask_embed\.conv1', 'mask_downscaling.0'),
    (r'mask_embed\.layer_norm1', 'mask_downscaling.1'),
    (r'mask_embed\.conv2', 'mask_downscaling.3'),
    (r'mask_embed\.layer_norm2', 'mask_downscaling.4'),
    (r'mask_embed\.conv3', 'mask_downscaling.6'),
    (r'\.upscale_conv1\.', '.output_upscaling.0.'),
    (r'\.upscale_layer_norm\.', '.output_upscaling.1.'),
    (r'\.upscale_conv2\.', '.output_upscaling.3.'),
    (r'\.shared_embedding\.positional_embedding$', '.pe_layer.positional_encoding_gaussian_matrix'),
    (r'\.layer_norm(\d)\.', r'.norm\1.'),
    (r'\.o_proj\.', '.out_proj.'),
    (r'(_head|_mlps\.\d)\.layers\.0\.', r'\1.layers.1.'),
    (r'(_head|_mlps\.\d)\.proj_out\.', r'\1.layers.2.'),
    (r'\.proj_out\.', '.layers.1.'),
    (r'\.proj_in\.', '.layers.0.'),
    (r'^(prompt_encoder|mask_decoder)\.', r'sam_\1.'),
)  # fmt: skip


def in_sam2_names(name, value):
    """A tensor of transformers' Sam2Model as the package sam2 has it, below ``backbone.model``."""
    if name == 'prompt_encoder.point_embed.weight':
        stem = 'backbone.model.sam_prompt_encoder.point_embeddings'
        return {f'{stem}.{i}.weight': row[None] for i, row in enumerate(value)}
    for pattern, replacement in SAM2_NAMES:
        name = re.sub(pattern, replacement, name)
    return {f'backbone.model.{name}': value}


def small_rsrefseg2(folder):
    """On the encoder of `write_encoder` and a small SAM 2."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    siglip = AutoModel.from_pretrained(folder)
    return PlainRSRefSeg2(siglip, random_model(SAM2_CONFIG), tokenizer).eval()
