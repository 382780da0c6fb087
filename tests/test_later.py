import pytest

from mmseg_siglip.later import Later


def test_what_follows_is_done_when_it_is_asked_for():
    done = []
    later = Later(lambda: done.append(1) or 2, ready=False).then(lambda value: value + 1)
    assert not done and not later.ready
    assert later() == 3 and done == [1]


def test_what_is_there_and_what_is_not():
    assert Later.now(3)() == 3 and Later.now(3).then(str).ready
    failed = Later.failed(ValueError('too small'))
    with pytest.raises(ValueError, match='too small'):
        failed.then(str)()
    assert failed.ready
