"""An object store on this machine, for as long as a test module runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def s3_server() -> Iterator[object]:
    """moto's server at the endpoint that the environment names; skips where it is not installed."""
    moto = pytest.importorskip("moto.server", reason="needs moto: pip install 'moto[server]'")
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs: pip install 'fader[cluster]'")
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        try:
            yield server
        finally:
            s3fs.S3FileSystem.clear_instance_cache()
            server.stop()


@contextmanager
def like_a_cloud(protocol: str) -> Iterator[type]:
    """fsspec's file system in memory under another protocol, with the habits of a cloud's: it makes
    no folders, and while ``fails`` is set answers with an error of its own kind."""
    fsspec = pytest.importorskip("fsspec", reason="URLs need fsspec")
    from fsspec.implementations.memory import MemoryFileSystem

    class CloudError(Exception):
        pass

    class Cloud(MemoryFileSystem):
        store, pseudo_dirs, cachable, fails = {}, [""], False, False

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol("/" + path.split("://")[-1].strip("/"))

        def makedirs(self, path, exist_ok=False):
            raise AssertionError("would make a bucket")

        def answer(self):
            if self.fails:
                raise CloudError("503 try later\nand more")

        def ls(self, path, **kwargs):
            self.answer()
            return super().ls(path, **kwargs)

        def info(self, path, **kwargs):
            self.answer()
            return super().info(path, **kwargs)

        def cat_file(self, path, *args, **kwargs):
            self.answer()
            return super().cat_file(path, *args, **kwargs)

        def _open(self, path, *args, **kwargs):
            self.answer()
            return super()._open(path, *args, **kwargs)

    Cloud.protocol = protocol
    registry = sys.modules["fsspec.registry"]._registry
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry, protocol, Cloud)
        assert fsspec.get_filesystem_class(protocol) is Cloud
        yield Cloud
