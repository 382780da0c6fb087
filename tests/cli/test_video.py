from __future__ import annotations

import numpy as np
import pytest
from commands import command as command_of
from PIL import Image
from videos import RATE, read_video, write_video

from mmseg_siglip.api import OpenVocabSegmenter
from mmseg_siglip.cli.video import batches, words_of_frames
from mmseg_siglip.io.image import decode_depth

segment = command_of('segment')
WORDS = 'cat, dog, grass'


@pytest.fixture
def clip(tmp_path):
    return write_video(tmp_path / 'clip.mp4', 6, times=[0, 1, 2, 5, 6, 7])


@pytest.fixture
def run(openai_file, tmp_path):
    def call(video, *extra):
        options = ['--encoder', openai_file, '--templates', 'plain']
        return segment([video, WORDS, *options, '--out', str(tmp_path / 'out.mp4'), *extra])

    return call


@pytest.fixture(scope='module')
def segmenter(openai_file):
    return OpenVocabSegmenter.from_pretrained(openai_file, templates='plain')


def test_a_video_in_a_video_out(run, clip, tmp_path, capsys):
    assert run(clip, '--labels', str(tmp_path / 'labels'), '--batch-size', '4') == 0
    assert f'6 frames, without sound, in {tmp_path}/out.mp4' in capsys.readouterr().out
    frames, times = read_video(tmp_path / 'out.mp4')
    assert {frame.shape for frame in frames} == {(48, 64, 3)}
    assert times == [t / RATE for t in (0, 1, 2, 5, 6, 7)]
    labels = sorted((tmp_path / 'labels').iterdir())
    assert [path.name for path in labels] == [f'{n:06d}.labels.png' for n in range(6)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ['clip.mp4', 'labels', 'out.mp4']


def test_labels_of_frames_are_those_of_pictures(run, clip, tmp_path, segmenter):
    assert run(clip, '--labels', str(tmp_path / 'labels')) == 0
    frames, _ = read_video(clip)
    for number in (0, 5):
        expected = segmenter(frames[number], WORDS).labels
        found = np.array(Image.open(tmp_path / f'labels/{number:06d}.labels.png'))
        assert np.array_equal(found, expected)


def test_smoothing_is_the_average_of_the_scores_of_all_classes(clip, segmenter):
    frames, _ = read_video(clip)
    words = segmenter.use(WORDS)
    scores = [score.double() for score in segmenter.class_scores(frames)]
    assert scores[0].shape == (3, 48, 64)
    np.testing.assert_allclose(scores[0].sum(0), 1, atol=1e-5)
    found = list(words_of_frames(segmenter, words, smooth=0.8)(frames))
    mean = scores[0]
    for result, score in zip(found[1:], scores[1:], strict=True):
        mean = 0.8 * mean + 0.2 * score
        best, expected = mean.max(0)
        np.testing.assert_allclose(result.scores, best, atol=1e-5)
        clear = mean.topk(2, 0).values.diff(dim=0)[0].abs() > 1e-5
        assert (torch_equal := (result.labels == expected.numpy())[clear.numpy()]).all()
        assert torch_equal.size
    plain = list(words_of_frames(segmenter, words, smooth=None)(frames))
    assert np.array_equal(plain[0].labels, found[0].labels)


def test_scores_of_classes_leave_the_model_as_it_was(clip, segmenter):
    frames, _ = read_video(clip)
    before = dict(segmenter.model.test_cfg)
    (scores,) = segmenter.class_scores(frames[:1], WORDS)
    assert dict(segmenter.model.test_cfg) == before
    plain = segmenter(frames[0], WORDS)
    assert np.array_equal(segmenter.of_scores(frames[0], scores).labels, plain.labels)


def test_what_comes_before_a_damaged_part_is_kept_and_plays(run, tmp_path, capsys):
    clip = write_video(tmp_path / 'cut.mp4', 40, movflags='faststart')
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) * 6 // 10])
    assert run(clip) == 1
    frames, _ = read_video(tmp_path / 'out.mp4')
    assert 4 < len(frames) < 40
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f'error: {clip}')
    assert error.endswith(f'; the {len(frames)} frames before are in {tmp_path}/out.mp4')


def test_frames_before_a_damaged_one_are_a_batch():
    def frames():
        yield from [('a', 0), ('b', 1), ('c', 2)]
        raise ValueError('damaged')

    found = []
    with pytest.raises(ValueError, match='damaged'):
        for batch in batches(frames(), 2):
            found.append(batch)
    assert found == [[('a', 0), ('b', 1)], [('c', 2)]]


def test_what_is_no_video_leaves_nothing(run, tmp_path, capsys):
    (tmp_path / 'a.mp4').write_text('no video' * 100)
    assert run(tmp_path / 'a.mp4') == 1
    assert 'a.mp4 cannot be read as a video' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['a.mp4']


def test_a_video_stands_alone(run, clip, tmp_path, capsys):
    image = tmp_path / 'a.png'
    Image.new('RGB', (64, 48)).save(image)
    for extra, reason in (
        (('--frame', '1'), 'expected a video alone, found --frame'),
        (('--smooth', '1'), 'expected a number from 0 to below 1'),
    ):
        with pytest.raises(SystemExit) as ended:
            run(clip, *extra)
        assert ended.value.code == 2 and reason in capsys.readouterr().err
    for option, value in (('--smooth', '0.5'), ('--batch-size', '2')):
        with pytest.raises(SystemExit):
            run(image, option, value)
        assert f'{option} needs a video' in capsys.readouterr().err
    assert run('https://x/clip.mp4') == 1
    assert 'expected a video on this machine' in capsys.readouterr().err


def test_the_video_itself_is_not_overwritten(run, clip, capsys):
    before = clip.read_bytes()
    assert run(clip, '--out', str(clip)) == 1
    assert 'expected another file than the video' in capsys.readouterr().err
    assert clip.read_bytes() == before


@pytest.mark.parametrize('suffix', ['avi', 'webm'])
def test_containers_that_are_not_written_are_refused_before_a_model_is_built(
    clip, tmp_path, capsys, suffix
):
    out = str(tmp_path / f'out.{suffix}')
    assert segment([clip, WORDS, '--encoder', 'no such model', '--out', out]) == 1
    assert f'out.{suffix}: expected a video to write in .mp4' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['clip.mp4']


def test_depth_of_a_video(depth_files, clip, tmp_path):
    config, checkpoint = map(str, depth_files)
    argv = [clip, '--config', config, '--checkpoint', checkpoint, '--out', str(tmp_path / 'deep')]
    assert command_of('depth')([*argv, '--smooth', '0.5']) == 0
    frames, _ = read_video(tmp_path / 'deep/clip.mp4')
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 6


def test_depth_maps_of_frames_are_saved_as_those_of_images(depth_files, clip, tmp_path):
    config, checkpoint = map(str, depth_files)
    maps = tmp_path / 'maps'
    argv = [clip, '--config', config, '--checkpoint', checkpoint, '--out', str(tmp_path / 'deep')]
    argv += ['--labels', str(maps)]
    assert command_of('depth')([*argv, '--format', 'npy']) == 0
    assert sorted(path.name for path in maps.iterdir()) == [f'{n:06d}.depth.npy' for n in range(6)]
    assert command_of('depth')([*argv, '--depth-scale', '100']) == 0
    found = decode_depth((maps / '000003.depth.png').read_bytes(), 'a', per_metre=100) / 100
    np.testing.assert_allclose(found, np.load(maps / '000003.depth.npy').clip(min=1e-2), atol=6e-3)
