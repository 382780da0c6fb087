import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample

from mmseg_siglip.models.data_preprocessor import ImageListPreProcessor, UnitImagePreProcessor

OPTIONS = dict(mean=[1.0, 2.0, 3.0], std=[2.0, 4.0, 8.0], bgr_to_rgb=True)


def test_sizes_may_differ_and_values_are_mmsegs():
    images = [torch.randint(0, 255, (3, *size), dtype=torch.uint8) for size in [(4, 6), (5, 3)]]
    samples = [SegDataSample(metainfo=dict(ori_shape=(i, i))) for i in range(2)]
    out = ImageListPreProcessor(**OPTIONS)(dict(inputs=images, data_samples=samples))
    stock = SegDataPreProcessor(**OPTIONS)
    for image, result in zip(images, out['inputs'], strict=True):
        assert torch.equal(result, stock(dict(inputs=[image]))['inputs'][0])
    assert [sample.ori_shape for sample in out['data_samples']] == [(0, 0), (1, 1)]


def test_by_hand():
    image = torch.tensor([30.0, 20.0, 10.0]).view(3, 1, 1)
    out = ImageListPreProcessor(**OPTIONS)(dict(inputs=[image]))
    assert out['inputs'][0].flatten().tolist() == [4.5, 4.5, 3.375]
    assert out['data_samples'] is None


def test_a_stacked_batch_is_taken_apart():
    out = ImageListPreProcessor(**OPTIONS)(dict(inputs=torch.zeros(2, 3, 4, 4)))
    assert [image.shape for image in out['inputs']] == [(3, 4, 4)] * 2


@pytest.mark.parametrize('training', [False, True])
def test_unit_images_keep_their_sizes_and_nothing_else(training):
    images = [torch.full((3, 4, 5), 255, dtype=torch.uint8), torch.zeros(3, 2, 7)]
    images[1][0] = 51.0  # blue, as MMSeg loads it
    found = UnitImagePreProcessor()(dict(inputs=images, data_samples=None), training)['inputs']
    assert [tuple(image.shape) for image in found] == [(3, 4, 5), (3, 2, 7)]
    assert found[0].min() == found[0].max() == 1
    assert found[1][:, 0, 0].tolist() == pytest.approx([0.0, 0.0, 0.2])
    same = UnitImagePreProcessor(bgr_to_rgb=False)(dict(inputs=images[1:]), training)['inputs'][0]
    assert same[:, 0, 0].tolist() == pytest.approx([0.2, 0.0, 0.0])


def test_labels_of_many_classes_are_not_filled_with_one():
    def batch(highest):
        sample = SegDataSample(metainfo=dict(img_shape=(4, 4)))
        sample.gt_sem_seg = PixelData(data=torch.tensor([[[0, highest]] * 2]).repeat(1, 2, 2))
        return dict(inputs=[torch.zeros(3, 4, 4)], data_samples=[sample])

    def padded(highest, **fill):
        options = dict(OPTIONS, size=(6, 6), **fill)
        (sample,) = ImageListPreProcessor(**options)(batch(highest), training=True)['data_samples']
        return sample.gt_sem_seg.data[0, -1, -1].item()

    assert padded(170) == 255 and padded(846, seg_pad_val=65535) == 65535
    with pytest.raises(ValueError, match='seg_pad_val: expected .* go up to 846, found 255, which'):
        padded(846)


def test_normals_of_images_of_several_sizes_are_filled_up_with_none():
    sizes, samples = [(4, 6), (5, 3)], []
    for size in sizes:
        samples.append(SegDataSample(metainfo=dict(img_shape=size)))
        samples[-1].gt_normal_map = PixelData(data=torch.ones(3, *size))
        samples[-1].gt_depth_map = PixelData(data=torch.ones(1, *size))
    images = [torch.zeros(3, *size) for size in sizes]
    model = ImageListPreProcessor(**OPTIONS, size_divisor=4, seg_pad_val=0)
    out = model(dict(inputs=images, data_samples=samples), training=True)
    assert out['inputs'].shape == (2, 3, 8, 8)
    for sample, (height, width) in zip(out['data_samples'], sizes, strict=True):
        normals = sample.gt_normal_map.data
        assert torch.equal(normals, sample.gt_depth_map.data.expand(3, -1, -1))
        assert normals.sum() == 3 * height * width and normals[:, :height, :width].all()


def test_padding_at_test_time_is_refused():
    with pytest.raises(
        ValueError, match=r'data_preprocessor\.test_cfg: expected none, since images'
    ):
        ImageListPreProcessor(test_cfg=dict(size_divisor=32))


@pytest.mark.parametrize(
    ('key', 'shape'), [('gt_sem_seg', (1,)), ('gt_depth_map', (1,)), ('gt_normal_map', (3,))]
)
def test_training_refuses_truth_that_its_image_has_left_behind(key, shape):
    def batch(*size, **about):
        sample = SegDataSample(metainfo=dict(img_path='a.jpg', img_shape=(4, 6), **about))
        sample.set_data({key: PixelData(data=torch.zeros(*shape, *size))})
        return dict(inputs=[torch.zeros(3, 4, 6)], data_samples=[sample])

    preprocess = ImageListPreProcessor(**OPTIONS, size=(8, 8))
    preprocess(batch(4, 6, flip=True), training=True)
    for size in ((8, 12), (2, 3), (6, 4)):
        words = f'a.jpg: expected a {key} of the size .* 4 x 6 .* found {size[0]} x {size[1]}'
        with pytest.raises(ValueError, match=words):
            preprocess(batch(*size), training=True)
        preprocess(batch(*size))  # a test compares at the original size
    with pytest.raises(ValueError, match=f'a.jpg was mirrored before its {key} was loaded'):
        preprocess(batch(4, 6, truth_upright=True), training=True)
    preprocess(batch(4, 6, truth_upright=True))
