"""What an encoder must do whose parts lie apart."""

import pytest
from contracts.encoder import EncoderContract


class PartsContract(EncoderContract):
    """`EncoderContract` by fixtures of the module: ``file``, the encoder's own; ``parts``, where
    the others lie; ``backbone``, of both."""

    @pytest.fixture(scope='class')
    def source(self, file):
        return file

    @pytest.fixture(scope='class')
    def description(self, parts):
        return parts

    @pytest.fixture(scope='class')
    def config(self, file, parts):
        return dict(parts, pretrained=file)

    @pytest.fixture(scope='class')
    def encoder(self, backbone):
        return backbone
