"""Encoding on many hosts, as tasks of a ray cluster, in the extra `ray`."""

import contextlib
import os
import pickle
import socket
from collections.abc import Iterator
from typing import Any

import xxhash

from unmask.data.encoding import Encoded, Encoder
from unmask.data.files import Document
from unmask.data.pools import Handle, OpenPool, Pool
from unmask.errors import ResourceError, UsageError

try:
    import ray
except ImportError:
    ray = None

# A task whose process or host died is started again so many times.
_RETRIES = 3
_KNOCK_SECONDS = 10
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}

# Encoders that a worker process has unpacked, by the hash of their bytes; one build has one.
_encoders: dict[str, Encoder] = {}


def ray_tasks(address: str) -> OpenPool:
    """Encode in tasks of a ray cluster; a ray that this process has begun already is used as it is.

    The files are read and the corpus is written by this process; only text and ids travel, and the tokenizer once. Each
    host needs the same versions of unmask and, for Chinese words, of the segmenter.

    Args:
        address: `local` starts ray on this machine, for this build alone; `auto` joins the cluster that this host is
            part of; else the address of a cluster, such as `host:6379`.

    Returns:
        For `corpus.build(workers=...)`. Opening it raises ResourceError if the cluster cannot be reached, as does a
        block whose tasks die again and again.

    Raises:
        UsageError: ray is not installed.
    """
    if ray is None:
        raise UsageError(
            "missing-extra",
            "building on many hosts needs the package ray, which is not installed",
            remedy="pip install 'unmask[ray]', on each host",
        )
    return lambda encoder: _tasks(address, encoder)


@contextlib.contextmanager
def _tasks(address: str, encoder: Encoder) -> Iterator[Pool]:
    is_ours = not ray.is_initialized()
    if is_ours:
        begin(address)
    try:
        encode = ray.remote(max_retries=_RETRIES)(_encode)
        packed = pickle.dumps(encoder)
        key, shared = xxhash.xxh3_128_hexdigest(packed), ray.put(packed)

        def submit(documents: list[Document]) -> Handle:
            task = encode.remote(key, shared, documents)
            return lambda: _result(task)

        yield Pool(max(1, int(ray.cluster_resources().get("CPU", 1))), submit)
    except ray.exceptions.RayError as error:
        raise ResourceError(
            "worker-died",
            f"ray lost a worker that encodes text, and its {_RETRIES} other tries too: {_first_line(error)}",
            place=address,
            remedy="look at the memory of the hosts, then start the same command again",
            saved="the shards that were finished; the same command goes on from there",
        ) from None
    finally:
        if is_ours:
            ray.shutdown()


def begin(address: str, *, num_cpus: int | None = None) -> None:
    """Join a ray cluster, or start one on this machine.

    Args:
        address: as for `ray_tasks`.
        num_cpus: workers of one on this machine; by default one for each core.

    Raises:
        ResourceError: the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing here calls home
    try:
        _knock(address)
        if address == "local":
            # One machine need not listen to any other.
            ray.init(address, num_cpus=num_cpus, include_dashboard=False, _node_ip_address="127.0.0.1", **_QUIET)
        else:
            ray.init(address, **_QUIET)
    except (OSError, RuntimeError, ValueError) as error:
        raise ResourceError(
            "no-cluster",
            f"the ray cluster cannot be reached: {_first_line(error)}",
            place=address,
            remedy="start one: `ray start --head`, and on other hosts `ray start --address HOST:6379`; or --ray local",
        ) from None


def _knock(address: str) -> None:
    """See in a few seconds whether anybody listens at an address; ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()


def _encode(key: str, packed: bytes, documents: list[Document]) -> Encoded:
    if key not in _encoders:
        # Tasks share the cores already; threads in each would only make them wait for each other.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        _encoders.clear()
        _encoders[key] = pickle.loads(packed)
    return _encoders[key](documents)


def _result(task: Any) -> Encoded:
    try:
        found: Encoded = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None  # the error of the document itself, as if it had been encoded here
    return found


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
