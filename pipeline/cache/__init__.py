"""The per-clip cache: content-addressed entries that outlive DVC's outs, so no finished clip is computed twice.

It is in one place outside the project, which all processes and machines may share: ``cache.dir`` in params.yaml, else $AVEL_CACHE, else
~/.cache/avel-pipeline. That place is a directory, or the URL of a store such as ``s3://bucket/folder``. An entry is written whole or not
at all, and a damaged one reads as absent and is made again. If the cache itself cannot be read or written (permissions, a full disk, a
store that does not answer), that is a :class:`CacheError`.
"""

from pipeline.cache.cache import Cache, Deliveries
from pipeline.cache.entry import file_sha256, fingerprint
from pipeline.cache.place import CACHE_VARIABLE, CacheError, Store, default_root

__all__ = ["CACHE_VARIABLE", "Cache", "CacheError", "Deliveries", "Store", "default_root", "file_sha256", "fingerprint"]
