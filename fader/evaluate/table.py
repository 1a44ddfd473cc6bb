"""An evaluation as text for a terminal."""

from __future__ import annotations

from typing import Any

from fader.words import plural

#: Column → (heading, what it is); shared by the terminal and the HTML report.
COLUMNS = {
    "n": "test faces whose own label is clearly on the other side",
    "before": "the judge sees the new value already without the edit (doing nothing scores this)",
    "swap": "the judge sees the new value after the edit: mean and 95 % interval",
    "blurred": "the same after a light blur and JPEG; a big drop is a texture trick",
    "pasted": "the same for the crop as the editor composes it",
    "kept": "the judge's decisions on the other attributes that are those on the photo",
    "floor": "what photos of random other people who have the value would score as kept",
    "real": "Fréchet distance to real faces with the value, over that of two halves of these",
    "outside": "PSNR in dB to the photo where the model's mask is nothing",
    "strange": "how unlike a photo the edit is to the judge, a photo being 1 (median)",
    "judge": "real faces with this value that the judge recognises; balanced accuracy on mean rows",
    "rho": "Spearman correlation of slider position and the judge's logit",
    "rising": "share of slider steps on which the judge's logit rises",
    "leakage": "balanced accuracy of a fresh probe on the latent; 0.5 is none",
    "shown": "the judge's balanced accuracy on decodings that are told nothing; 0.5 is none",
    "identity": "cosine similarity of face embeddings of photo and edit",
}


def rows(document: dict[str, Any]) -> list[tuple[str, str, dict[str, str]]]:
    """(attribute, direction, cells) with a row per direction and one for the mean; the cells are
    texts, by column."""
    table: list[tuple[str, str, dict[str, str]]] = []
    for name in document["model"]["attributes"]:
        entry = document["swap_accuracy"]["attributes"][name]
        if entry is None:
            table.append((name, "-", {}))
            continue
        directions = [d for d in ("to_0", "to_1") if d in entry]
        kept = _inner(document["other_attributes_kept"], name) or {}
        for direction in directions:
            score, of_kept = entry[direction], kept.get(direction, {})
            cells = {
                "n": str(score["n"]),
                "before": number(score["before"]),
                "swap": interval(score),
                "blurred": number(score["blurred"]["value"]),
                "pasted": number(score["pasted"]["value"]),
                "kept": number(of_kept.get("value")),
                "floor": number(of_kept.get("floor")),
                "real": number(_inner(document["realism"], name, direction, "ratio"), 2),
                "outside": number(score["outside"], 2),
                "strange": number(_inner(document["strangeness"], name, direction)),
                "judge": number(score["judge_accuracy"]),
            }
            table.append((name, direction.replace("to_", "→"), cells))
        mean, curve = entry["mean"], document["continuity"].get(name)
        cells = {
            "n": str(mean["accuracy"]["n"]),
            "before": number(_mean([entry[d]["before"] for d in directions])),
            "swap": interval(mean["accuracy"]),
            "blurred": number(mean["blurred"]["value"]),
            "pasted": number(mean["pasted"]["value"]),
            "kept": number(_mean([kept[d]["value"] for d in directions if d in kept])),
            "judge": number(document["judge"]["balanced_accuracy"].get(name)),
            "rho": number(curve and curve["spearman"]["value"]),
            "rising": number(curve and curve["monotone"]["value"]),
            "leakage": number(_inner(document["leakage"], name, "value")),
            "shown": number(_inner(document["leakage"]["shown"], name, "value")),
            "identity": number(_inner(document["identity"], name, "similarity", "value")),
        }
        table.append((name, "mean", cells))
    return table


def summary(document: dict[str, Any]) -> list[str]:
    """The scores that are not per attribute, and everything a reader must be warned of."""
    swaps, quality, judge = (document[key] for key in ("swap_accuracy", "reconstruction", "judge"))
    lines = [
        *_swaps(swaps, document["other_attributes_kept"]),
        *_groups(swaps["by_group"]),
        f"outside the mask, PSNR: {_or_reason(document['outside_mask'])}",
        f"reconstruction: PSNR {quality['psnr']['value']:.2f} dB, SSIM "
        f"{number(quality['ssim']['value'])}, MS-SSIM "
        f"({plural(quality['ms_ssim_scales'], 'scale')}) "
        f"{number(quality['ms_ssim']['value'])}",
        f"leakage, mean: {_or_reason(document['leakage'])}; shown in decodings that are told "
        f"nothing: {number(document['leakage']['shown']['mean']) or 'none, no label differs'}",
        _identity(document["identity"]),
        _sliders(document["continuity"]),
        f"Fréchet distance to real faces with the value, over that of two halves of these, mean: "
        f"{_or_reason(document['realism'])}",
    ]
    distance, strange = document["fid"], document["strangeness"]
    if "reason" in distance:
        lines.append(f"Fréchet distance: none, {distance['reason']}")
    else:
        names = {"edited": "edited", "decoded": "decoded", "other_photos": "other photos"}
        parts = ", ".join(
            f"{words} {number(distance[key], 2)}"
            for key, words in names.items()
            if distance[key] is not None
        )
        lines.append(f"Fréchet distance on {distance['features']}: {parts} (n = {distance['n']})")
    decoded = f" (unedited decoding {strange['decoded']:.3f})" if "decoded" in strange else ""
    return [
        *lines,
        f"strangeness, a photo being 1: {_or_reason(strange)}{decoded}",
        f"judge: {judge['name']} ({judge['architecture']}; trained on "
        f"{judge['identities'] or 'unknown'} identities, seed {judge['seed']}); no score can be "
        "trusted beyond the judge's own accuracy beside it",
        *(f"CAUTION: {caution}" for caution in document["cautions"]),
    ]


