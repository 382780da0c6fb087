"""Names and shapes of the files ``sam2.1_hiera_*.pt``, as the package sam2 builds its models."""

from __future__ import annotations

SIZES = dict(
    tiny=dict(width=96, stages=(1, 2, 7, 2), background=7),
    small=dict(width=96, stages=(1, 2, 11, 2), background=7),
    base_plus=dict(width=112, stages=(2, 3, 16, 3), background=14),
    large=dict(width=144, stages=(2, 6, 36, 4), background=7),
)


def layout(width, stages, background, channels=256, hidden=2048, memory=64):
    """Name to shape of every tensor of a whole model, its memory of earlier frames included."""
    c, found = channels, {}

    def put(name, *shape, bias=None):
        found[f'{name}.weight'] = shape
        found[f'{name}.bias'] = (shape[0] if bias is None else bias,)

    def perceptron(name, *widths):
        for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            put(f'{name}.layers.{i}', b, a)

    def attention(name, inner, memory=c):
        put(f'{name}.q_proj', inner, c)
        put(f'{name}.k_proj', inner, memory)
        put(f'{name}.v_proj', inner, memory)
        put(f'{name}.out_proj', c, inner)

    trunk = 'image_encoder.trunk'
    found[f'{trunk}.pos_embed'] = (1, width, background, background)
    found[f'{trunk}.pos_embed_window'] = (1, width, 8, 8)
    put(f'{trunk}.patch_embed.proj', width, 3, 7, 7)
    widths = [width * 2**stage for stage, count in enumerate(stages) for _ in range(count)]
    for i, (before, w) in enumerate(zip([width, *widths[:-1]], widths, strict=True)):
        block = f'{trunk}.blocks.{i}'
        put(f'{block}.norm1', before)
        put(f'{block}.attn.qkv', 3 * w, before)
        put(f'{block}.attn.proj', w, w)
        put(f'{block}.norm2', w)
        perceptron(f'{block}.mlp', w, 4 * w, w)
        if before != w:
            put(f'{block}.proj', w, before)
    for i in range(4):
        put(f'image_encoder.neck.convs.{i}.conv', c, width * 2 ** (3 - i), 1, 1)

    prompts = 'sam_prompt_encoder'
    found[f'{prompts}.pe_layer.positional_encoding_gaussian_matrix'] = (2, c // 2)
    for name in (*(f'point_embeddings.{i}' for i in range(4)), 'not_a_point_embed'):
        found[f'{prompts}.{name}.weight'] = (1, c)
    found[f'{prompts}.no_mask_embed.weight'] = (1, c)
    put(f'{prompts}.mask_downscaling.0', 4, 1, 2, 2)
    put(f'{prompts}.mask_downscaling.1', 4)
    put(f'{prompts}.mask_downscaling.3', 16, 4, 2, 2)
    put(f'{prompts}.mask_downscaling.4', 16)
    put(f'{prompts}.mask_downscaling.6', c, 16, 1, 1)

    decoder = 'sam_mask_decoder'
    for i in range(2):
        layer = f'{decoder}.transformer.layers.{i}'
        attention(f'{layer}.self_attn', c)
        attention(f'{layer}.cross_attn_token_to_image', c // 2)
        attention(f'{layer}.cross_attn_image_to_token', c // 2)
        perceptron(f'{layer}.mlp', c, hidden, c)
        for j in range(1, 5):
            put(f'{layer}.norm{j}', c)
    attention(f'{decoder}.transformer.final_attn_token_to_image', c // 2)
    put(f'{decoder}.transformer.norm_final_attn', c)
    for name, count in dict(iou_token=1, mask_tokens=4, obj_score_token=1).items():
        found[f'{decoder}.{name}.weight'] = (count, c)
    put(f'{decoder}.output_upscaling.0', c, c // 4, 2, 2, bias=c // 4)
    put(f'{decoder}.output_upscaling.1', c // 4)
    put(f'{decoder}.output_upscaling.3', c // 4, c // 8, 2, 2, bias=c // 8)
    put(f'{decoder}.conv_s0', c // 8, c, 1, 1)
    put(f'{decoder}.conv_s1', c // 4, c, 1, 1)
    for i in range(4):
        perceptron(f'{decoder}.output_hypernetworks_mlps.{i}', c, c, c, c // 8)
    perceptron(f'{decoder}.iou_prediction_head', c, c, c, 4)
    perceptron(f'{decoder}.pred_obj_score_head', c, c, c, 1)

    found |= {
        'no_mem_embed': (1, 1, c),
        'no_mem_pos_enc': (1, 1, c),
        'maskmem_tpos_enc': (7, 1, 1, memory),
        'no_obj_ptr': (1, c),
        'no_obj_embed_spatial': (1, memory),
    }
    put('mask_downsample', 1, 1, 4, 4)
    for i in range(4):
        layer = f'memory_attention.layers.{i}'
        attention(f'{layer}.self_attn', c)
        attention(f'{layer}.cross_attn_image', c, memory)
        put(f'{layer}.linear1', hidden, c)
        put(f'{layer}.linear2', c, hidden)
        for j in range(1, 4):
            put(f'{layer}.norm{j}', c)
    put('memory_attention.norm', c)
    encoder = 'memory_encoder.mask_downsampler.encoder'
    for i, (a, b) in enumerate(((1, 4), (4, 16), (16, 64), (64, c))):
        put(f'{encoder}.{3 * i}', b, a, 3, 3)
        put(f'{encoder}.{3 * i + 1}', b)
    put(f'{encoder}.12', c, c, 1, 1)
    put('memory_encoder.pix_feat_proj', c, c, 1, 1)
    for i in range(2):
        layer = f'memory_encoder.fuser.layers.{i}'
        found[f'{layer}.gamma'] = (c,)
        put(f'{layer}.dwconv', c, 1, 7, 7)
        put(f'{layer}.norm', c)
        put(f'{layer}.pwconv1', 4 * c, c)
        put(f'{layer}.pwconv2', c, 4 * c)
    put('memory_encoder.out_proj', memory, c, 1, 1)
    perceptron('obj_ptr_proj', c, c, c, c)
    put('obj_ptr_tpos_proj', memory, c)
    return found
