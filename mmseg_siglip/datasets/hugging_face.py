"""Tables of images and label maps, as the Hugging Face Hub has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmseg_siglip.datasets.folder import FolderDataset
from mmseg_siglip.datasets.listing import check_indices
from mmseg_siglip.datasets.parts import pairs_of_part
from mmseg_siglip.io.regular_file import read_regular
from mmseg_siglip.misspelt import did_you_mean
from mmseg_siglip.registry import DATASETS
from mmseg_siglip.text.vocabulary import Vocabulary
from mmseg_siglip.weights.json_file import read_object

ID2LABEL = 'id2label.json'
OLDEST = 4  # major version of datasets, the first that runs no code of a repository


@DATASETS.register_module()
class HuggingFaceDataset(FolderDataset):
    """A data set of the library ``datasets`` (the extra of that name), a row an image.

    Images and label maps are decoded by our own reader, never by the library, and no code of a
    repository runs. Row 12 of the split ``train`` is called ``SOURCE/train/000012`` in files and
    errors.

    Args:
        source: A folder of ``save_to_disk``, a folder of Parquet files, or a Hub id.
        split: Of it; may be left out where there is one alone.
        revision: Commit of a Hub id.
        subset: Its configuration, where a Hub id has several.
        image: Column of the images.
        label: Column of the label maps, images of one channel; None where there are none.
        vocabulary: As of `FolderDataset`. By default the names of `id2label`, of the file
            ``id2label.json`` in a folder, or of a ``ClassLabel`` in the label column.
        id2label: Values to names, or a JSON file of that; values that it leaves out are unknown.
        kwargs: See `FolderDataset`; with ``reduce_zero_label`` the value 0 is no class, and
            `label_values` are counted without it.

    Raises:
        ValueError: There is no such split, column or list of classes.
        ImportError: ``datasets`` is not installed, or a version that runs code.
    """

    def __init__(
        self,
        *,
        source: str | Path,
        split: str | None = None,
        revision: str | None = None,
        subset: str | None = None,
        image: str = 'image',
        label: str | None = 'label',
        vocabulary: str | Path | Sequence[str] | Vocabulary | None = None,
        id2label: str | Path | Mapping[Any, str] | None = None,
        **kwargs,
    ) -> None:
        self.source, self.columns = str(source), dict(img_path=image)
        if label is not None:
            self.columns['seg_map_path'] = label
        loaded, self.split = open_table(self.source, split, revision=revision, subset=subset)
        features, names = loaded.features, tuple(self.columns.values())
        for name in names:
            if name not in features:
                meant = did_you_mean(name, list(features))
                raise ValueError(
                    f'{source}: expected columns among {", ".join(features)}, found {name!r}{meant}'
                )
        if vocabulary is None:
            given = id2label if id2label is not None else named_beside(self.source)
            if given is None:
                vocabulary = class_labels(features.get(label), self.source)
            else:
                values, vocabulary = in_order(given)
                if kwargs.get('reduce_zero_label'):
                    kept = [(v - 1, n) for v, n in zip(values, vocabulary, strict=True) if v]
                    values, vocabulary = map(list, zip(*kept, strict=True))
                kwargs.setdefault('label_values', values)
        elif id2label is not None:
            raise ValueError('expected vocabulary or id2label, found both')
        self.table = as_files(loaded.select_columns(list(names)), names, self.source)
        super().__init__(vocabulary=vocabulary, **kwargs)

    def load_data_list(self) -> list[dict]:
        name = f'{self.source}/{self.split}/{{:06d}}'
        rows = {name.format(row): row for row in range(len(self.table))}
        truth = 'seg_map_path' in self.columns
        pairs = [(path, f'{path}.label' if truth else None) for path in rows]
        chosen = pairs_of_part(pairs, self.part, self.held_out, self.source)
        check_indices(self.chosen, len(chosen), type(self).__name__)
        return [dict(self.sample(*pair), row=rows[pair[0]]) for pair in chosen]

    def prepare_data(self, idx: int) -> Any:
        """A sample as its pipeline makes it, of the bytes in the table."""
        found = self.get_data_info(idx)
        row = self.table[found['row']]
        found['encoded'] = {
            key: bytes_of(row[column], found[key]) for key, column in self.columns.items()
        }
        return self.pipeline(found)


def datasets_library() -> Any:
    """The library ``datasets``.

    Raises:
        ImportError: It is not installed, or so old that it runs code of a repository.
    """
    try:
        import datasets
    except ImportError:
        raise ImportError(
            "HuggingFaceDataset needs datasets: pip install 'mmseg_siglip[datasets]'"
        ) from None
    if int(datasets.__version__.split('.')[0]) < OLDEST:
        raise ImportError(
            f'expected datasets {OLDEST} or later, which runs no code of a repository, found '
            f'{datasets.__version__}'
        )
    return datasets


def open_table(
    source: str, split: str | None, *, revision: str | None = None, subset: str | None = None
) -> tuple[Any, str]:
    """A split of what `HuggingFaceDataset` reads, and its name.

    Raises:
        ValueError: There is no such thing, or no such split.
    """
    datasets, folder = datasets_library(), Path(source).expanduser()
    try:
        if folder.is_dir():
            if revision or subset:
                raise ValueError('revision and subset are of a Hub id, expected none of a folder')
            saved = any((folder / f).is_file() for f in ('state.json', 'dataset_dict.json'))
            if saved:
                found = datasets.load_from_disk(str(folder))
            elif any(folder.rglob('*.parquet')):
                found = datasets.load_dataset('parquet', data_dir=str(folder))  # nosec B615
            else:
                raise ValueError('expected a folder of save_to_disk, or Parquet files in it')
        else:
            found = datasets.load_dataset(source, subset, revision=revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        line = str(error).strip().split('\n')[0]
        raise ValueError(f'{source} cannot be read as a data set: {line}') from error
    if not isinstance(found, Mapping):
        own = str(found.split or 'all')
        found = {own: found}
    if split is None and len(found) == 1:
        split = next(iter(found))
    if split not in found:
        raise ValueError(f'{source}: split: expected one of {", ".join(found)}, found {split}')
    return found[split], split


def as_files(table: Any, names: Sequence[str], source: str) -> Any:
    """The table with its images as they are in the files, undecoded.

    Raises:
        ValueError: A column holds no images.
    """
    datasets = datasets_library()
    for name in names:
        feature = table.features[name]
        if not isinstance(feature, datasets.Image):
            raise ValueError(
                f'{source}: expected images in the column {name}, found {type(feature).__name__}'
            )
        table = table.cast_column(name, datasets.Image(decode=False))
    return table


def bytes_of(cell: Mapping[str, Any] | None, name: str) -> bytes:
    """The file of a cell.

    Raises:
        ValueError: There is none.
    """
    if cell is None or (cell.get('bytes') is None and not cell.get('path')):
        raise ValueError(f'{name} is empty: expected an image')
    if cell.get('bytes') is not None:
        return cell['bytes']
    try:
        return read_regular(cell['path'])
    except OSError as error:
        raise ValueError(f'{name} cannot be read: {error.strerror or error}') from None
    except ValueError as error:
        raise ValueError(f'{name} {error}') from None


def named_beside(source: str) -> Path | None:
    """A folder's list of classes, if there is one."""
    path = Path(source).expanduser() / ID2LABEL
    return path if path.is_file() else None


def in_order(id2label: str | Path | Mapping[Any, str]) -> tuple[list[int], list[str]]:
    """Values of the label maps and names, by value.

    Raises:
        ValueError: It is no list of these.
    """
    found = id2label if isinstance(id2label, Mapping) else read_object(id2label)
    try:
        names = {int(value): str(name) for value, name in found.items()}
    except (AttributeError, TypeError, ValueError):
        raise ValueError(
            f'id2label: expected whole numbers to names, found {str(found)[:80]}'
        ) from None
    values = sorted(names)
    return values, [names[value] for value in values]


def class_labels(feature: Any, source: str) -> list[str]:
    """The names that a feature carries.

    Raises:
        ValueError: It carries none.
    """
    names = getattr(feature, 'names', None) or getattr(
        getattr(feature, 'feature', None), 'names', None
    )
    if not names:
        raise ValueError(
            f'{source}: expected the names of the classes, found none in the data set: give '
            'vocabulary or id2label'
        )
    return list(names)