def _swaps(swaps: dict[str, Any], kept: dict[str, Any]) -> list[str]:
    """What edits did, or in one line why nothing is known of that."""
    if swaps["mean"] is None:
        return ["swap accuracy: none, no face has a clear label of what the judge knows"]
    others = "none, the judge knows no others"
    if kept["mean"] is not None:
        floor = number(kept["floor"]) or "none, too few faces"
        others = f"{number(kept['mean'])}, random other people {floor}"
    return [
        f"swap accuracy, mean of both directions: {number(swaps['mean'])}, after blur and JPEG "
        f"{number(swaps['mean_blurred'])}, pasted {number(swaps['mean_pasted'])}",
        f"other attributes kept: {others}",
    ]


def _groups(by_group: dict[str, dict[str, float]]) -> list[str]:
    """How the swaps of each sex and age compare with the whole's, over the same attributes."""
    parts = [
        f"{group} {number(one['mean'])} (all faces {number(one['whole'])})"
        for group, one in by_group.items()
    ]
    return [f"swap accuracy by group: {', '.join(parts)}"] if parts else []


def _sliders(curves: dict[str, Any]) -> str:
    found = {name: curve["spearman"]["value"] for name, curve in curves.items()}
    if not found:
        return "sliders: none"
    worst = min(found, key=found.__getitem__)
    mean = number(_mean(list(found.values())))
    return f"sliders, mean ρ: {mean}, least {number(found[worst])} ({worst})"


def text(document: dict[str, Any]) -> str:
    """The whole table, with its summary."""
    data = document["data"]
    title = f"{document['model']['name']} on {faces(data)} ({rejected(data)} rejected)"
    widths = {column: 20 if column == "swap" else max(8, len(column) + 1) for column in COLUMNS}
    heads = "".join(f"{column:>{width}}" for column, width in widths.items())
    lines, last = [title, f"{'attribute':<21}{'':<5}{heads}"], None
    for name, direction, cells in rows(document):
        shown, last = "" if name == last else name, name
        row = "".join(f"{cells.get(column, ''):>{width}}" for column, width in widths.items())
        lines.append(f"{shown:<21}{direction:<5}{row}".rstrip())
    return "\n".join([*lines, "", *summary(document)])


def faces(data: dict[str, Any]) -> str:
    """How many faces were judged, of how many people."""
    return (
        f"{plural(data['faces'], data['split'] + ' face')} of "
        f"{plural(data['people'], 'person', 'people')}"
    )


def rejected(data: dict[str, Any]) -> str:
    """How many images of the data were (rejected)."""
    return plural(data["rejected"], "image of the data was", "images of the data were")


def number(value: float | None, digits: int = 3) -> str:
    """So many digits after the point; empty for None."""
    return "" if value is None else f"{value:.{digits}f}"


def interval(score: dict[str, float]) -> str:
    """A value and the ends of its interval."""
    return f"{score['value']:.3f} [{score['low']:.2f}–{score['high']:.2f}]"


def _inner(part: dict[str, Any], *path: str) -> Any:
    """What a part of the document has of an attribute, and of something of it; else None."""
    found: Any = part.get("attributes")
    for key in path:
        found = (found or {}).get(key)
    return found


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _or_reason(part: dict[str, Any]) -> str:
    return f"none, {part['reason']}" if "reason" in part else number(part["mean"]) or "none"


def _identity(part: dict[str, Any]) -> str:
    """What identity is of edits, and between photos of one person, and of two."""
    names = {
        "unedited decoding": "decoded",
        "other photos of the same person": "same_person",
        "strangers": "strangers",
    }
    shown = [
        f"{words} {part[key]['similarity']['value']:.3f}"
        for words, key in names.items()
        if part.get(key)
    ]
    scale = f" ({', '.join(shown)})" if shown else ""
    return f"identity, mean: {number(part['mean']) or 'none'}{scale}, by {part['embedder']}"
