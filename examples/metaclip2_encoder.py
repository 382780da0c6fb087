"""An encoder of your own: MetaCLIP 2, CLIP in 300 languages, https://arxiv.org/abs/2507.22062.

    import metaclip2_encoder  # registers it; in a config: custom_imports
    from mmseg_siglip.api import OpenVocabSegmenter

    segmenter = OpenVocabSegmenter.from_pretrained('facebook/metaclip-2-worldwide-huge-quickgelu')
    segmenter('photo.jpg', '猫, Hund, herbe')

Shapes: B images, N = 1 + h*w tokens (CLS first), C trunk channels, D joint channels.
"""

import torch

from mmseg_siglip.models.backbones.position import resize_position
from mmseg_siglip.models.backbones.siglip import SigLIPBlock
from mmseg_siglip.models.backbones.transformers_backbone import TransformersBackbone
from mmseg_siglip.registry import MODELS


@MODELS.register_module()
class MetaCLIP2Backbone(TransformersBackbone):
    """MetaCLIP 2 as a dense encoder, on transformers' `MetaClip2Model`.

    Args:
        pretrained: A transformers folder or Hub id. None builds random weights from `config`.
        config: See `TransformersBackbone.open_checkpoint`, as are `tokenizer` and `revision`.
        attention: Default of `dense`.
        out_indices: See `VisionLanguageBackbone`.
        with_cp: See `VisionLanguageBackbone`.
    """

    model_types = ('metaclip_2',)
    num_prefix = 1
    pixels = ((0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758))  # where no processor tells
    idle = ('logit_scale',)

    def __init__(
        self,
        pretrained=None,
        *,
        config=None,
        tokenizer=None,
        attention='csa',
        out_indices=(-1,),
        with_cp=False,
        revision=None,
    ):
        super().__init__(attention=attention, out_indices=out_indices, with_cp=with_cp)
        self.open_checkpoint(pretrained, config=config, tokenizer=tokenizer, revision=revision)
        self.embed_dim = self.config.projection_dim
        self.finish()

    @classmethod
    def recognises(cls, source):
        # A bare file of its weights has the names of CLIP's, so that only a folder tells.
        return source.model_type in cls.model_types

    # Images: tokens, the blocks that they run through, and the way into the joint space.

    @property
    def vision(self):
        return self.model.vision_model

    def blocks(self):
        return [SigLIPBlock(layer) for layer in self.vision.encoder.layers]  # the same names

    def embed(self, images, grid):
        part = self.vision.embeddings
        x = part.patch_embedding(images).flatten(2).transpose(1, 2)
        cls_position, position = part.position_embedding.weight.tensor_split([1])
        x = x + resize_position(position, self.native_grid, grid)
        cls = (part.class_embedding + cls_position).expand(len(x), 1, -1)
        return self.vision.pre_layrnorm(torch.cat([cls, x], dim=1))

    def norm(self, x):
        return self.vision.post_layernorm(x)

    def project(self, tokens, *, readout=None):
        self.check_readout(readout or self.readouts[0])
        return tokens.replace(self.model.visual_projection(self.norm(tokens.x))).map

    def summary(self, x):
        return self.norm(x[:, 0])

    def pool(self, x):
        return self.model.visual_projection(self.summary(x))

    # Words.

    def encode_text_tokens(self, texts):
        ids, real = self.tokenize(texts)
        longest = int(real.sum(1).max())  # the tower is causal: what follows changes nothing
        ids, real = ids[:, :longest], real[:, :longest]
        output = self.model.text_model(input_ids=ids, attention_mask=real.long())
        return output.last_hidden_state, real, self.project_text(output.pooler_output)

    def project_text(self, tokens):
        return self.model.text_projection(tokens)

    def is_text(self, name):
        return name.startswith(('text_model.', 'text_projection.'))

    def drop_text(self):
        self.model.text_model = self.model.text_projection = None

    def set_logit(self, *, scale, bias):
        if bias:
            raise ValueError(f'logit_bias: expected 0, as MetaCLIP 2 has none, found {bias}')
        with torch.no_grad():
            self.model.logit_scale.fill_(torch.tensor(scale).log())

    # What training, LoRA and vision-only forms choose from.

    def towers(self):
        return {name: self.layers(f'{name}_model.encoder.layers') for name in ('vision', 'text')}

    def unread(self, method, *, readout=None):
        if method.pools:
            return []
        layer = self.vision.encoder.layers[-1]
        attention = layer.self_attn
        projections = dict(q=attention.q_proj, k=attention.k_proj, v=attention.v_proj)
        parts = [part for name, part in projections.items() if name not in method.reads]
        return parts if method.ffn else [*parts, layer.layer_norm2, layer.mlp]

    def vision_parts(self, blocks, *, norm, pooling):
        vision = self.vision
        parts = [vision.embeddings, vision.pre_layrnorm, *vision.encoder.layers[:blocks]]
        return parts + ([vision.post_layernorm] if norm or pooling else [])

    def pooling_parts(self):
        return []

    def drop_pooling(self):
        self.model.visual_projection = None
