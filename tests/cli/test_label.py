import errno
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from bad_images import tiled
from commands import command
from PIL import Image
from pycocotools.coco import COCO
from tars import write_tar

from mmseg_siglip.api.segment import OpenVocabSegmenter
from mmseg_siglip.cli.jobs.label import weights_digest
from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed
from mmseg_siglip.labelling import objects
from mmseg_siglip.labelling.labeller import SystemLabeller
from mmseg_siglip.models.held_weights import HeldWeights

main, export = command('label'), command('export')

WORDS = 'cat, dog, grass'


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('RANK', 'LOCAL_RANK'):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def photos(tmp_path):
    """Seven pictures of different sizes, in two folders."""
    folder = tmp_path / 'photos'
    (folder / 'more').mkdir(parents=True)
    for i in range(7):
        scene = generate(scene_seed('test', i), size=(24 + 4 * (i % 3), 48))
        Image.fromarray(scene.image).save(folder / ('more' if i % 2 else '.') / f'{i}.png')
    return folder


@pytest.fixture
def command(openai_file, tmp_path):
    def call(*images, words=WORDS, out='out', extra=()):
        options = ['--words', words, '--encoder', openai_file, '--templates', 'plain']
        options += ['--out', str(tmp_path / out), '--engine', 'loop', '--batch-size', '3']
        options += ['--shard-size', '3']
        return main([*map(str, images), *options, *extra])

    return call


def failure(capsys, call):
    """The one line that a failing call prints on stderr."""
    capsys.readouterr()
    assert call() == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith('error: ')]
    return line


def labels_in(folder):
    root = folder / 'labels'
    return {str(p.relative_to(root)): np.array(Image.open(p)) for p in root.rglob('*.png')}


def test_labels_are_those_of_the_api(command, photos, tmp_path, openai_file, capsys):
    assert command(photos) == 0
    assert '7 images labelled into' in capsys.readouterr().out
    segmenter = OpenVocabSegmenter.from_pretrained(openai_file, templates='plain')
    found = labels_in(tmp_path / 'out')
    assert len(found) == 7
    for name, labels in found.items():
        expected = segmenter(photos / name.removesuffix('.png'), WORDS.split(','))
        np.testing.assert_array_equal(labels, expected.labels)


def test_words_are_those_of_segment(command, photos, tmp_path):
    extra = ['--format', 'coco']
    for out, words in (('a', 'cat|kitten, dog'), ('b', 'voc21')):
        assert command(photos / '0.png', words=words, out=out, extra=extra) == 0
    names = [
        [
            entry['name']
            for entry in json.loads((tmp_path / out / 'labels.json').read_text())['categories']
        ]
        for out in ('a', 'b')
    ]
    assert names[0] == ['cat', 'dog']
    assert names[1][0] == 'background' and len(names[1]) == 21


def test_a_background_and_a_threshold(command, photos, tmp_path, openai_file, capsys):
    extra = ['--background', 'sky, wall', '--threshold', '0.4']
    line = failure(capsys, lambda: command(photos, extra=extra[2:]))
    assert 'threshold: expected a background' in line and not (tmp_path / 'out').exists()
    assert command(photos / '0.png', extra=extra) == 0
    segmenter = OpenVocabSegmenter.from_pretrained(openai_file, templates='plain')
    given = dict(background='sky, wall', threshold=0.4)
    expected = segmenter(photos / '0.png', WORDS, **given).labels
    (labels,) = labels_in(tmp_path / 'out').values()
    np.testing.assert_array_equal(labels, expected)
    line = failure(capsys, lambda: command(photos / '0.png', extra=extra[:2]))
    assert 'was filled with other settings (threshold 0.4, now None)' in line


def test_a_trained_cat_seg(cat_seg_files, photos, tmp_path, capsys):
    config, checkpoint = map(str, cat_seg_files)
    argv = [str(photos), '--words', 'red star, ground', '--out', str(tmp_path / 'out')]
    argv += ['--engine', 'loop', '--precision', 'fp32', '--checkpoint', checkpoint, '--config']
    assert main([*argv, config]) == 0
    segmenter = OpenVocabSegmenter.from_config(config, checkpoint, precision='fp32')
    found = labels_in(tmp_path / 'out')
    assert len(found) == 7
    for name, labels in found.items():
        expected = segmenter(photos / name.removesuffix('.png'), ['red star', 'ground'])
        np.testing.assert_array_equal(labels, expected.labels)
    other = tmp_path / 'other.py'
    other.write_text(f'_base_ = {config!r}\nmodel = dict(test_cfg=dict(stride=(16, 16)))\n')
    line = failure(capsys, lambda: main([*argv, str(other)]))
    assert 'was filled with other settings' in line and 'config' in line


