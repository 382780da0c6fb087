import errno
import json
import os
import re

import numpy as np
import pytest
from commands import command as command_of
from PIL import Image

from mmseg_siglip.api import OpenVocabSegmenter
from mmseg_siglip.io.image_folder import find_images

segment = command_of('segment')


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / 'photos' / 'more').mkdir(parents=True)
    for name in ('a.jpg', 'b.png', 'more/c.JPG'):
        pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'photos' / name, format='PNG')
    (tmp_path / 'photos' / 'notes.txt').write_text('no image')
    return tmp_path / 'photos'


@pytest.fixture
def command(openai_file, tmp_path):
    def call(images, words='cat, dog, grass', *extra):
        options = ['--encoder', openai_file, '--templates', 'plain', '--out', str(tmp_path / 'out')]
        return segment([images, words, *options, *extra])

    return call


def test_one_image(command, photos, tmp_path, capsys):
    assert command(photos / 'a.jpg') == 0
    assert '1 of 1 images segmented' in capsys.readouterr().out
    labels = np.array(Image.open(tmp_path / 'out' / 'a.jpg.labels.png'))
    assert labels.shape == (40, 50) and labels.max() < 3
    assert Image.open(tmp_path / 'out' / 'a.jpg.picture.png').width == 50


def test_folder_keeps_its_structure(command, photos, tmp_path):
    assert command(photos, 'voc20') == 0
    written = {str(p.relative_to(tmp_path / 'out')) for p in (tmp_path / 'out').rglob('*.png')}
    names = ('a.jpg', 'b.png', 'more/c.JPG')
    assert written == {f'{name}.{kind}.png' for name in names for kind in ('labels', 'picture')}


def test_broken_files_are_reported_and_the_others_done(command, photos, tmp_path, capsys):
    (photos / 'b.png').write_bytes(b'not an image')
    assert command(photos) == 1
    captured = capsys.readouterr()
    assert '2 of 3 images segmented' in captured.out
    assert 'error: 1 images could not be read' in captured.err and 'b.png' in captured.err
    assert (tmp_path / 'out' / 'more' / 'c.JPG.labels.png').is_file()


def test_a_file_that_cannot_be_read_is_named(command, photos, tmp_path, capsys, monkeypatch):
    open_file = os.open

    def refuse(path, *args, **kwargs):
        if str(path).endswith('b.png'):
            raise PermissionError(errno.EACCES, 'Permission denied', str(path))
        return open_file(path, *args, **kwargs)

    monkeypatch.setattr(os, 'open', refuse)
    assert command(photos) == 1
    captured = capsys.readouterr()
    assert '2 of 3 images segmented' in captured.out
    assert f'1 images could not be read: {photos / "b.png"}: Permission denied' in captured.err
    assert (tmp_path / 'out' / 'more' / 'c.JPG.labels.png').is_file()


@pytest.mark.parametrize('out', ['.', 'segmented', 'more/deep'])
def test_results_are_no_photographs(command, photos, monkeypatch, capsys, out):
    """Inside the folder of images the next run would read them."""
    monkeypatch.chdir(photos)
    assert command('.', 'cat, dog', '--out', out) == 1
    assert f'--out {out} lies in the images .: choose a folder elsewhere' in capsys.readouterr().err
    assert command('a.jpg', 'cat, dog', '--out', out) == 0


@pytest.mark.parametrize(
    ('images', 'words', 'extra', 'message'),
    [
        ('absent.jpg', 'cat', (), 'absent.jpg: no such image or folder'),
        ('.', 'cat', (), 'no images in this folder; looked for AVIF'),
        ('photos', 'cat,,dog', (), 'empty name'),
        ('photos', 'cat, cat', (), "'cat' is there already"),
        ('photos', 'cat', ('--threshold', '0.5'), 'threshold: expected a background, which gets'),
        ('photos', 'cat', ('--background', ''), "the background: empty name in ''"),
        ('photos', 'cat', ('--background', 'cat'), "found 'cat' in both"),
        ('photos', 'voc22', (), "no vocabulary 'voc22'; did you mean 'voc21'?"),
        ('photos', 'cat', ('--encoder', 'absent.pt'), 'absent.pt: no such file'),
    ],
)
def test_one_sentence_for_bad_input(
    command, photos, tmp_path, monkeypatch, capsys, images, words, extra, message
):
    (tmp_path / 'empty').mkdir()
    monkeypatch.chdir(tmp_path / 'empty')
    target = photos if images == 'photos' else images
    assert command(target, words, *extra) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith('error: ') and message in line


def test_fifty_words(command, photos, tmp_path):
    """Together they are longer than any file name may be."""
    assert command(photos / 'a.jpg', ', '.join(f'word number {i}' for i in range(50))) == 0
    assert np.array(Image.open(tmp_path / 'out' / 'a.jpg.labels.png')).max() < 50


def test_images_are_sorted(photos):
    assert [path.name for path in find_images(photos).images] == ['a.jpg', 'b.png', 'c.JPG']


