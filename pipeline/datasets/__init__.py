"""Read annotations into rows, labels and files, for every registered kind of data set."""

from pipeline.datasets import ave as ave
from pipeline.datasets import folder as folder
from pipeline.datasets import llp as llp
from pipeline.datasets import unav100 as unav100
from pipeline.datasets.base import DATASETS, DatasetSettings, Index, read_index
from pipeline.datasets.building import build_index
from pipeline.datasets.writing import write_index

__all__ = ["DATASETS", "DatasetSettings", "Index", "build_index", "read_index", "write_index"]
