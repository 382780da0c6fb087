"""The project's own files: metadata, requirements, model index, metafiles."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys

import pytest
import yaml
from matrix import ENVIRONMENTS
from packaging.requirements import Requirement

import mmseg_siglip


def requirements(path):
    lines = (line.strip() for line in path.read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith('#')]


def canonical(name):
    return re.sub(r'[-_.]+', '-', name).lower()


def test_every_direct_dependency_has_a_tested_version(repository):
    pins = {
        canonical(pin.name): str(pin.specifier).removeprefix('==')
        for pin in requirements(repository / 'requirements' / 'constraints.txt')
    }
    for path in (repository / 'requirements').glob('*.txt'):
        for requirement in requirements(path):
            if requirement.name == 'setuptools':
                continue  # part of every virtual environment
            version = pins[canonical(requirement.name)]
            assert version in requirement.specifier, requirement


def test_the_index_leads_to_files_that_exist(repository):
    index = yaml.safe_load((repository / 'model-index.yml').read_text())
    assert index['Import']
    for name in index['Import']:
        metafile = yaml.safe_load((repository / name).read_text())
        assert metafile['Models'], name
        for model in metafile['Models']:
            assert (repository / model['Config']).is_file(), model['Config']
            assert model['In Collection'] in [entry['Name'] for entry in metafile['Collections']]


def test_every_metafile_is_in_the_index(repository):
    index = yaml.safe_load((repository / 'model-index.yml').read_text())
    found = {
        str(path.relative_to(repository)) for path in repository.glob('configs/*/metafile.yml')
    }
    assert found == set(index['Import'])


def test_every_config_is_in_the_metafile_of_its_folder(repository):
    for path in repository.glob('configs/*/metafile.yml'):
        models = yaml.safe_load(path.read_text())['Models']
        found = {str(file.relative_to(repository)) for file in path.parent.glob('*.py')}
        assert found == {model['Config'] for model in models}


def test_links_between_documents_lead_somewhere(repository):
    documents = [*repository.glob('*.md'), *repository.glob('configs/**/*.md')]
    assert documents
    for document in documents:
        for link in re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', document.read_text()):
            assert (document.parent / link).exists(), f'{document}: {link}'


def test_files_stay_short(repository):
    for path in [*repository.glob('mmseg_siglip/**/*.py'), *repository.glob('tools/**/*.py')]:
        assert len(path.read_text().splitlines()) < 400, path


def test_the_metadata_names_the_version_of_the_package(repository):
    assert setup_cfg(repository)['metadata']['version'] == 'attr: mmseg_siglip.__version__'
    assert re.fullmatch(r'\d+\.\d+\.\d+(\.dev0)?', mmseg_siglip.__version__)


def test_the_citation(repository):
    citation = yaml.safe_load((repository / 'CITATION.cff').read_text())
    assert citation['cff-version'] == '1.2.0' and citation['type'] == 'software'
    assert citation['message'] and citation['title'] == 'mmseg_siglip'
    released = re.search(r'^## (\S+) - (\S+)$', (repository / 'CHANGELOG.md').read_text(), re.M)
    assert (citation['version'], str(citation['date-released'])) == released.groups()
    assert citation['license'] == 'Apache-2.0'
    assert citation['authors'] and all(
        author.keys() & {'name', 'family-names'} for author in citation['authors']
    )
    known = {'abstract', 'authors', 'cff-version', 'keywords', 'license', 'message', 'title'}
    assert citation.keys() <= known | {'type', 'version', 'date-released', 'repository-code', 'url'}


def setup_cfg(repository):
    metadata = configparser.ConfigParser()
    metadata.read(repository / 'setup.cfg')
    return metadata


def test_type_checkers_read_the_package(repository):
    assert (repository / 'mmseg_siglip' / 'py.typed').read_bytes() == b''
    setup = setup_cfg(repository)
    assert 'py.typed' in setup['options.package_data']['mmseg_siglip'].split()
    assert 'Typing :: Typed' in setup['metadata']['classifiers']


def test_every_python_is_named_once(repository):
    """By classifiers, `python_requires`, and the matrix."""
    setup = setup_cfg(repository)
    named = re.findall(r'Python :: (3\.\d+)', setup['metadata']['classifiers'])
    assert setup['options']['python_requires'] == f'>={named[0]}'
    assert list(dict.fromkeys(one.python for one in ENVIRONMENTS)) == named


def test_plain_installation_brings_no_test_tools(repository):
    files = setup_cfg(repository)['options']['install_requires'].removeprefix('file: ')
    plain = {
        canonical(one.name) for file in files.split(', ') for one in requirements(repository / file)
    }
    tools = {canonical(one.name) for one in requirements(repository / 'requirements/tests.txt')}
    assert len(plain) > 15 and len(tools) > 5 and not plain & tools


@pytest.mark.slow
def test_a_build_holds_the_data_and_what_mim_looks_for(repository, tmp_path):
    source, built = tmp_path / 'source', tmp_path / 'built'
    subprocess.run(['git', 'clone', '--quiet', str(repository), str(source)], check=True)
    command = [sys.executable, 'setup.py', '--quiet', 'build_py', '--build-lib', str(built)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    package = built / 'mmseg_siglip'
    assert (package / '.mim' / 'model-index.yml').is_file()
    assert (package / '.mim' / 'configs' / '_base_' / 'default_runtime.py').is_file()
    assert (package / '.mim' / 'tools' / 'test.py').is_file()
    files = subprocess.check_output(['git', 'ls-files', 'mmseg_siglip'], cwd=source, text=True)
    assert 'mmseg_siglip/text/vocabularies/voc21.txt' in files.split()
    assert not [file for file in files.split() if not (built / file).is_file()]
    assert not (source / 'mmseg_siglip' / '.mim').exists()
