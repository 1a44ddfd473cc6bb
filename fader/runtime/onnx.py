"""Networks in ONNX files, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fader.documents import check_regular
from fader.errors import FaderError
from fader.processes import processors


def installed() -> bool:
    """Whether ONNX Runtime is there; it is not imported for that."""
    return find_spec("onnxruntime") is not None


# Sessions of the process that this one was forked from, kept so that they are never ended.
_INHERITED: list[Any] = []


class Network:
    """One ONNX file, opened when first asked, that computes with ``threads``; by default as many as
    this process has processors, or $OMP_NUM_THREADS, as for PyTorch."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self._path, self._threads = path, threads
        self._session: Any = None
        self._process = 0

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs for inputs in the file's order, floating numbers taken as float32;
        :class:`FaderError` for a file that is missing, damaged or of another model."""
        if self._process != os.getpid():
            # The threads of a session do not live on in a fork, and to end it would wait for them.
            _INHERITED.append(self._session)
            self._session, self._process = self._opened(), os.getpid()
        names = [one.name for one in self._session.get_inputs()]
        arrays = [x if x.dtype == np.uint8 else x.astype(np.float32, copy=False) for x in inputs]
        try:
            return self._session.run(None, dict(zip(names, arrays, strict=True)))
        except Exception as error:  # they have no base of their own
            raise self._unfit(error) from None

    def _opened(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        given = os.environ.get("OMP_NUM_THREADS", "")
        asked = self._threads or (int(given) if given.isdecimal() else 0)
        options.intra_op_num_threads = asked or processors()
        # Threads that wait are not to keep a processor busy.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # what it has to say comes as exceptions
        try:
            check_regular(self._path)
            # As bytes: a stranger's file then cannot name others to be read.
            return onnxruntime.InferenceSession(
                self._path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except FileNotFoundError:
            raise FaderError(f"{self._path}: missing; export the model again") from None
        except FaderError:
            raise
        except Exception as error:
            raise self._unfit(error) from None

    def _unfit(self, error: Exception) -> FaderError:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        what = f"damaged, or not of this model ({reason}); make it again with fader export"
        return FaderError(f"{self._path}: {what}")


class OnnxMtcnn:
    """See :class:`fader.faces.mtcnn.Networks`; from the files in ``folder``."""

    def __init__(self, folder: Path) -> None:
        # One thread, so that the same photo gives the same faces on every machine.
        self._first, self.second, self.third = (
            Network(folder / f"{name}.onnx", threads=1) for name in ("pnet", "rnet", "onet")
        )

    def first(self, image: np.ndarray) -> np.ndarray:
        """H×W×3 uint8 RGB → h×w×6."""
        return self._first(image[None])[0][0]
