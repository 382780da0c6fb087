"""Kill a labelling run in the middle, start it again, and count what is there.

    python benchmarks/kill_and_restart.py                    # 2 000 images, two processes, PNG
    python benchmarks/kill_and_restart.py --format coco --shards 4 --restart-processes 1

ShapesWorld scenes are labelled by ``tools/dist_predict.sh`` with the SigLIP that ships along. All
its processes get SIGKILL once a part is done. After a restart every image must be labelled exactly
once, what was done before must be untouched, and a sample must equal a run by one process.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed
from mmseg_siglip.io.label_store import read_lines

TOOLS = Path(__file__).resolve().parents[1] / 'tools'
SIZE = (64, 96)
OPTIONS = '--vocabulary shapes --encoder tiny_siglip_shapes --templates single --precision fp32'


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--images', type=int, default=2000)
    parser.add_argument(
        '--sample', type=int, default=50, help='images also labelled by one process'
    )
    parser.add_argument('--processes', type=int, default=2)
    parser.add_argument('--restart-processes', type=int, default=2)
    parser.add_argument('--kill-at', type=float, default=0.4, help='part that is done at the kill')
    parser.add_argument('--format', choices=['png', 'coco'], default='png')
    parser.add_argument('--shards', type=int, default=0, help='tar files instead of a folder')
    return parser.parse_args(argv)


def write_images(root: Path, count: int, shards: int) -> str:
    """Scenes as JPEGs in a folder or in tar shards; returns what names them."""
    root.mkdir()
    tars = [tarfile.open(root / f'shard-{number:03d}.tar', 'w') for number in range(shards)]
    for index in range(count):
        buffer = io.BytesIO()
        scene = generate(scene_seed('test', index), size=SIZE)
        Image.fromarray(scene.image).save(buffer, 'JPEG', quality=95)
        if not tars:
            (root / f'{index:06d}.jpg').write_bytes(buffer.getvalue())
            continue
        info = tarfile.TarInfo(f'{index:06d}.jpg')
        info.size = buffer.tell()
        buffer.seek(0)
        tars[index % shards].addfile(info, buffer)
    for tar in tars:
        tar.close()
    return str(root / f'shard-{{000..{shards - 1:03d}}}.tar') if shards else str(root)


def start(images: str, out: Path, processes: int, form: str) -> subprocess.Popen:
    command = [str(TOOLS / 'dist_predict.sh'), str(processes), images, '--out', str(out)]
    command += [*OPTIONS.split(), '--format', form, '--num-workers', '1']
    variables = dict(os.environ, PYTHON=sys.executable, OMP_NUM_THREADS='1')
    return subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    try:
        children = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    except FileNotFoundError:
        return []
    return [pid, *(each for child in children for each in family(int(child)))]


def kill(run: subprocess.Popen) -> int:
    """SIGKILL for every process of a run at once; returns how many there were."""
    pids = family(run.pid)
    for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none can react
        for pid in pids:
            os.kill(pid, number)
    run.communicate()
    return len(pids)


def written(out: Path) -> Counter[str]:
    """How often each image is there."""
    pngs = [file.name.removesuffix('.png') for file in out.glob('labels/**/*.png')]
    journals = sorted(out.glob('journal/*.jsonl'))
    lines = [record['file_name'] for path in journals for _, record in read_lines(path)]
    return Counter(pngs + lines)


def stamps(out: Path) -> dict[str, tuple]:
    """What changes when a label PNG is written again."""
    files = list(out.glob('labels/**/*.png'))
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def label_maps(out: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The name of each image, without its folder, and its labels (H, W)."""
    for file in out.glob('labels/**/*.png'):
        yield file.name.removesuffix('.png'), np.array(Image.open(file))
    for path in out.glob('journal/*.jsonl'):
        for _, record in read_lines(path):
            labels = np.full((record['height'], record['width']), 255, np.uint8)
            for entry in record['annotations']:
                labels[coco_mask.decode(entry['segmentation']) > 0] = entry['category_id']
            yield Path(record['file_name']).name, labels


def finish(run: subprocess.Popen) -> str:
    """The last line of a run that ends well."""
    output, errors = run.communicate()
    if run.returncode:
        sys.exit(f'error: the run ended with status {run.returncode}:\n{errors[-3000:]}')
    return output.strip().splitlines()[-1]


def check(name: str, holds: bool) -> None:
    print(f'{"ok" if holds else "FAILED"}: {name}', flush=True)
    if not holds:
        sys.exit(1)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        images = write_images(root / 'images', args.images, args.shards)
        out, begin = root / 'out', time.perf_counter()
        run = start(images, out, args.processes, args.format)
        while (there := sum(written(out).values())) < args.kill_at * args.images:
            if run.poll() is not None:
                sys.exit(f'error: the run ended too early:\n{run.communicate()[1][-3000:]}')
            time.sleep(0.02)
        killed = kill(run)
        before, marks = written(out), stamps(out)
        print(f'{killed} processes killed after {time.perf_counter() - begin:.0f} s, at {there}')
        begin = time.perf_counter()
        print(finish(start(images, out, args.restart_processes, args.format)))
        seconds = time.perf_counter() - begin
        print(f'restarted with {args.restart_processes} processes: {seconds:.0f} s')
        counts = written(out)
        check('the kill came in the middle', 0 < len(before) < args.images)
        check(f'each of {args.images} images exactly once', set(counts.values()) == {1})
        check('none is missing', len(counts) == args.images)
        after = stamps(out)
        check('what was done before is untouched', marks.items() <= after.items())
        print(finish(start(images, out, 1, args.format)))
        check('a third run changes nothing', (counts, after) == (written(out), stamps(out)))

        sample = write_images(root / 'sample', args.sample, 0)
        finish(start(sample, root / 'single', 1, args.format))
        maps = dict(label_maps(out))
        pairs = [(maps[name], labels) for name, labels in label_maps(root / 'single')]
        equal = sum(int((a == b).sum()) for a, b in pairs)
        total = sum(a.size for a, _ in pairs)
        print(f'{equal} of {total} pixels equal those of one process on {len(pairs)} images')
        check('they are the same labels', len(pairs) == args.sample and equal == total)


if __name__ == '__main__':
    main()
