"""Talk2DINO: DINOv2's patches as they are, and CLIP's words led to them by two layers.

Paper: https://arxiv.org/abs/2411.19331.
Shapes: B images, N prompts of L tokens, T channels of CLIP's text tower, E of CLIP's joint space,
D of DINOv2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from open_clip import CLIP
from torch import Tensor, nn

from mmseg_siglip.models.backbones.causal_text import CausalText
from mmseg_siglip.models.backbones.clip import build_clip
from mmseg_siglip.models.backbones.clip_checkpoint import read_clip_checkpoint
from mmseg_siglip.models.backbones.dino import IMAGENET, DinoVision, load_dino
from mmseg_siglip.models.backbones.image_size import resolve_image_size
from mmseg_siglip.models.backbones.mean_pooled import MeanPooled
from mmseg_siglip.models.backbones.towers import Tower
from mmseg_siglip.models.backbones.transformers_backbone import Described
from mmseg_siglip.models.backbones.trunk import Method
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.source import Source
from mmseg_siglip.weights.state import load_strict

PROJECTION = ('linear_layer.weight', 'hidden_layers.0.weight')


@MODELS.register_module()
class Talk2DINOBackbone(MeanPooled, DinoVision, CausalText):
    """DINOv2 with registers as a dense encoder that CLIP's words were taught to name.

    A patch is compared with words as it leaves the final norm: its authors' way is
    ``attention='vanilla'`` on windows of 448 pixels. Of a word, CLIP's vectors in all templates are
    averaged as they are, and the mean is projected, which is no linear map.

    Not published, and ours: the encoder's own vector of an image is the mean of its patches, as
    these are what words were compared with; the factor on cosines is CLIP's.

    Args:
        pretrained: A projection file of https://github.com/lorebianchi98/Talk2DINO
            (``vitb_mlp_infonce.pth``), or a file of all weights, which `dino` and `clip` then only
            describe. None draws the projection at random.
        dino: DINOv2 with registers of transformers: a folder, a Hub id, or a mapping (with its
            `model_type`) for random weights.
        clip: CLIP, whose text tower is taken: see `read_clip_checkpoint`, or open_clip's
            configuration as a mapping for random weights.
        attention: Default of `dense`.
        out_indices: See `VisionLanguageBackbone`.
        with_cp: See `VisionLanguageBackbone`.

    Raises:
        ValueError: A checkpoint is of another kind, or its weights do not fit.
    """

    idle = ('logit_scale', 'mask_token')

    def __init__(
        self,
        pretrained: str | Source | None = None,
        *,
        dino: Described = 'facebook/dinov2-with-registers-base',
        clip: str | Mapping = 'ViT-B-16:openai',
        attention: str | dict | Method = 'vanilla',
        out_indices: Sequence[int] = (-1,),
        with_cp: bool = False,
    ) -> None:
        super().__init__(attention=attention, out_indices=out_indices, with_cp=with_cp)
        is_random = isinstance(clip, Mapping)
        checkpoint = read_clip_checkpoint(*((None, clip) if is_random else (clip, None)))
        text = build_clip(checkpoint.config, str(clip), checkpoint.state)
        if checkpoint.state is not None:
            load_strict(text, checkpoint.state, str(clip))
        self.model = Talk2DINO(load_dino(dino, 'dinov2_with_registers'), text)
        if pretrained is not None:
            source = Source.open(pretrained)
            is_whole = any(name.startswith('dino.') for name in source.tensors)
            load_strict(self.model if is_whole else self.model.projection, source.tensors, source)

        config = self.model.dino.config
        self.num_prefix = 1 + config.num_register_tokens
        self.image_size, self.patch_size = resolve_image_size(None, config), config.patch_size
        self.hidden_size = self.embed_dim = config.hidden_size
        self.mean, self.std = (tuple(255 * v for v in values) for values in IMAGENET)
        self.set_text(checkpoint.config)
        self.finish()

    @classmethod
    def recognises(cls, source: Source) -> bool:
        return all(map(source.has, PROJECTION))

    @property
    def vision(self) -> nn.Module:
        return self.model.dino

    @property
    def text_tower(self) -> CLIP:
        return self.model.text

    def encode_prompts(self, texts: Sequence[str]) -> Tensor:
        """CLIP's own vectors, (N, E)."""
        return super().project_text(self.read_end(self.tokenize(texts)))

    def from_prompts(self, mean: Tensor) -> Tensor:
        return self.model.projection(mean)

    def project_text(self, tokens: Tensor) -> Tensor:
        return self.model.projection(super().project_text(tokens))

    def is_text(self, name: str) -> bool:
        return name.startswith(('text.', 'projection.'))

    def towers(self) -> dict[str, Tower]:
        return dict(
            vision=self.vision_layers('dino.encoder.layer'),
            text=self.text_layers('text.transformer.resblocks'),
        )

    def drop_text(self) -> None:
        self.model.text = self.model.projection = None


class Talk2DINO(nn.Module):
    """The three parts, and CLIP's factor on cosines."""

    logit_bias = None

    def __init__(self, dino: nn.Module, text: CLIP) -> None:
        super().__init__()
        self.dino, self.text = dino, text
        self.projection = TextToPatches(text.text_projection.shape[1], dino.config.hidden_size)
        self.logit_scale = text.logit_scale
        text.visual = text.logit_scale = text.logit_bias = None


class TextToPatches(nn.Module):
    """CLIP's vectors (..., E) to DINOv2's space (..., D), by the names of its weights' files."""

    def __init__(self, clip_channels: int, channels: int) -> None:
        super().__init__()
        self.linear_layer = nn.Linear(clip_channels, channels)
        self.hidden_layers = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, vectors: Tensor) -> Tensor:
        return self.hidden_layers[0](self.linear_layer(vectors).tanh())
