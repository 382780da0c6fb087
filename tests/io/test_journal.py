from mmseg_siglip.io.journal import Journal, drop_cut_line, read_lines


def test_what_is_appended_is_there_at_once(tmp_path):
    path = tmp_path / 'journal' / '0000.jsonl'
    Journal(path)
    assert not path.parent.exists()
    for number in range(2):
        Journal(path).append(dict(number=number))
        assert [record['number'] for _, record in read_lines(path, {'number'})][-1] == number
    assert path.read_text() == '{"number": 0}\n{"number": 1}\n'


def test_damaged_lines_are_passed_over(tmp_path):
    lines = [b'\0\0\0', b'{"name": "a", "size": 1}', b'[1]', b'{"name": "b"}']
    (tmp_path / 'j.jsonl').write_bytes(b'\n'.join(lines) + b'\n')
    found = list(read_lines(tmp_path / 'j.jsonl', {'name', 'size'}))
    assert found == [(4, dict(name='a', size=1))]


def test_a_cut_line_longer_than_a_block(tmp_path):
    path = tmp_path / 'j'
    path.write_bytes(b'first\n' + b'x' * 200_000)
    drop_cut_line(path)
    assert path.read_bytes() == b'first\n'
