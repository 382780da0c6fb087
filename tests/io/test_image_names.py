import pytest
from mmengine.dataset import BaseDataset

from mmseg_siglip.io.image_names import ImageNames, name_images

KITTI = [f'kitti/raw/day/drive_{n}/image_02/data/{i:010d}.png' for n in (2, 9) for i in (69, 70)]


class Images(BaseDataset):
    def load_data_list(self):
        return [dict(img_path=path) for path in self.metainfo['paths']]


def dataset(paths):
    return Images(metainfo=dict(paths=paths))


def test_different_stems_are_the_names():
    assert name_images(['x/a.jpg', 'y/b.c.png']) == {'x/a.jpg': 'a', 'y/b.c.png': 'b.c'}
    assert name_images(['x/a.jpg', 'x/a.jpg']) == {'x/a.jpg': 'a'}
    assert name_images([]) == {}


def test_stems_that_repeat_get_their_folders():
    assert list(name_images(KITTI).values()) == [
        'drive_2_image_02_data_0000000069',
        'drive_2_image_02_data_0000000070',
        'drive_9_image_02_data_0000000069',
        'drive_9_image_02_data_0000000070',
    ]
    assert name_images(['x/0.jpg', 'y/0.jpg']) == {'x/0.jpg': 'x_0', 'y/0.jpg': 'y_0'}


@pytest.mark.parametrize('paths', [['x/a.jpg', 'x/a.png'], ['r/a/b_c.png', 'r/a_b/c.png']])
def test_no_two_images_have_one_name(paths):
    """The second pair has different stems, and one name with the folders of a third image."""
    with pytest.raises(ValueError, match=f'{paths[0]} and {paths[1]} would both be saved as'):
        name_images([*paths, 'r/other/c.png'])


def test_every_process_gives_the_same_names():
    """Each sees its own part of the images, in any order."""
    whole = name_images(KITTI)
    for mine in (KITTI[::2], KITTI[::-2]):
        names = ImageNames(dataset(KITTI))
        assert {path: names(path) for path in mine} == {path: whole[path] for path in mine}


def test_without_a_data_set_a_second_image_of_a_name_is_refused():
    names = ImageNames()
    assert names('x/a.jpg') == names('x/a.jpg') == 'a'
    with pytest.raises(ValueError, match='x/a.jpg and y/a.jpg would both be saved as a'):
        names('y/a.jpg')
