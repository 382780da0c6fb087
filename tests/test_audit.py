from audit import PINS, look_up, pins_of, sum_up

CLEAN = dict(name='numpy', version='2.0', vulns=[])
FLAWED = dict(
    name='torch', version='2.5', vulns=[dict(id='CVE-2025-32434', fix_versions=['2.6'], aliases=[])]
)
UNKNOWN = dict(name='tqdm', skip_reason='Dependency not found')


def test_what_is_said():
    assert sum_up(['a==1', 'b==1'], [CLEAN, UNKNOWN]) == (
        '1 of 2 pins checked, vulnerabilities: 0',
        False,
    )
    assert sum_up(['a==1', 'b==1', 'c==1'], [CLEAN, FLAWED, UNKNOWN]) == (
        'torch 2.5: CVE-2025-32434, mended in 2.6\n2 of 3 pins checked, vulnerabilities: 1',
        True,
    )
    assert sum_up(['a==1'], []) == ('0 of 1 pins checked, vulnerabilities: 0', False)


def test_without_a_network(monkeypatch, tmp_path):
    monkeypatch.setenv('HTTPS_PROXY', 'http://127.0.0.1:9')
    path = tmp_path / 'pins.txt'
    path.write_text('numpy==2.0.0\n')
    assert not [entry for entry in look_up(path) if 'vulns' in entry]


def test_the_pins():
    assert len(pins_of(PINS)) > 50 and all('==' in pin for pin in pins_of(PINS))
