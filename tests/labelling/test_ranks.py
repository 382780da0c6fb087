import pytest

from mmseg_siglip.labelling.ranks import place_among


@pytest.mark.parametrize(
    ('launcher', 'variables', 'place'),
    [
        ('none', {}, (0, 1, 0)),
        ('pytorch', dict(RANK='3', WORLD_SIZE='8', LOCAL_RANK='1'), (3, 8, 1)),
        ('slurm', dict(SLURM_PROCID='2', SLURM_NTASKS='4', SLURM_LOCALID='0'), (2, 4, 0)),
        (
            'slurm',
            {
                f'SLURM_ARRAY_TASK_{name}': value
                for name, value in zip(('MIN', 'ID', 'COUNT'), '573', strict=True)
            },
            (2, 3, 0),
        ),
        ('mpi', dict(OMPI_COMM_WORLD_RANK='1', OMPI_COMM_WORLD_SIZE='2'), (1, 2, 0)),
    ],
)
def test_each_launcher(monkeypatch, launcher, variables, place):
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'SLURM_PROCID', 'SLURM_NTASKS'):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert place_among(launcher) == place


def test_a_launcher_that_was_not_there(monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(ValueError, match='--launcher pytorch: expected RANK and WORLD_SIZE'):
        place_among('pytorch')
