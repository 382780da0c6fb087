"""One loop over every pool: nothing lost, nothing twice, whoever is killed when."""

import os
import threading

import pytest
from toy_labeller import BROKEN, KILLS, KILLS_IN_COMPANY, KillsWorkers, Recipe, Run, write_images

from mmseg_siglip.io.failures import OutputError
from mmseg_siglip.labelling.drive import Drive, ShardTurns
from mmseg_siglip.labelling.pools import ProcessPool
from mmseg_siglip.labelling.shards import FileShard


@pytest.mark.parametrize('workers', [0, 2])
def test_all_is_labelled_once(tmp_path, workers):
    run = Run(tmp_path, range(40))
    total = run(workers=workers)
    assert run.rows() == run.expected() and total.labelled == run.told == 40
    assert total.shards == len(list(run.listing.shards())) and total.there == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'out/shards').iterdir()}
    total = run(workers=workers)
    assert total.labelled == 0 and total.there == len(before)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_is_missing_is_done(tmp_path):
    run = Run(tmp_path, range(40))
    run()
    victims = sorted((tmp_path / 'out/shards').iterdir())[::2]
    for path in victims:
        path.unlink()
    assert run().shards == len(victims) and run.rows() == run.expected()


def test_failed_images_are_labelled_again_and_the_others_kept(tmp_path):
    run = Run(tmp_path, [1, 2, BROKEN, 4, 5, 6, 7, 8, BROKEN, 10, 11, 12])
    assert run().labelled == 10
    assert run.rows()['002.png'] == 'cannot be decoded'
    write_images(tmp_path / 'images', range(1, 13))
    assert run().labelled == 0
    total = run(retry=True)
    assert total.labelled == 2
    run.values = range(1, 13)
    assert run.rows() == run.expected()
    assert run(retry=True).labelled == 0


def test_ranks_share_and_help(tmp_path):
    """Each takes its turns; one alone does all in the end."""
    run = Run(tmp_path, range(40))
    own = ShardTurns(run.listing, run.store, rank=1, size=3)
    names = [shard.name for shard in run.listing.shards()]
    first = []
    for task in own:
        if task is None or len(first) == len(names[1::3]):
            break
        first.append(task.shard.name)
    assert first == names[1::3]
    total = run(rank=2, size=3)
    assert total.labelled == 40 and run.rows() == run.expected()
    assert run(rank=0, size=3).labelled == 0


def test_an_image_that_kills_its_process_costs_itself(tmp_path):
    run = Run(tmp_path, [*range(6), KILLS, *range(7, 12)], size=4)
    total = run(workers=1)
    rows = run.rows()
    assert rows.pop('006.png').startswith('ended the process that labelled it: signal 9')
    wanted = run.expected()
    del wanted['006.png']
    assert rows == wanted and total.labelled == 11


def test_what_fails_in_company_alone_is_labelled(tmp_path):
    run = Run(tmp_path, [1, KILLS_IN_COMPANY, 3, 4])
    run(workers=1)
    assert run.rows() == run.expected()


class Killing(KillsWorkers, ProcessPool):
    most, often, seconds = 20, 0.7, 0.2

    def kill(self, worker):
        self.children[worker].process.kill()


def test_twenty_kills_lose_nothing(tmp_path):
    run = Run(tmp_path, range(120))
    pool = Killing(run.settings(Recipe(seconds=0.03)), 2)
    Drive(ShardTurns(run.listing, run.store), pool, run.store).run()
    assert run.rows() == run.expected() and pool.kills == 20
    run.store.remove_drafts()
    assert not list((tmp_path / 'out/shards').glob('.*'))


def test_a_worker_that_cannot_be_made(tmp_path):
    run = Run(tmp_path, range(4))
    with pytest.raises(ValueError, match='no such weights'):
        run(Recipe(refuse='no such weights'), workers=2)
    with pytest.raises(ValueError, match='no such weights'):
        run(Recipe(refuse='no such weights'))
    message = '20 workers in a row ended before a task: exit status 7'
    with pytest.raises(ValueError, match=message):
        run(Recipe(dies=True), workers=2)
    with pytest.raises(ValueError, match='workers differ in worker'):
        run(Recipe(differs=True), workers=2)


def test_settings_are_claimed_before_anything_is_labelled(tmp_path):
    run, seen = Run(tmp_path, range(4)), []

    def refuse(settings):
        seen.append(settings)
        raise ValueError('other settings')

    with pytest.raises(ValueError, match='other settings'):
        run(claim=refuse, workers=1)
    assert seen == [dict(words='bright', worker=0)] and not (tmp_path / 'out').exists()


@pytest.mark.parametrize('workers', [0, 1])
def test_a_folder_that_cannot_be_written_ends_the_run(tmp_path, workers):
    run = Run(tmp_path, range(4))
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/shards').write_text('in the way')
    with pytest.raises(OutputError, match='cannot be written'):
        run(workers=workers)


def test_two_ranks_at_once(tmp_path):
    """Each image once, whoever labels it."""
    run = Run(tmp_path, range(60))
    totals, threads = [], []
    for rank in range(2):
        recipe = Recipe(seconds=0.01 * rank)
        threads.append(
            threading.Thread(target=lambda r=rank, c=recipe: totals.append(run(c, rank=r, size=2)))
        )
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert run.rows() == run.expected() and len(totals) == 2
    assert sum(total.shards for total in totals) <= len(list(run.listing.shards())) + 3


def test_what_comes_during_the_run_is_labelled_too(tmp_path):
    run = Run(tmp_path, range(20))
    run(claim=lambda settings: write_images(tmp_path / 'images', [*range(20), 99]))
    assert run.rows() == run.expected() | {'020.png': 99.0}


def test_a_fault_of_all_images_ends_the_run(tmp_path):
    run = Run(tmp_path, [KILLS] * 60, size=2)
    with pytest.raises(ValueError, match='20 workers ended before they had labelled an image'):
        run(workers=2)


def test_a_name_that_is_no_utf8(tmp_path):
    run = Run(tmp_path, range(3))
    (tmp_path / 'images' / os.fsdecode(b'\xff.png')).write_bytes(b'1')
    run()
    rows = run.rows()
    (path,) = [name for name in rows if name not in run.expected()]
    assert path.endswith('\\udcff.png') and rows[path] == 'has a name that is no UTF-8'
    del rows[path]
    assert rows == run.expected()


def test_an_error_of_reading_is_none_of_writing(tmp_path, monkeypatch):
    run = Run(tmp_path, range(3))

    def gone(self):
        raise ConnectionError('the Hub is not reached')
        yield

    monkeypatch.setattr(FileShard, 'members', gone)
    with pytest.raises(RuntimeError, match='ConnectionError: the Hub is not reached'):
        run()