def test_a_folder_a_list_and_shards_give_the_same(command, photos, tmp_path):
    pictures = sorted(photos.rglob('*.png'))
    (photos / 'all.txt').write_text('\n'.join(str(p.relative_to(photos)) for p in pictures))
    for number in range(2):
        with tarfile.open(tmp_path / f's-{number}.tar', 'w') as tar:
            for path in pictures[number::2]:
                tar.add(path, path.relative_to(photos))
                tar.addfile(tarfile.TarInfo(f'{path.stem}.json'), io.BytesIO())
    assert command(photos, out='folder') == 0
    assert command(photos / 'all.txt', out='list') == 0
    assert command('s-{0..1}.tar', out='shards') == 0
    folder, listed, shards = (labels_in(tmp_path / name) for name in ('folder', 'list', 'shards'))
    assert folder.keys() == listed.keys()
    assert {name.split('/', 1)[1] for name in shards} == set(folder)
    for name, labels in shards.items():
        same = name.split('/', 1)[1]
        np.testing.assert_array_equal(labels, folder[same])
        np.testing.assert_array_equal(labels, listed[same])


def test_coco_holds_the_same_masks(command, photos, tmp_path):
    assert command(photos, out='png') == 0
    assert command(photos, out='coco', extra=['--format', 'coco']) == 0
    coco, labels = COCO(str(tmp_path / 'coco' / 'labels.json')), labels_in(tmp_path / 'png')
    assert [category['name'] for category in coco.dataset['categories']] == ['cat', 'dog', 'grass']
    manifest = json.loads((tmp_path / 'coco' / 'manifest.json').read_text())
    assert coco.dataset['info']['settings'] == manifest['digest']
    assert len(coco.dataset['images']) == 7
    for image in coco.dataset['images']:
        found = np.zeros((image['height'], image['width']), int)
        for annotation in coco.loadAnns(coco.getAnnIds(image['id'])):
            found += annotation['category_id'] * coco.annToMask(annotation).astype(int)
        np.testing.assert_array_equal(found - 1, labels[f'{image["file_name"]}.png'])


@pytest.mark.parametrize('form', ['coco-polygons', 'yolo'])
def test_polygons(command, photos, tmp_path, form):
    assert command(photos, extra=['--format', form]) == 0
    if form == 'yolo':
        wanted = {path.stem for path in photos.rglob('*.png')}
        assert {path.stem for path in (tmp_path / 'out/labels').rglob('*.txt')} == wanted
        return
    coco = COCO(str(tmp_path / 'out/labels.json'))
    coco.loadRes(str(tmp_path / 'out/results.json'))
    assert {image['id'] for image in coco.dataset['images']} == set(range(7))
    assert all(isinstance(a['segmentation'], list) for a in coco.dataset['annotations'])


@pytest.mark.parametrize('form', ['png', 'coco'])
def test_only_what_is_missing_is_done(command, photos, tmp_path, capsys, form):
    extra = ['--format', form, '--shard-size', '1']
    hidden = tmp_path / 'hidden'
    (photos / 'more').rename(hidden)
    assert command(photos, extra=extra) == 0
    hidden.rename(photos / 'more')
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / 'out' / 'labels').rglob('*.png')}
    capsys.readouterr()
    assert command(photos, extra=extra) == 0
    printed = capsys.readouterr().out
    assert '3 images labelled into' in printed and '4 of 7 shards were there already' in printed
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert command(photos, extra=extra) == 0
    assert '0 images labelled into' in capsys.readouterr().out
    if form == 'coco':
        merged = json.loads((tmp_path / 'out' / 'labels.json').read_text())
        assert len(merged['images']) == len({image['file_name'] for image in merged['images']}) == 7


def test_other_settings_on_the_same_folder_are_refused(
    command, photos, tmp_path, siglip_folder, capsys, pretend_cpu
):
    pretend_cpu('AVX2')
    assert command(photos) == 0
    kept = labels_in(tmp_path / 'out')
    refused = [
        (dict(words='cat, dog'), 'words cat, dog, grass, now cat, dog'),
        (dict(extra=['--none-of-these']), 'background None, now 0'),
        (dict(words='[background] cat, dog, grass'), 'background None, now 0'),
        (dict(extra=['--method', 'naclip']), 'method sclip, now naclip'),
        (dict(extra=['--encoder', siglip_folder]), 'weights'),
        (dict(extra=['--shard-size', '9']), 'shard_size 3, now 9'),
        (dict(extra=['--precision', 'bf16']), 'precision fp32, now bf16'),
    ]
    for changes, message in refused:
        line = failure(capsys, lambda changes=changes: command(photos, **changes))
        assert 'was filled with other settings' in line and message in line
    line = failure(capsys, lambda: command(photos / 'more'))
    assert 'images' in line and 'other settings' in line
    pretend_cpu('AMX')
    line = failure(capsys, lambda: command(photos))
    assert 'was filled with other settings (precision fp32, now bf16)' in line
    assert labels_in(tmp_path / 'out').keys() == kept.keys()


