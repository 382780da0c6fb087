from __future__ import annotations

import sys
from fractions import Fraction

import numpy as np
import pytest
from peak_memory import refusal
from videos import RATE, frame_of, read_video, write_video

from mmseg_siglip.io import video as module
from mmseg_siglip.io.video import VideoReader, VideoWriter, is_video


def test_frames_come_in_order_with_their_times(tmp_path):
    path = write_video(tmp_path / 'a.mp4', 6, times=[0, 1, 2, 5, 6, 10])
    with VideoReader(path) as reader:
        found = [*reader]
        times = [time * reader.time_base for _, time in found]
    assert times == [Fraction(t, RATE) for t in (0, 1, 2, 5, 6, 10)]
    for number, (rgb, _) in enumerate(found):
        assert np.abs(rgb.astype(int) - frame_of(number))[30:].max() <= 8


@pytest.mark.parametrize('suffix', module.WRITTEN)
def test_what_is_written_is_read_again_by_the_library(tmp_path, suffix):
    path = tmp_path / f'b{suffix}'
    times = [0, 1, 4, 5]
    with VideoWriter(path, rate=Fraction(RATE), time_base=Fraction(1, RATE)) as writer:
        for number, time in enumerate(times):
            writer.write(frame_of(number, (47, 63)), time)
    frames, shown = read_video(path)
    assert shown == [time / RATE for time in times]
    assert {frame.shape for frame in frames} == {(48, 64, 3)}
    for number, frame in enumerate(frames):
        assert np.abs(frame[30:47, :63].astype(int) - frame_of(number, (47, 63))[30:]).max() <= 8


@pytest.mark.parametrize('degrees', [90, -90, 180])
def test_a_telephone_held_upright(tmp_path, degrees):
    """FFmpeg's rule: the matrix turns the frame anticlockwise by that many degrees."""
    path = write_video(tmp_path / 'a.mp4', 2, rotation=degrees)
    with VideoReader(path) as reader:
        rgb, _ = next(iter(reader))
    expected = np.rot90(frame_of(0), degrees // 90 % 4)
    assert rgb.shape == expected.shape
    assert np.abs(rgb.astype(int) - expected).mean() < 4


def test_no_more_than_a_few_frames_are_held(tmp_path):
    path = write_video(tmp_path / 'a.mp4', 120, size=(480, 640), gop=30)

    def read():
        with VideoReader(path) as reader:
            assert sum(1 for _ in reader) == 120

    said, megabytes = refusal(read)
    assert said is None and megabytes < 60  # all of them have 105


def test_what_is_no_video(tmp_path):
    (tmp_path / 'a.mp4').write_bytes(b'no video at all' * 100)
    with pytest.raises(ValueError, match=r'a.mp4 cannot be read as a video: Invalid data'):
        VideoReader(tmp_path / 'a.mp4')
    with pytest.raises(ValueError, match='b.mp4: no such video'):
        VideoReader(tmp_path / 'b.mp4')
    assert is_video('A.MP4') and not is_video('a.jpg')


def test_a_list_of_videos_is_none(tmp_path):
    """FFmpeg would open what it names."""
    write_video(tmp_path / 'b.mp4', 2)
    (tmp_path / 'a.mp4').write_text('ffconcat version 1.0\nfile b.mp4\n')
    with pytest.raises(ValueError, match='a.mp4 cannot be read as a video: '):
        VideoReader(tmp_path / 'a.mp4')


@pytest.mark.parametrize('suffix', ['mkv', 'mov', 'avi'])
def test_other_containers(tmp_path, suffix):
    path = write_video(tmp_path / f'a.{suffix}', 5)
    with VideoReader(path) as reader:
        assert len([*reader]) == 5


def test_large_frames_are_refused_before_one_is_decoded(tmp_path, monkeypatch):
    path = write_video(tmp_path / 'a.mp4', 2)
    monkeypatch.setattr(module, 'MAX_PIXELS', 64 * 48 - 1)
    with pytest.raises(ValueError, match='a.mp4 has 64 x 48 pixels, more than max_pixels'):
        VideoReader(path)


@pytest.mark.parametrize(('suffix', 'options'), [('mp4', dict(movflags='faststart')), ('mkv', {})])
def test_a_file_that_is_cut_short_gives_what_is_there_and_a_sentence(tmp_path, suffix, options):
    path = write_video(tmp_path / f'a.{suffix}', 40, **options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    found = []
    with VideoReader(path) as reader, pytest.raises(ValueError, match=r'^.*a.m') as caught:
        for rgb, _ in reader:
            found.append(rgb)
    assert 4 < len(found) < 40
    assert 'cut short' in str(caught.value) or 'cannot be decoded' in str(caught.value)


@pytest.mark.parametrize('options', [{}, dict(live='1')])
def test_a_matroska_may_begin_late_or_say_no_duration(tmp_path, options):
    times = [*range(30, 60), 75]
    path = write_video(tmp_path / 'a.mkv', len(times), times=times, **options)
    with VideoReader(path) as reader:
        assert len([*reader]) == len(times)


def test_a_name_with_a_colon_is_no_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = '2024-01-01T12:30:00.mp4'
    with VideoWriter(name, rate=Fraction(RATE), time_base=Fraction(1, RATE)) as writer:
        writer.write(frame_of(0), 0)
    with VideoReader(name) as reader:
        assert len([*reader]) == 1


@pytest.mark.parametrize('suffix', ['avi', 'webm'])
def test_containers_that_are_not_written(tmp_path, suffix):
    path = tmp_path / f'a.{suffix}'
    with pytest.raises(ValueError, match=f'a.{suffix}: expected a video to write in .mp4, .mov'):
        VideoWriter(path, rate=Fraction(RATE), time_base=Fraction(1, RATE))
    assert not path.exists()


def test_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'av', None)
    with pytest.raises(ImportError, match=r"videos need PyAV: pip install 'mmseg_siglip\[video\]'"):
        VideoReader(tmp_path / 'a.mp4')
