import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from mmseg_siglip.datasets.transforms import LoadRegions, PackSegInputs
from mmseg_siglip.io.regions_file import decode_regions, encode_regions
from mmseg_siglip.registry import TRANSFORMS


@pytest.fixture
def labels():
    return np.arange(6 * 8).reshape(6, 8) // 5 * 100


def write(path, array):
    if path.suffix == '.png':
        Image.fromarray(array.astype(np.uint16)).save(path)
    elif path.suffix == '.npy':
        np.save(path, array)
    else:
        np.savez(path, any_name=array)


@pytest.mark.parametrize('suffix', ['.npz', '.npy', '.png'])
def test_a_label_map_beside_the_image(tmp_path, labels, suffix):
    write(tmp_path / f'a{suffix}', labels)
    found = LoadRegions(suffix=suffix)(dict(img_path=str(tmp_path / 'a.jpg')))['regions']
    assert found.dtype == np.int64 and (found == labels).all() and labels.max() > 255


@pytest.mark.parametrize('kind', [bool, np.uint8])
def test_masks_in_another_folder(tmp_path, kind):
    masks = np.random.default_rng(0).random((3, 6, 8)) < 0.5
    (tmp_path / 'masks').mkdir()
    write(tmp_path / 'masks' / 'a.npz', masks.astype(kind))
    load = LoadRegions(folder=str(tmp_path / 'masks'))
    found = load(dict(img_path=str(tmp_path / 'a.jpg'), ori_shape=(6, 8)))['regions']
    assert found.dtype == bool and (found == masks).all()


def test_an_image_that_was_cut_before(tmp_path, labels):
    write(tmp_path / 'a.npz', labels)
    results = dict(img_path=str(tmp_path / 'a.jpg'), moved_by='RandomCrop')
    with pytest.raises(ValueError, match='a.npz: expected LoadRegions before RandomCrop'):
        LoadRegions()(results)


def test_a_path_that_the_data_set_knows(tmp_path, labels):
    (tmp_path / 'any').write_bytes(encode_regions(labels))
    found = LoadRegions()(dict(img_path='gone.jpg', regions_path=str(tmp_path / 'any')))
    assert (found['regions'] == labels).all()


@pytest.mark.parametrize(
    ('array', 'sentence'),
    [
        (np.zeros((6, 8), np.float32), r'found float32 of shape \(6, 8\)'),
        (np.full((6, 8), -1), r'integers from 0 .* found int64 of shape \(6, 8\)'),
        (np.full((2, 6, 8), 2), r'masks \(M, H, W\) of 0 and 1, found int64'),
        (np.zeros(5, np.int64), r'found int64 of shape \(5,\)'),
        (np.array([[None]]), 'cannot be read as regions: Object arrays'),
        (np.zeros((6, 9), np.int64), r'a.npy is 6 x 9 .*a.jpg is 6 x 8'),
    ],
)
def test_bad_arrays(tmp_path, array, sentence):
    write(tmp_path / 'a.npy', array)
    with pytest.raises(ValueError, match=sentence) as found:
        LoadRegions(suffix='.npy')(dict(img_path=str(tmp_path / 'a.jpg'), ori_shape=(6, 8)))
    assert 'a.npy' in str(found.value) and '\n' not in str(found.value)


def test_bad_files(tmp_path, labels):
    results = dict(img_path=str(tmp_path / 'a.jpg'))
    with pytest.raises(ValueError, match='a.npz cannot be read: No such file'):
        LoadRegions()(results)
    data = encode_regions(labels)
    for part in (data[:40], b'nonsense', b''):
        (tmp_path / 'a.npz').write_bytes(part)
        with pytest.raises(ValueError, match='a.npz'):
            LoadRegions()(results)
    file = io.BytesIO()
    np.savez(file, one=labels, two=labels)
    (tmp_path / 'a.npz').write_bytes(file.getvalue())
    with pytest.raises(ValueError, match='expected one array of regions, found one, two'):
        LoadRegions()(results)
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / 'a.png')
    with pytest.raises(ValueError, match='a.png is a label map with mode RGB'):
        LoadRegions(suffix='.png')(results)


def pack(regions, size=(6, 8), **more):
    results = dict(img=np.zeros((*size, 3), np.uint8), img_path='a.jpg', regions=regions, **more)
    return TRANSFORMS.build(dict(type='PackSegInputs', meta_keys=()))(results)


def test_regions_survive_packing(labels):
    packed = pack(labels)['data_samples'].regions.data
    assert packed.dtype == torch.int64 and packed.tolist() == [labels.tolist()]
    masks = labels[None] > 300
    packed = pack(masks, size=(12, 17), scale_factor=(17 / 8, 2.0))['data_samples'].regions.data
    assert packed.dtype == torch.bool and packed.tolist() == masks.tolist()
    without = PackSegInputs()(dict(img=np.zeros((6, 8, 3), np.uint8)))
    assert 'regions' not in without['data_samples']


@pytest.mark.parametrize(
    'size', [(6, 20), (3, 4), (12, 16)], ids=['wider', 'cut with its aspect', 'larger']
)
def test_regions_that_were_left_behind(labels, size):
    sentence = r'a.jpg: expected .* merely resized .*, 6 x 8 .*, found one of '
    with pytest.raises(ValueError, match=f'{sentence}{size[0]} x {size[1]}'):
        pack(labels, size=size)


def test_a_cut_behind_a_resize(labels):
    with pytest.raises(ValueError, match='12 x 16 .*, found one of 6 x 8'):
        pack(labels, scale_factor=(2.0, 2.0))


@pytest.mark.parametrize('masks', [False, True])
@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
def test_regions_are_mirrored_as_the_image_is(labels, direction, masks):
    """By MMCV's own flip of an image that shows them."""
    flip = TRANSFORMS.build(dict(type='RandomFlip', prob=1.0, direction=direction))
    results = flip(dict(img=labels.astype(np.float32), img_shape=(6, 8), img_path='a.jpg'))
    wanted, shown = results['img'], results['img'][..., None].repeat(3, 2)
    results |= dict(img=shown, regions=labels[None] > 300 if masks else labels)
    wanted = wanted > 300 if masks else wanted.astype(np.int64)
    pack = TRANSFORMS.build(dict(type='PackSegInputs'))
    assert pack(results)['data_samples'].regions.data.tolist() == [wanted.tolist()]


def test_what_a_header_claims_is_refused_before_there_is_room_for_it():
    header = io.BytesIO()
    claim = dict(descr='|u1', fortran_order=False, shape=(3, 10**6, 10**6))
    np.lib.format.write_array_header_1_0(header, claim)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, 'w') as file:
        file.writestr('regions.npy', header.getvalue())
    for data in (header.getvalue(), archive.getvalue()):
        with pytest.raises(ValueError, match=r'a.npz cannot be read as regions: .* 1000000\)'):
            decode_regions(data, 'a.npz')
    for data in (archive.getvalue()[:40], b'PK\3\4' + b'x' * 30, b'\x93NUMPY\x01\x00\xff'):
        with pytest.raises(ValueError, match='a.npz cannot be read as regions'):
            decode_regions(data, 'a.npz')
