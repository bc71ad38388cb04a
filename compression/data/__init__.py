"""A data file as the network sees it: inputs by name, labels, splits."""

from compression.data.dataset import Dataset, Split
from compression.data.load import check_labels, load_dataset

__all__ = ["Dataset", "Split", "check_labels", "load_dataset"]
