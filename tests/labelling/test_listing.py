import tracemalloc
from contextlib import contextmanager

import pytest
from tars import write_tar

from mmseg_siglip.labelling.listing import Listing
from mmseg_siglip.labelling.shards import FileShard, ParquetShard, TarShard

AT_A_TIME = 750_000  # bytes of some lines and of a shard, however many there are


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    for index in range(120):
        path = folder / f'{index % 3}' / f'{index:04d}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'x')
    (folder / 'notes.txt').write_text('')
    return folder


@contextmanager
def traced():
    """Bytes that the block takes: the most at a time, and those that are held after it."""
    memory = {}
    tracemalloc.start()
    yield memory
    memory['held'], memory['most'] = tracemalloc.get_traced_memory()
    tracemalloc.stop()


def names(listing):
    return [m.name for shard in listing.shards() for m in shard.members()]


def test_a_folder_in_parts(photos):
    listing = Listing([str(photos)], size=10)
    shards = list(listing.shards())
    assert all(isinstance(shard, FileShard) for shard in shards)
    assert all(5 <= len(shard.entries) <= 20 for shard in shards[:-1])
    found = names(listing)
    assert len(found) == len(set(found)) == 120 and found[0] == '0/0000.jpg'
    assert [shard.name for shard in listing.shards()] == [shard.name for shard in shards]
    assert len({shard.name for shard in shards}) == len(shards)
    assert str(listing.others) == (
        f'1 files are no images and were passed over: {photos}/notes.txt'
    )
    assert listing.roots == [str(photos)]


def test_a_file_that_comes_or_goes_changes_its_own_shard(photos):
    def of_now():
        return {shard.name for shard in Listing([str(photos)], size=10).shards()}

    before = of_now()
    (photos / '1/0001a.jpg').write_bytes(b'x')
    after = of_now()
    assert 1 <= len(after - before) <= 3
    (photos / '1/0001a.jpg').unlink()
    assert of_now() == before


def test_what_several_arguments_name_counts_once(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'list.txt').write_text('photos/0/0000.jpg\nphotos/gone.jpg\n')
    (tmp_path / 'one.txt').write_text(f'{photos}/0/0000.jpg\n')
    found = names(Listing(['photos', str(photos / '0'), 'list.txt', 'one.txt']))
    assert len(found) == 120 + 40 + 2 and 'photos/gone.jpg' in found
    found = names(Listing([str(photos / '0/0000.jpg'), 'photos/0/0000.jpg']))
    assert found == ['0000.jpg']


def test_two_images_of_one_name_are_refused(photos, tmp_path):
    with pytest.raises(ValueError, match=r'have one name: 0000\.jpg'):
        (tmp_path / 'other').mkdir()
        (tmp_path / 'other/0000.jpg').write_bytes(b'y')
        Listing([str(photos / '0'), str(tmp_path / 'other')])


def test_tars_and_tables_are_shards(tmp_path):
    for number in range(3):
        write_tar(tmp_path / f's-{number}.tar', [(f'{number}.jpg', b'x')])
    listing = Listing([f'{tmp_path}/s-{{0..2}}.tar', f'{tmp_path}/s-1.tar'])
    assert [type(shard) for shard in listing.shards()] == [TarShard] * 3
    assert names(listing) == ['s-0/0.jpg', 's-1/1.jpg', 's-2/2.jpg']
    (tmp_path / 't.parquet').write_bytes(b'')
    (shard,) = Listing([f'{tmp_path}/t.parquet'], column='photo').shards()
    assert isinstance(shard, ParquetShard) and shard.column == 'photo'


def test_tars_of_one_name_are_refused(tmp_path):
    for folder in 'ab':
        (tmp_path / folder).mkdir()
        write_tar(tmp_path / folder / 's.tar', [('x.jpg', b'x')])
    with pytest.raises(ValueError, match=r'b/s\.tar and .*a/s\.tar have one name: s'):
        Listing([str(tmp_path / 'a/s.tar'), str(tmp_path / 'b/s.tar')])
    (tmp_path / 'photos/s').mkdir(parents=True)
    (tmp_path / 'photos/s/x.jpg').write_bytes(b'x')
    with pytest.raises(ValueError, match='expected no folder with the name of a tar beside it'):
        Listing([str(tmp_path / 'a/s.tar'), str(tmp_path / 'photos')])