def test_broken_files_are_listed_and_not_fatal(command, photos, tmp_path, capsys):
    (photos / 'cut.png').write_bytes((photos / '0.png').read_bytes()[:200])
    (photos / 'more' / 'empty.jpg').write_bytes(b'')
    Image.new('RGB', (20_000, 1)).save(photos / 'thread.png')
    (tmp_path / 'junk.tar').write_bytes(b'junk' * 300)
    (tmp_path / 'list.txt').write_text('photos/gone.jpg\n')
    images = (photos, 'junk.tar', 'list.txt')
    line = failure(capsys, lambda: command(*images))
    assert '5 files could not be read, see' in line
    lines = (tmp_path / 'out' / 'failures.jsonl').read_text().splitlines()
    reasons = {row['path']: row['reason'] for row in map(json.loads, lines)}
    assert reasons.keys() == {
        str(photos / 'cut.png'),
        str(photos / 'more' / 'empty.jpg'),
        str(photos / 'thread.png'),
        'junk.tar',
        str(photos / 'gone.jpg'),
    }
    assert reasons[str(photos / 'gone.jpg')] == 'No such file or directory'
    assert reasons[str(photos / 'more' / 'empty.jpg')] == 'is an empty file'
    assert reasons[str(photos / 'cut.png')].startswith('cannot be decoded: ')
    assert 'sides of at most 32 to 1' in reasons[str(photos / 'thread.png')]
    assert len(labels_in(tmp_path / 'out')) == 7
    for name in ('cut.png', 'more/empty.jpg', 'thread.png', 'gone.jpg'):
        (photos / name).write_bytes((photos / '0.png').read_bytes())
    with tarfile.open(tmp_path / 'junk.tar', 'w'):
        pass
    capsys.readouterr()
    assert command(*images, extra=['--retry-failed']) == 0
    assert labels_in(tmp_path / 'out').keys() >= {'cut.png.png', 'photos/gone.jpg.png'}
    assert not (tmp_path / 'out' / 'failures.jsonl').exists()


def test_whatever_lies_in_a_folder_the_images_are_labelled(command, photos, tmp_path, capsys):
    os.mkfifo(photos / 'pipe.jpg')
    (photos / 'zero.jpg').symlink_to('/dev/zero')
    (photos / 'loop').symlink_to('.')
    with (photos / 'sparse.jpg').open('wb') as file:
        file.truncate(40 * 2**30)
    (photos / 'tiles.tif').write_bytes(tiled(8, b'', 16000, 130000))
    (photos / '0.png.png').mkdir()
    Image.new('RGB', (30, 30)).save(photos / '0.png.png' / 'y.png')
    Image.new('RGB', (30, 30)).save(photos / 'phone.jfif', 'JPEG')
    Image.new('RGB', (30, 30)).save(photos / 'noext', 'PNG')
    (photos / 'far.jxl').write_bytes(b'\xff\x0a' + bytes(9))
    (photos / 'notes.txt').write_text('no image')
    capsys.readouterr()
    assert command(photos) == 1
    printed = capsys.readouterr()
    assert f'1 files are no images and were passed over: {photos}/notes.txt' in printed.out
    assert '10 images labelled into' in printed.out and '6 files could not be read' in printed.err
    lines = (tmp_path / 'out' / 'failures.jsonl').read_text().splitlines()
    reasons = {row['path']: row['reason'] for row in map(json.loads, lines)}
    below = tmp_path / 'out/labels/0.png.png/y.png.png'
    assert reasons.pop(str(below)) in ('File exists', 'Not a directory')
    assert {Path(path).relative_to(photos).as_posix() for path in reasons} == {
        *('pipe.jpg', 'zero.jpg', 'sparse.jpg', 'tiles.tif', 'far.jxl')
    }
    assert labels_in(tmp_path / 'out').keys() >= {'phone.jfif.png', 'noext.png'}


