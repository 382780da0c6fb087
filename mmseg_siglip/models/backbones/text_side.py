"""The text side of an encoder, and how its vectors are compared with those of images.

Shapes: N prompts, L text tokens, T channels of the text tower, Q words, D channels of the joint
image-text space.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import normalize


class TextSide:
    """What an encoder does with words.

    Attributes:
        model: The library's module that holds the weights.
        text_width: T.
        has_text: Whether the text side is there.
        logit_scale: Factor on cosines, already exponentiated.
        logit_bias: Term added to scaled cosines; 0 where the encoder has none.
    """

    model: nn.Module
    text_width: int
    has_text: bool

    @abstractmethod
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Prompts to vectors of the joint space, not normalised: (N, D).

        Raises:
            ValueError: A prompt does not fit the encoder's context, or the text tower is gone.
        """

    def encode_prompts(self, texts: Sequence[str]) -> Tensor:
        """What a word's templates are averaged over, (N, E): unit vectors of the joint space."""
        return normalize(self.encode_text(texts).float(), dim=-1)

    def from_prompts(self, mean: Tensor) -> Tensor:
        """The mean of a word's `encode_prompts` (Q, E) to the joint space, (Q, D)."""
        return mean

    @abstractmethod
    def encode_text_tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Prompts to the text tower's tokens (N, L, T), which of them are no padding (N, L), and
        `encode_text`'s vectors (N, D)."""

    @abstractmethod
    def token_rows(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The token ids of each text, without padding: all that the encoder knows of it."""

    @abstractmethod
    def project_text(self, tokens: Tensor) -> Tensor:
        """Tokens of the text tower (N, L, T) into the joint space (N, L, D)."""

    @abstractmethod
    def is_text(self, name: str) -> bool:
        """Whether the tensor of `model` of that name is the text side's."""

    @abstractmethod
    def text_settings(self) -> dict[str, Any]:
        """What `encode_text` depends on and no tensor tells, such as the activation and the number
        of heads: plain values, the same wherever the weights lie."""

    def tokenizer_state(self) -> dict[str, int]:
        """The tokens that a checkpoint brings along, by id; empty where they are fixed."""
        return {}

    def text_parameters(self) -> dict[str, Tensor]:
        """Every tensor that `encode_text` depends on, by its name in `model`."""
        state = self.model.state_dict()
        return {name: value for name, value in state.items() if self.is_text(name)}

    def text_module_parameters(self) -> list[nn.Parameter]:
        """Those of `text_parameters` that can train."""
        return [value for name, value in self.model.named_parameters() if self.is_text(name)]

    @abstractmethod
    def set_logit(self, *, scale: float, bias: float) -> None:
        """Set factor and term of scaled cosines."""

    def logit_parameters(self) -> tuple[Tensor, Tensor]:
        """Factor, exponentiated, and term, 0-d each, with gradients where they train."""
        bias = getattr(self.model, 'logit_bias', None)
        scale = self.model.logit_scale.exp().squeeze()
        return scale, scale.new_zeros(()) if bias is None else bias.squeeze()

    def logit_weights(self) -> list[nn.Parameter]:
        """What `logit_parameters` depend on."""
        found = (getattr(self.model, name, None) for name in ('logit_scale', 'logit_bias'))
        return [weight for weight in found if isinstance(weight, nn.Parameter)]

    @property
    def logit_scale(self) -> float:
        return self._logit_values()[0]

    @property
    def logit_bias(self) -> float:
        return self._logit_values()[1]

    def train(self, mode: bool = True) -> TextSide:
        """As a module's; what was read of weights is read again, since those that an exponential
        average takes the place of, before `eval`, are not counted as changed."""
        self.__dict__.pop('_logit_read', None)
        return super().train(mode)

    def _logit_values(self) -> tuple[float, float]:
        """`logit_parameters` as numbers, read again where their weights were changed."""
        weights = self.logit_weights()
        if any(weight.is_inference() for weight in weights) or not weights:
            return tuple(value.item() for value in self.logit_parameters())
        now = [(weight, weight._version) for weight in weights]
        held, values = self.__dict__.get('_logit_read', ([], ()))
        same = len(held) == len(now) and all(
            old is new and before == version
            for (old, before), (new, version) in zip(held, now, strict=True)
        )
        if not same:
            values = tuple(value.item() for value in self.logit_parameters())
            self.__dict__['_logit_read'] = now, values
        return values

    @abstractmethod
    def drop_text(self) -> None:
        """Let go of the text side's weights."""

    def require_text(self) -> None:
        """Refuse a call that needs the text side where it is gone.

        Raises:
            ValueError: It is.
        """
        if not self.has_text:
            raise ValueError(
                f'expected an encoder with its text tower, found a {type(self).__name__} that was '
                'reduced to its vision side'
            )