def test_one_list_with_two_images_of_one_name(tmp_path):
    (tmp_path / 'list.txt').write_text('x/c.jpg\n/x/c.jpg\n')
    with pytest.raises(ValueError, match=r'have one name: x/c\.jpg'):
        Listing([str(tmp_path / 'list.txt')])


def test_a_list_that_names_an_image_twice(tmp_path):
    lines = ['b.jpg', 'a.jpg', './b.jpg', f'{tmp_path}/a.jpg', 'x/../b.jpg', 'c.jpg']
    (tmp_path / 'list.txt').write_text('\n'.join(lines))
    listing = Listing([str(tmp_path / 'list.txt')])
    assert names(listing) == names(listing) == ['b.jpg', 'a.jpg', 'c.jpg']


@pytest.mark.parametrize('data', [b'a.jpg\n\xff.jpg\n', b'a.jpg\n\0.jpg\n'])
def test_a_list_that_is_no_text_is_told_at_once(tmp_path, data):
    (tmp_path / 'list.txt').write_bytes(data)
    with pytest.raises(ValueError, match=r'list\.txt: expected a list of paths in UTF-8, found'):
        Listing([str(tmp_path / 'list.txt')])


def test_a_place_is_the_same_however_it_is_typed(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    here, there = (Listing([text]) for text in ('photos', str(photos)))
    assert here.roots == there.roots
    assert [s.name for s in here.shards()] == [s.name for s in there.shards()]


def test_data_sets_are_labelled_alone(photos):
    with pytest.raises(ValueError, match='expected one data set alone, found more than that'):
        Listing(['datasets:a/b', str(photos)])


@pytest.mark.parametrize(
    ('argument', 'message'),
    [
        ('absent', 'absent: no such folder, image, list or tar file'),
        ('absent.tar', 'absent.tar: no such folder'),
        ('s-{0..3}.tar', 's-3.tar: no such folder'),
        ('s3://bucket/folder', 's3://bucket/folder: expected a tar or Parquet file at an address'),
        (
            'datasets:x?row=1',
            'datasets:x.row=1: expected split, column, subset, revision, found row',
        ),
    ],
)
def test_what_is_not_there_is_told_at_once(tmp_path, monkeypatch, argument, message):
    monkeypatch.chdir(tmp_path)
    write_tar(tmp_path / 's-0.tar', [])
    with pytest.raises(ValueError, match=message):
        Listing([argument])


def test_a_million_shards_are_no_list(tmp_path, monkeypatch):
    """At most it is 8 bytes a shard, and a few times that while they grow and are sorted."""
    monkeypatch.setattr('os.path.isfile', lambda path: True)

    def peak(count):
        with traced() as memory:
            listing = Listing([f's-{{000000..{count - 1:06d}}}.tar'])
            assert sum(1 for _ in listing.shards()) == count
        return memory['most']

    peak(200)  # what is imported then
    few, many = peak(200), peak(20_000)
    assert many - few < 40 * 20_000


def test_what_a_star_stands_for_is_packed(tmp_path, monkeypatch):
    count = 20_000
    monkeypatch.setattr(
        'mmseg_siglip.labelling.listing.matching',
        lambda address: (f's3://bucket/train/shard-{n:06d}.tar' for n in range(count)),
    )
    with traced() as memory:
        listing = Listing(['s3://bucket/train/*.tar'])
    assert memory['held'] < 8 * count and memory['most'] < 40 * count
    places = [shard.place for shard in listing.shards()]
    assert len(places) == count and places[-1] == 's3://bucket/train/shard-019999.tar'


@pytest.mark.parametrize('times', [1, 2])
def test_a_long_list_is_no_list(tmp_path, times):
    """While names are compared, some times 8 bytes; later 8 for each that comes twice."""
    lines = 10_000
    with (tmp_path / 'list.txt').open('w') as file:
        for n in range(lines):
            file.write(f'a/folder/of/photographs/{n % (lines // times):08d}.jpg\n')
    (tmp_path / 'few.txt').write_text('a.jpg\na.jpg')
    names(Listing([str(tmp_path / 'few.txt')]))  # what is imported then
    with traced() as memory:
        listing = Listing([str(tmp_path / 'list.txt')])
    assert memory['most'] < 40 * lines + AT_A_TIME and memory['held'] < 8 * lines
    with traced() as memory:
        assert sum(len(shard.entries) for shard in listing.shards()) == lines // times
    assert memory['most'] < 8 * lines + AT_A_TIME