def test_an_image_that_the_model_fails_on_is_a_failure(
    command, photos, tmp_path, capsys, monkeypatch
):
    """Whatever the model raises; the others of its batch are labelled."""
    segment = OpenVocabSegmenter._begin
    errors = {28: RuntimeError('shapes'), 32: torch.OutOfMemoryError('CUDA out of memory')}

    def fail(self, images, words, **options):
        for image in images:
            if image.shape[1] in errors:
                raise errors[image.shape[1]]
        return segment(self, images, words, **options)

    monkeypatch.setattr(OpenVocabSegmenter, '_begin', fail)
    assert '4 files could not be read' in failure(capsys, lambda: command(photos))
    lines = (tmp_path / 'out' / 'failures.jsonl').read_text().splitlines()
    assert sorted(row['reason'] for row in map(json.loads, lines)) == [
        *['OutOfMemoryError: CUDA out of memory'] * 2,
        *['RuntimeError: shapes'] * 2,
    ]
    assert len(labels_in(tmp_path / 'out')) == 3
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert command(photos, extra=['--retry-failed']) == 0
    assert len(labels_in(tmp_path / 'out')) == 7


def test_a_disk_that_is_full_ends_the_run(command, photos, capsys, monkeypatch):
    put, count = objects.whole_file, []

    def full(path, **options):
        count.append(path)
        if len(count) == 3:
            raise OSError(errno.ENOSPC, 'No space left on device', path)
        return put(path, **options)

    monkeypatch.setattr(objects, 'whole_file', full)
    assert 'No space left on device' in failure(capsys, lambda: command(photos))
    monkeypatch.setattr(objects, 'whole_file', put)
    assert command(photos) == 0
    assert '1 of' in capsys.readouterr().out


def test_weights_are_held_while_a_run_labels(command, photos, monkeypatch):
    """A model of the API holds none until it is told to."""
    found, label = [], SystemLabeller.begin

    def note(labeller, images):
        found.append(labeller.system.model.held.on)
        return label(labeller, images)

    monkeypatch.setattr(SystemLabeller, 'begin', note)
    assert command(photos) == 0 and found and all(found)
    assert not HeldWeights().on


def test_without_the_first_rank_the_result_is_whole(command, photos, tmp_path, monkeypatch, capsys):
    for name, value in dict(RANK='1', LOCAL_RANK='1', WORLD_SIZE='2').items():
        monkeypatch.setenv(name, value)
    assert command(photos, extra=['--launcher', 'pytorch']) == 0
    assert not capsys.readouterr().out and not (tmp_path / 'out/labels').exists()
    assert export([str(tmp_path / 'out')]) == 0
    assert len(labels_in(tmp_path / 'out')) == 7


def test_a_name_that_cannot_be_written_is_a_failure(command, photos, tmp_path, capsys):
    """Short enough for the image, too long for its labels in their folder."""
    deep = '/'.join(['k' * 200] * 18)
    write_tar(tmp_path / 's.tar', [(n, (photos / '0.png').read_bytes()) for n in ('a.png', deep)])
    out = '/'.join(['o' * 200] * 3)
    line = failure(capsys, lambda: command('s.tar', out=out))
    assert '1 files could not be read' in line and 'File name too long' in line
    assert list(labels_in(tmp_path / out)) == ['s/a.png.png']


def test_bad_input_is_one_line(command, photos, tmp_path, capsys):
    (tmp_path / 'far.jxl').write_bytes(b'\xff\x0a' + bytes(9))
    (tmp_path / 'empty').mkdir()
    calls = [
        (dict(images=['absent']), 'absent: no such folder, image, list or tar file'),
        (dict(images=['far.jxl']), 'the first is far.jxl: is a JPEG XL image'),
        (dict(images=[tmp_path / 'empty']), 'no images found; looked for'),
        (dict(images=[photos], extra=['--out', 's3://b/x']), 'expected a folder, or --format'),
        (dict(images=[photos], words='cat,,dog'), 'empty name'),
        (dict(images=[photos], extra=['--encoder', 'absent.pt']), 'absent.pt: no such file'),
        (dict(images=[photos], out='photos/out'), 'lies in the images'),
        (dict(images=[photos], extra=['--device', 'cuda:3']), 'no GPU is found'),
    ]
    for call, message in calls:
        images = call.pop('images')
        line = failure(capsys, lambda images=images, call=call: command(*images, **call))
        assert message in line
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'mine.txt').write_text('')
    line = failure(capsys, lambda: command(photos, out='other'))
    assert 'expected an empty folder' in line


def test_digest_sees_every_weight():
    layer = torch.nn.Linear(2, 3)
    before = weights_digest(layer)
    layer.bias.data[1] += 1e-3
    assert weights_digest(layer) != before
