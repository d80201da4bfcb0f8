"""Place of the cache: a directory, or a store at a URL with a local copy.

Credentials of a store come from the environment (or its own files and roles), never from a URL.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.errors import PipelineError

CACHE_VARIABLE = "AVEL_CACHE"
HOME = "~/.cache/avel-pipeline"
LOCAL_GB = 20.0
DIRECTORIES = ("file", "local")  # protocols of what is a directory here
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}  # this project's extras, by protocol
OF_ONE_PROCESS = ("memory",)  # protocols of stores that no other process can reach
SECRET = re.compile(r"(?<=//)[^/@\s]+@")


class CacheError(PipelineError):
    """The cache itself cannot be read or written."""


@dataclass(frozen=True)
class Store:
    """A cache at a URL, as every process needs to know it.

    Args:
        url: without a slash at the end.
        local: directory of the local copy; several processes and machines may share it.
        local_bytes: most bytes of that copy.
    """

    url: str
    local: Path
    local_bytes: int

    def __str__(self) -> str:
        return self.url


def is_url(text: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def url_problem(url: str) -> str | None:
    """Why a URL cannot be a cache, without repeating what may be secret; None for a good one."""
    parts = urlsplit(url)
    protocol = parts.scheme.lower()
    if "@" in parts.netloc or parts.query or parts.fragment:
        return (
            "the URL may not hold credentials or options (user:password@, ?key=...); set them in the environment, such as AWS_PROFILE or"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and remove them from here"
        )
    if protocol in DIRECTORIES:
        good = parts.netloc in ("", "localhost") and parts.path.startswith("/")
        return None if good else f"{protocol}:// needs an absolute path with three slashes, such as {protocol}:///data/cache"
    if protocol in OF_ONE_PROCESS:
        return f"{protocol}:// lives in one process, and clips are decoded in others; name a directory or a store such as s3://bucket/cache"
    if not parts.netloc:
        return f"{protocol}:// needs a bucket or host, such as {protocol}://bucket/cache"
    return _package_problem(protocol)


def _package_problem(protocol: str) -> str | None:
    import fsspec

    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        advice = f"pip install -e '.[{EXTRAS[protocol]}]'" if protocol in EXTRAS else error
        return f"{protocol}:// needs a package that is not installed: {advice}"
    except ValueError:
        return f"fsspec knows no protocol {protocol}://; name a directory, or a URL such as s3://bucket/cache or gs://bucket/cache"
    return None


def place_of(root: str | Path | Store | None, local: Path | None = None, local_gb: float = LOCAL_GB) -> Path | Store:
    """The place that ``root`` names: an absolute directory, or a store.

    Args:
        root: a path or URL; None: that of $AVEL_CACHE, else ~/.cache/avel-pipeline.
        local: parent directory of a store's local copy; None: the directory of the cache if no URL were set.
        local_gb: most bytes of that copy, in 10^9 bytes.

    Raises:
        CacheError: the URL cannot be a cache.
    """
    if isinstance(root, Store):
        return root
    if isinstance(root, Path):
        return root.expanduser().absolute()
    named, origin = (root, "cache.dir") if root else (os.environ.get(CACHE_VARIABLE) or HOME, f"${CACHE_VARIABLE}")
    if not is_url(named):
        return Path(named).expanduser().absolute()
    if problem := url_problem(named):
        raise CacheError(f"{origin}: {problem}")
    parts = urlsplit(named)
    if parts.scheme.lower() in DIRECTORIES:
        return Path(unquote(parts.path)).absolute()
    url = named.rstrip("/")
    return Store(url, _copies(local) / sha256(url.encode()).hexdigest()[:16], round(local_gb * 1e9))


def default_root() -> Path | Store:
    """The place of the cache if params.yaml sets none."""
    return place_of(None)


def without_secrets(text: str) -> str:
    """Remove user names and passwords from the URLs of a message: an address in the environment may hold them."""
    return SECRET.sub("", text)


def _copies(local: Path | None) -> Path:
    of_environment = os.environ.get(CACHE_VARIABLE) or HOME
    parent = local or Path(HOME if is_url(of_environment) else of_environment)
    return parent.expanduser().absolute() / "copies"
