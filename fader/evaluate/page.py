"""The parts of an evaluation's HTML report: one file that refers to nothing outside itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

from PIL import Image

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem;
  color: #222; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.5rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
.wide { overflow-x: auto }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #e4e4e4 }
td:not(.words) { white-space: nowrap }
th { border-bottom: 2px solid #999 } td:first-child, th:first-child { text-align: left }
tr.mean { background: #f3f6fa; font-weight: 600 }
td.bad { color: #b00020 } td.words { text-align: left; color: #555 }
.caution { background: #fff3cd; border-left: 4px solid #d39e00; padding: .5rem 1rem }
figure { margin: 0 0 1.5rem; overflow-x: auto } figcaption { margin-bottom: .3rem; color: #555 }
img { max-width: none; display: block }
.curves { display: flex; flex-wrap: wrap; gap: 1rem } svg { background: #fafafa }
dt { font-weight: 600; float: left; clear: left; width: 6rem } dd { margin-left: 6.5rem }
"""


def page(title: str, body: str) -> str:
    """A whole document around ``body``, which is HTML; ``title`` is text."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>{escape(title)}</h1>
{body}
</body></html>
"""


def cautions(sentences: Iterable[str]) -> str:
    """What a reader must be warned of, each in a box."""
    return "".join(f'<p class="caution">{escape(sentence)}</p>' for sentence in sentences)


def tabular(heads: Sequence[str], rows: Iterable[str]) -> str:
    """A table; ``heads`` are texts, ``rows`` whole ``<tr>`` elements."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def picture(title: str, image: Image.Image) -> str:
    """An image with its title above it."""
    data = io.BytesIO()
    image.save(data, "JPEG", quality=88)
    code = base64.b64encode(data.getvalue()).decode("ascii")
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<img alt="{escape(title)}" width="{image.width}" height="{image.height}" '
        f'src="data:image/jpeg;base64,{code}"></figure>'
    )
