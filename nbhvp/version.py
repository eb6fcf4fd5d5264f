"""The version of the package, for its metadata and for the names of the files it keeps on the disk."""

__all__ = ["__version__"]

__version__ = "0.1.0"
