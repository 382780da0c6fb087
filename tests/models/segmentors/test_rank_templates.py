import pytest
import torch
from mmseg.structures import SegDataSample
from oracles import clip_features, slide
from torch.nn.functional import interpolate, normalize

from mmseg_siglip.models.segmentors import SCLIPSegmentor
from mmseg_siglip.models.segmentors.rank_templates import add_image
from mmseg_siglip.text.template_ranking import TemplateStatistics

TEMPLATES = ['{}', 'a photo of a {}', 'the {}']


@pytest.fixture
def make(openai_file):
    def build(**options):
        return SCLIPSegmentor(
            dict(pretrained=openai_file),
            ['cat', 'sky, grass', 'road'],
            templates=TEMPLATES,
            logit_scale=30.0,
            test_cfg=dict(crop_size=24, stride=16, window_batch=3),
            **options,
        ).eval()

    return build


@torch.no_grad()
def test_equals_the_formula(make, tiny_clip):
    model, image = make(), torch.randn(3, 40, 56, generator=torch.Generator().manual_seed(0))
    found = TemplateStatistics(3, 3)
    add_image(found, model, image, SegDataSample(metainfo=dict(ori_shape=(50, 61))))
    for index, template in enumerate(TEMPLATES):
        prompts = [template.replace('{}', word) for word in ('cat', 'sky', 'grass', 'road')]
        text = normalize(model.backbone.encode_text(prompts), dim=1)

        def cosines(crop, text=text):
            return torch.einsum('dhw,qd->qhw', clip_features(tiny_clip, crop), text)

        merged = slide(image, 24, 16, cosines)
        p = (30 * interpolate(merged[None], size=(50, 61), mode='bilinear')[0]).softmax(0)
        p = torch.stack([p[0], p[1:3].max(0).values, p[3]])
        entropy, labels = -(p * (p + 1e-10).log()).sum(0), p.argmax(0)
        for kind in range(3):
            pixels = entropy[labels == kind]
            assert abs(found.pixels[index, kind] - len(pixels)) <= 2
            mean = found.entropy[index, kind] / found.pixels[index, kind].clamp(min=1)
            assert not len(pixels) or mean.item() == pytest.approx(pixels.mean().item(), abs=1e-2)


@torch.no_grad()
def test_several_images_add_up_however_many_windows_at_a_time(make):
    model, batch = make(), [torch.randn(3, 40, 32), torch.randn(3, 24, 24)]
    together = TemplateStatistics(3, 3)
    for image in batch:
        add_image(together, model, image, SegDataSample())
    assert together.pixels.sum(1).tolist() == [40 * 32 + 24 * 24] * 3
    model.test_cfg['window_batch'] = 1
    alone = [TemplateStatistics(3, 3) for _ in batch]
    for statistics, image in zip(alone, batch, strict=True):
        add_image(statistics, model, image, SegDataSample())
    entropy = alone[0].entropy + alone[1].entropy
    torch.testing.assert_close(entropy, together.entropy, rtol=1e-3, atol=1e-2)


def test_a_method_without_features_is_refused(make):
    model = make(attention='cliptrase')
    with pytest.raises(ValueError, match="'cliptrase' gives scores: templates are ranked by feat"):
        add_image(TemplateStatistics(3, 3), model, torch.randn(3, 24, 24), SegDataSample())
