"""RADSeg's SCRA and SCGA on CLIP."""

from collections.abc import Iterator

from golden import Case, Golden, rows

PICTURES = dict(native=(31, 224, 224), wide=(32, 224, 336))
KINDS = {
    'scra_tokens': dict(type='scra'),
    'scra_reduced': dict(type='scra', reduced=True),
    'scra_scga': dict(type='scga'),
}


def cases(golden: Golden) -> Iterator[Case]:
    for name, picture in PICTURES.items():
        for kind, method in KINDS.items():

            def run(picture: tuple = picture, method: dict = method):
                images = golden.picture(*picture)
                return rows(golden.clip().dense(images, attention=method))

            yield Case(method['type'], 'functions', f'{kind}_{name}', run, 1e-5)