def test_a_trained_cat_seg(cat_seg_files, photos, tmp_path, capsys):
    config, checkpoint = map(str, cat_seg_files)
    argv = [str(photos), 'red star, ground', '--out', str(tmp_path / 'out'), '--precision', 'fp32']
    assert segment([*argv, '--config', config, '--checkpoint', checkpoint]) == 0
    assert '3 of 3 images segmented' in capsys.readouterr().out
    expected = OpenVocabSegmenter.from_config(config, checkpoint, precision='fp32')
    labels = np.array(Image.open(tmp_path / 'out' / 'b.png.labels.png'))
    words = ['red star', 'ground']
    np.testing.assert_array_equal(labels, expected(photos / 'b.png', words).labels)
    assert segment([*argv, '--config', config, '--method', 'sclip', '--encoder', 'x']) == 1
    assert '--encoder, --method: expected nothing of the kind' in capsys.readouterr().err
    assert segment([*argv, '--checkpoint', checkpoint]) == 1
    assert '--checkpoint: expected --config' in capsys.readouterr().err


def test_a_method_misspelt_gets_the_nearest(command, photos, capsys):
    with pytest.raises(SystemExit):
        command(photos / 'a.jpg', 'cat', '--method', 'na-clip')
    assert "found 'na-clip'; did you mean 'naclip'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ('extra', 'given'),
    [
        (['--background', 'sky, wall'], dict(background='sky, wall')),
        (['--none-of-these', '--threshold', '0.4'], dict(background=True, threshold=0.4)),
    ],
)
def test_a_background_is_that_of_the_api(command, photos, tmp_path, openai_file, extra, given):
    assert command(photos / 'a.jpg', 'cat, car|automobile', *extra, '--precision', 'fp32') == 0
    segmenter = OpenVocabSegmenter.from_pretrained(openai_file, templates='plain', precision='fp32')
    wanted = segmenter(photos / 'a.jpg', 'cat, car|automobile', **given)
    labels = np.array(Image.open(tmp_path / 'out' / 'a.jpg.labels.png'))
    np.testing.assert_array_equal(labels, wanted.labels)
    written = json.loads((tmp_path / 'out' / 'a.jpg.json').read_text())
    assert written['classes'] == ['background', 'cat', 'car']


def test_no_threshold_for_a_cat_seg(cat_seg_files, photos, tmp_path, capsys):
    config, checkpoint = map(str, cat_seg_files)
    argv = [str(photos / 'a.jpg'), 'star', '--none-of-these', '--threshold', '0.5']
    argv += ['--out', str(tmp_path / 'out'), '--config', config, '--checkpoint', checkpoint]
    assert segment(argv) == 1
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith('error: threshold: expected none, found 0.5; a CATSegSegmentor sends')
    with pytest.raises(SystemExit):
        segment([*argv[:3], '--background', 'wall'])
    assert 'not allowed with argument --none-of-these' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        segment([*argv[:3], '--threshold', '40'])
    assert 'expected a number from 0 to 1, found 40' in capsys.readouterr().err


def test_a_guide_by_its_folder(command, photos, tmp_path, dino_folder, openai_file):
    given = ['--method', 'proxyclip', '--guide', dino_folder, '--precision', 'fp32']
    assert command(photos / 'b.png', 'cat, dog', *given) == 0
    segmenter = OpenVocabSegmenter.from_pretrained(
        openai_file, 'proxyclip', guide=dino_folder, templates='plain', precision='fp32'
    )
    assert type(segmenter.model.method.guide).__name__ == 'DINOv2Guide'
    wanted = segmenter(photos / 'b.png', ['cat', 'dog']).labels
    labels = np.array(Image.open(tmp_path / 'out' / 'b.png.labels.png'))
    np.testing.assert_array_equal(labels, wanted)


@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        (('--guide', 'x'), "guide: expected a method that asks for one, .*, found 'sclip'"),
        (('--method', 'naclip', '--regions', 'x'), 'asks for regions, .*, found --method naclip'),
        (('--method', 'proxyclip', '--guide', 'absent.pt'), 'absent.pt: no such file'),
    ],
)
def test_what_a_method_has_no_use_for(command, photos, capsys, extra, message):
    assert command(photos, 'cat', *extra) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line)


def test_a_frame_of_an_animation(command, tmp_path, capsys):
    frames = [Image.new('RGB', (50, 40), colour) for colour in ('red', 'lime')]
    clip = tmp_path / 'clip.gif'
    frames[0].save(clip, save_all=True, append_images=frames[1:])
    assert command(clip) == 1
    assert 'clip.gif: has 2 frames or pages, expected one picture' in capsys.readouterr().err
    assert command(clip, 'cat, dog, grass', '--frame', '1') == 0
    with Image.open(tmp_path / 'out/clip.gif.picture.png') as picture:
        red, green, _ = np.asarray(picture.convert('RGB'))[0, 0].astype(int)
    assert green > red


def test_a_pattern(command, photos, tmp_path):
    assert command(photos / '**/*.[jJ]*') == 0
    out = tmp_path / 'out'
    written = {str(path.relative_to(out)) for path in out.rglob('*.labels.png')}
    assert written == {'a.jpg.labels.png', 'more/c.JPG.labels.png'}
