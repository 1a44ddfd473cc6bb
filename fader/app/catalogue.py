"""The models a page may be asked to use: named when the server was started, never by a path."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from fader.app.errors import Refused
from fader.app.settings import Settings
from fader.edit.editor import Editor
from fader.errors import FaderError

# Models that are kept loaded: a photo keeps its own in use.
_LOADED = 3
_CONFIG = "config.json"


class Catalogue:
    """Models by short names, loaded when first used; the detector is shared."""

    def __init__(self, settings: Settings) -> None:
        self._device, self._runtime = settings.device, settings.runtime
        self._sources: dict[str, str] = {}
        for source in (settings.model, *settings.models):
            self._add(source)
        self.first = next(iter(self._sources))
        self._loaded: OrderedDict[str, Editor] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """All names, that of the first model first."""
        return list(self._sources)

    def check(self, name: str) -> None:
        """Raise :class:`Refused` when there is no model of this name."""
        if name not in self._sources:
            raise Refused(404, f"there is no model {name!r}; there are {', '.join(self._sources)}")

    def editor(self, name: str = "") -> Editor:
        """An editor with this model (the first without a name), loaded; else :class:`Refused`."""
        name = name or self.first
        self.check(name)
        with self._lock:
            if name not in self._loaded:
                editor = Editor.from_pretrained(self._sources[name], self._device, self._runtime)
                others = [one for one in self._loaded.values() if one.runtime == editor.runtime]
                editor.detector = others[0].detector if others else editor.detector
                self._loaded[name] = editor
                while len(self._loaded) > _LOADED:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(name)
            return self._loaded[name]

    def name_of(self, editor: Editor) -> str:
        """The name of the model of an editor that :meth:`editor` gave."""
        names = [name for name, source in self._sources.items() if source == editor.source]
        return names[0] if names else self.first

    def describe(self, name: str) -> dict[str, Any]:
        """A model for the page: what it edits, whether it is loaded, its card as Markdown, and the
        ``error`` of one that cannot be read."""
        from fader.models.folders import find_model, model_info

        facts = {"name": name, "loaded": name in self._loaded, "first": name == self.first}
        source = self._sources[name]
        try:
            info = model_info(source)
            network = info.get("autoencoder") or {}
            card = find_model(source) / "README.md"
            text = card.read_text("utf-8", "replace") if card.is_file() else _card(name, info)
        except (FaderError, OSError) as error:
            return {**facts, "size": None, "attributes": [], "card": "", "error": str(error)}
        known = {"size": network.get("size"), "attributes": network.get("attributes", [])}
        return {**facts, **known, "card": text[:200_000]}

    def _add(self, source: str) -> None:
        folder = Path(source)
        if folder.is_dir() and not _is_model(folder):
            inside = sorted(path for path in folder.iterdir() if path.is_dir() and _is_model(path))
            if not inside:
                raise FaderError(f"{source}: no models in this folder, nor is it one")
            for path in inside:
                self._sources.setdefault(path.name, str(path))
            return
        name = folder.resolve().name if folder.is_dir() else source
        if name == "model" and folder.is_dir():
            name = folder.resolve().parent.name
        self._sources.setdefault(name, source)


def _is_model(folder: Path) -> bool:
    return any((place / _CONFIG).is_file() for place in (folder, folder / "model"))


def _card(name: str, info: dict[str, Any]) -> str:
    """What a model says of itself, where nobody has written a card."""
    network = info.get("autoencoder") or {}
    rows = {"attributes": ", ".join(network.get("attributes", []))}
    rows |= {"size": f"{network.get('size')} px", "kind": network.get("kind", "")}
    rows |= {str(key): value for key, value in (info.get("training") or {}).items()}
    lines = [f"# {name}", "", "It comes without a card. What its config.json says:", ""]
    lines += ["| | |", "| --- | --- |"]
    lines += [f"| {key} | {str(value).replace('|', '/')[:300]} |" for key, value in rows.items()]
    return "\n".join(lines)
