"""Metadata is in setup.cfg; here is only what MIM needs inside the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

MIM_FILES = ('configs', 'tools', 'model-index.yml')


class BuildWithMim(build_py):
    """Copy configs, tools and the model index to ``mmseg_siglip/.mim`` of what is built."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, 'mmseg_siglip', '.mim')
        for name in MIM_FILES:
            source = Path(__file__).parent / name
            if source.is_dir():
                ignore = shutil.ignore_patterns('__pycache__')
                shutil.copytree(source, target / name, dirs_exist_ok=True, ignore=ignore)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target / name)


setup(cmdclass={'build_py': BuildWithMim})
