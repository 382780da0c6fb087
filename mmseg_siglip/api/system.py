"""What people ask of images: one class a task, one way to call it.

Importing this is quick: systems, and what they are made of, come when they are asked for.
"""

from __future__ import annotations

import reprlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from mmseg_siglip.api.graphs import GraphModel, is_graph
from mmseg_siglip.later import Later
from mmseg_siglip.lazy import LazyMapping

if TYPE_CHECKING:
    import numpy as np
    import torch
    from mmengine.config import Config
    from torch import nn

    from mmseg_siglip.api.model_card import CardFacts
    from mmseg_siglip.api.system_folder import SystemFolder
    from mmseg_siglip.io.image import ImageLike
    from mmseg_siglip.onnx.export import Agreement

SYSTEMS = LazyMapping(
    {
        'segment': 'mmseg_siglip.api.segment:OpenVocabSegmenter',
        'refer': 'mmseg_siglip.api.refer:ReferringSegmenter',
        'depth': 'mmseg_siglip.api.depth:DepthPredictor',
        'ask': 'mmseg_siglip.api.ask:VisionChat',
    }
)
"""Task to system."""


class System(ABC):
    """A model that answers for photographs.

    Attributes:
        task: Its key in `SYSTEMS`.
        asks: What it wants to be told beside images: ``words``, ``phrases``, a ``question``, or
            None.
        kind: The class of the models that are trained for it.
        gives: The class of its results.
        told: Names of its `settings`.
        own_folders: Whether `save_pretrained` writes what `system_folder` describes.
        model: The model.
        description: Configuration of the model, where it was built by one.

    Examples:
        >>> from mmseg_siglip.api import SYSTEMS, System
        >>> {task: system.asks for task, system in SYSTEMS.items()}
        {'segment': 'words', 'refer': 'phrases', 'depth': None, 'ask': 'question'}
        >>> segmenter = SYSTEMS['segment'].from_pretrained('tiny_siglip_shapes', device='cpu')
        >>> segmenter.save_pretrained('my_system')
        >>> System.from_pretrained('my_system', device='cpu').task
        'segment'
    """

    task: ClassVar[str]
    asks: ClassVar[str | None]
    kind: ClassVar[type]
    gives: ClassVar[type]
    told: ClassVar[tuple[str, ...]] = ()
    own_folders: ClassVar[bool] = True
    model: nn.Module
    description: Mapping[str, Any] | None = None

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        device: str | torch.device | None = None,
        precision: str = 'auto',
        **options,
    ) -> System:
        """Build the system on published weights, or as it was saved.

        ``System.from_pretrained`` itself takes any system that `save_pretrained` or `export_onnx`
        wrote.

        Args:
            source: A name, file, folder or Hub id.
            device: By default the GPU, if there is one.
            precision: See `mmseg_siglip.precision`.
            options: The system's own; of a saved one, ``revision``, the commit of a Hub id, and
                what `settings` has, in the place of what was saved.

        Raises:
            ValueError: There are no such weights, or they are not enough for this system.
        """
        if is_graph(source):
            return cls._of_graph(source, device=device, precision=precision, **options)
        saved = cls.saved(source, revision=options.get('revision'))
        if saved is not None:
            return cls._of_saved(saved, device=device, precision=precision, **options)
        raise ValueError(
            f'{cls.__name__}: expected from_config(config, checkpoint), which names a trained '
            f'model, or a folder of save_pretrained, found from_pretrained({str(source)!r})'
        )

    @staticmethod
    def saved(source: str | Path, *, revision: str | None = None) -> SystemFolder | None:
        """What `save_pretrained` wrote to a folder or Hub id; None where something else is."""
        from mmseg_siglip.api.system_folder import SystemFolder

        return SystemFolder.find(source, revision=revision)

    @classmethod
    def _of_saved(
        cls,
        saved: SystemFolder,
        *,
        device: str | torch.device | None,
        precision: str,
        revision: str | None = None,
        **options,
    ) -> System:
        from mmseg_siglip.device import find_device
        from mmseg_siglip.precision import compute_dtype

        system = SYSTEMS.get(saved.task)
        if system is None or not issubclass(system, cls):
            raise ValueError(
                f'{saved.folder}: expected a system of the task '
                f'{" or ".join(SYSTEMS) if cls is System else cls.task}, found {saved.task!r}'
            )
        if not system.own_folders:
            raise ValueError(
                f'{saved.folder}: expected a {system.__name__} in the layout of transformers, '
                'found one in that of mmseg_siglip'
            )
        device = find_device(device)
        compute_dtype(precision, device)
        settings = system.settings_of(saved.settings, options, saved.folder)
        if not issubclass(saved.kind, system.kind):
            raise ValueError(
                f'{saved.folder}: expected a {system.kind.__name__}, found a {saved.kind.__name__}'
            )
        model = saved.build()
        model.precision = precision
        try:
            found = system(model.to(device), **settings)
        except ValueError as error:
            raise ValueError(f'{saved.folder}: {error}') from error
        found.description = saved.description
        return found

    @classmethod
    def settings_of(
        cls, saved: Mapping[str, Any], options: Mapping[str, Any], where: object
    ) -> dict[str, Any]:
        """What was saved as `settings`, and options that are not None in its place.

        Raises:
            ValueError: They are not those of this system; the sentence begins with `where`.
        """
        settings = dict(saved) | {k: v for k, v in options.items() if v is not None}
        if strange := settings.keys() ^ set(cls.told):
            raise ValueError(
                f'{where}: expected as settings of a {cls.__name__} '
                f'{" and ".join(cls.told) or "none"}, found a difference in '
                f'{reprlib.repr(min(strange))}'
            )
        return settings

    @classmethod
    def _of_graph(
        cls, source: str | Path, *, device: str | torch.device | None, precision: str, **options
    ) -> System:
        task = None if cls is System else cls.task
        found = GraphModel.open(source, task, device=device, precision=precision)
        system = SYSTEMS[found.task]
        return system(found.model, **system.settings_of(found.settings, options, source))

    def export_onnx(
        self,
        path: str | Path,
        prompt: Any = None,
        *,
        size: int | Sequence[int] | None = None,
        int8: bool = False,
    ) -> Agreement:
        """Write the network as an ONNX file, of which `from_pretrained` makes the system again.

        Args:
            path: The file; its name ends in ``.onnx``.
            prompt: Words that the graph shall know, of a system that `asks` for words; by default,
                those that are looked for already.
            size: See `export_graph`.
            int8: See `export_graph`.

        Returns:
            How the graph compares with torch.

        Raises:
            ImportError: See `export_graph`.
            ValueError: See `export_graph`; or the system has no graph, or was not built by a
                configuration of plain values.
        """
        from mmseg_siglip.api.graphs import export_system

        return export_system(self, path, prompt, size=size, int8=int8)

    @property
    def settings(self) -> dict[str, Any]:
        """What the system is told beside its model, as JSON has it; see `save_pretrained`."""
        return {name: getattr(self, name) for name in self.told}

    def save_pretrained(
        self, folder: str | Path, *, dtype: str = 'float32', facts: CardFacts | None = None
    ) -> None:
        """Write the system as a folder, of which `from_pretrained` makes it again.

        The folder holds what was trained and differs from the weights that the model is built of,
        says as data what to build and where those are, and has a model card. Weights that lie on
        this machine are copied. See `mmseg_siglip.api.system_folder`.

        Args:
            folder: A new one, or one of the same format.
            dtype: Number format of the written weights: ``float32``, ``float16`` or ``bfloat16``.
            facts: What the card says of data, results, limits and licence.

        Raises:
            ValueError: The system was not built by a configuration, or not of plain values; or
                something else is in the folder.
        """
        from mmseg_siglip.api.model_card import CardFacts, write_card
        from mmseg_siglip.api.system_folder import write_system

        if self.description is None:
            raise ValueError(
                f'{type(self).__name__}: expected a system of from_pretrained or from_config to '
                'save, found one of a model that was built elsewhere'
            )
        saved = write_system(
            folder, self.task, self.model, self.description, self.settings, dtype=dtype
        )
        write_card(saved, type(self).__name__, self.asks, facts or CardFacts())

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool = False,
        token: str | None = None,
        message: str = 'Upload with mmseg_siglip',
        **options,
    ) -> str:
        """`save_pretrained` into a repository of the Hub, which is made if it is not there.

        Args:
            repository: ``owner/name``.
            private: Of a new repository.
            token: By default the one of ``hf auth login``.
            message: Of the commit.
            options: Of `save_pretrained`.

        Returns:
            The address of the commit.

        Raises:
            ValueError: See `save_pretrained`; or the repository has no such name.
            OSError: The Hub does not take it, or cannot be reached.
        """
        from dataclasses import replace

        from mmseg_siglip.api.hub import upload_folder
        from mmseg_siglip.api.model_card import CardFacts

        facts = options.pop('facts', None) or CardFacts()
        with TemporaryDirectory() as folder:
            named = replace(facts, name=facts.name or repository, source=repository)
            self.save_pretrained(folder, facts=named, **options)
            return upload_folder(folder, repository, private=private, token=token, message=message)

    @classmethod
    def from_config(
        cls,
        config: str | Path | Config,
        checkpoint: str | Path | None = None,
        *,
        device: str | torch.device | None = None,
        precision: str = 'auto',
        **options,
    ) -> System:
        """Build the system of a model that was trained here.

        Args:
            config: The config that it was trained by, or its file.
            checkpoint: Weights written by training; the config's ``load_from`` if not given.
            device: By default the GPU, if there is one.
            precision: See `mmseg_siglip.precision`.
            options: The system's own.

        Raises:
            ValueError: There are no weights, they do not fit, or the config is of another model.
        """
        from mmseg_siglip.api.load import describe_trained, load_trained, read_config
        from mmseg_siglip.device import find_device
        from mmseg_siglip.precision import compute_dtype

        config, device = read_config(config), find_device(device)
        compute_dtype(precision, device)
        model = load_trained(cls.kind, config, checkpoint, device=device)
        system = cls._of_trained(model, config, precision, **options)
        system.description = describe_trained(config, checkpoint)[0].to_dict()
        return system

    @classmethod
    def _of_trained(cls, model: Any, config: Config, precision: str) -> System:
        """The system of a model of `kind`."""
        model.precision = precision
        return cls(model)

    def __call__(
        self, images: ImageLike | Sequence[ImageLike], prompt: Any = None, **options
    ) -> Any:
        """What the system says about images.

        Args:
            images: One image or a list of them, of any sizes: a path or an ``https://`` address
                (turned upright by its EXIF orientation), a PIL image, an RGB array (H, W, 3) uint8,
                or an RGB tensor (3, H, W), uint8 or float in [0, 1]. Of files of several frames or
                pages, `read_image` reads one.
            prompt: What the system `asks` for.
            options: See `torch`.

        Returns:
            One `Result` for one image, a list for a list; where several phrases are asked for, a
            list of them in the place of each.

        Raises:
            ValueError: An image or the prompt cannot be used; the message names it.
        """
        return self.begin(images, prompt, **options)()

    def begin(
        self, images: ImageLike | Sequence[ImageLike], prompt: Any = None, **options
    ) -> Later[Any]:
        """The same, to be called for the results; until then nobody waits for a GPU, except
        of a system that is asked questions, or knows whether it found numbers.

        Examples:
            >>> from mmseg_siglip.api import OpenVocabSegmenter
            >>> from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed
            >>> segmenter = OpenVocabSegmenter.from_pretrained('tiny_siglip_shapes', device='cpu')
            >>> later = segmenter.begin(generate(scene_seed('test', 0)).image, 'circle, background')
            >>> later().names
            ('circle', 'background')
        """
        from mmseg_siglip.api.images import as_tensor, is_single, read_images

        prompt, pixels = self.check_prompt(prompt), read_images(images)

        def results(outputs: list) -> Any:
            pairs = zip(pixels, outputs, strict=True)
            found = [self._result(rgb, output, prompt) for rgb, output in pairs]
            return found[0] if is_single(images) else found

        return self._begin([as_tensor(rgb) for rgb in pixels], prompt, **options).then(results)

    @abstractmethod
    def torch(self, images: torch.Tensor | Sequence[torch.Tensor], prompt: Any = None) -> list:
        """The same on tensors.

        Args:
            images: (B, 3, H, W), or B tensors (3, H, W) of any sizes: RGB, uint8 or float in
                [0, 1].
            prompt: As in `__call__`.

        Returns:
            What results are made of, for each image, on the CPU.
        """

    def _begin(self, images: Sequence[torch.Tensor], prompt: Any, **options) -> Later[list]:
        """`torch`, later, where a system can."""
        return Later.now(self.torch(images, prompt, **options))

    def check_prompt(self, prompt: Any) -> Any:
        """`prompt`, if the system can be asked that; it is told so before any image is read.

        Raises:
            ValueError: It cannot; the message says why.
        """
        if (prompt is None) != (self.asks is None):
            wanted = f'{self.asks} beside images' if self.asks else 'images alone'
            raise ValueError(f'{type(self).__name__}: expected {wanted}, found {prompt!r}')
        return prompt

    @abstractmethod
    def _result(self, rgb: np.ndarray, output: Any, prompt: Any) -> Any:
        """One image's output as a `Result`, or a list of them."""
