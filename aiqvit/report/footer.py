"""What stands under a table: how its numbers were made, so that they can be compared and repeated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from string import ascii_lowercase

from aiqvit.harness.identity import labels
from aiqvit.harness.identity.spec import REFERENCE
from aiqvit.harness.store.records import Record
from aiqvit.report import marks as marking
from aiqvit.report.cells import Key, unequal
from aiqvit.report.frame import value
from aiqvit.report.layouts import FULL, Layout
from aiqvit.report.published import printed, rows
from aiqvit.report.records import About, Comparable

NOTHING = About("")


def letters(table: Layout, methods: Mapping[str, About]) -> dict[str, str]:
    """Method -> letter of its footnote, for the methods of the table that have one (ported, reconstructed, ...)."""
    shown = dict.fromkeys(line.key["method"] for line in table.rows if table.compares)
    noted = [name for name in shown if methods.get(name, NOTHING).note]
    return dict(zip(noted, ascii_lowercase, strict=False))


def of_paper(table: Layout) -> list[str]:
    """Remarks on the layout, and what is doubtful about cells of the published table."""
    notes: dict[str, dict[str, None]] = {}
    for line in table.rows:
        for column in table.columns:
            both = {**line.key, **column.key}
            row = printed(table.number).get(tuple(both[k] for k in ("model", "method", "variant", "bits", "metric")))
            if row and row["note"]:
                head = " ".join(h or "–" for h in line.heads)
                place = head if not table.compares else f"{head}, {' '.join(column.heads[:-1])}"
                notes.setdefault(row["note"], {})[place] = None
    return [*table.remarks, *(f"{'; '.join(places)}: {note}" for note, places in notes.items())]


def of_records(table: Layout, part: Comparable, found: Mapping[Key, Sequence[Record]], used: Mapping[str, Record],
               methods: Mapping[str, About]) -> list[str]:
    """Marks, conditions, scheme differences, failures, versions, run ids, and what is not shown."""
    records = list(used.values())
    done = [r for r in records if r["status"] == "done"]
    lettered = letters(table, methods).items()
    notes = [f"{letter}: {methods[name].title}: {methods[name].note}" for name, letter in lettered]
    if not table.compares and (own := methods.get("aiqvit", NOTHING)).note:
        notes.append(f"{own.title}: {own.note}")
    notes += [*marking.notes(done), *table.remarks, *conditions(part, done), *_scope(table, part, done, found)]
    notes += of_fairness(done, methods) + of_rewriting(done) + scheme_differences(done)
    notes += of_data(done) + of_inputs(done) + unequal(found)
    notes += of_failures(records)
    others = [r for group in found.values() for r in group if r["id"] not in used and "beside" not in r]
    if others and table.compares:
        names = listed(f"{r['spec']['model']} {r['label']}" for r in others)
        notes.append(f"in the results, but without a place in this table: {names}")
    if beside := [r for group in found.values() for r in group if "beside" in r]:
        names = listed(f"{r['spec']['model']} {r['label']} {r['spec']['bits']} ({_short([r['id']])})" for r in beside)
        notes.append(f"other settings, weights or versions of the same cells, left out: {names}")
    notes.append(f"versions: {versions(records)}")
    notes.append(f"runs (records *-ID*.json): {_short(used)}")
    return notes


def of_fairness(done: Iterable[Record], methods: Mapping[str, About]) -> list[str]:
    """What the authors' code of the methods in these records has and `unified` has not."""
    shown = ((methods.get(r["spec"]["method"], NOTHING), r["spec"]["settings"].get("protocol", "")) for r in done)
    return fairness((about.title, about.fairness, protocol) for about, protocol in shown)


def fairness(shown: Iterable[tuple[str, str, str]]) -> list[str]:
    """A sentence, once, for title, `Method.fairness` and protocol of each row, where there is something to say."""
    said = {"paper": "here too, under protocol paper", "unified": "not so here, unless its settings say so"}
    return list(dict.fromkeys(f"fairness: {title} as published has {text}; {said.get(protocol, said['unified'])}"
                              for title, text, protocol in shown if text))


def of_rewriting(done: Iterable[Record]) -> list[str]:
    """What was rewritten of models before they were quantized, what was not and why."""
    alike: dict[str, dict[str, None]] = {}
    for record in done:
        if said := "; ".join(record.get("rewritten", ())):
            alike.setdefault(said, {})[f"{record['spec']['model']} {record['label']}"] = None
    return [f"before quantization: {', '.join(runs)}: {said}" for said, runs in alike.items()]


def conditions(part: Comparable, done: Sequence[Record]) -> list[str]:
    """Marks, protocol, preset, seeds, calibration samples, samples evaluated, device."""
    quantized = [r for r in done if r["spec"]["method"] != REFERENCE]
    calibration = listed(f"{r['label'].partition(' [')[0]} {r['calibration_images']}" for r in quantized)
    images = listed(f"{r['metrics'].get('images', '?')} of {r['data'].get('val', '?')}" for r in done)
    seeds = listed(sorted({r["spec"]["seed"] for r in quantized}))
    hardware = listed(r["manifest"].get("device") or r["spec"].get("device", "?") for r in quantized)
    facts = (("protocol", part.protocol), ("preset", part.preset), ("seeds", seeds),
             ("calibration samples", calibration), ("samples evaluated", images), ("device", hardware))
    spread = "; mean ± standard deviation (number of seeds)" if len({r["spec"]["seed"] for r in quantized}) > 1 else ""
    return ["; ".join(f"{name}: {value}" for name, value in facts if value) + spread]


def of_failures(records: Iterable[Record]) -> list[str]:
    """The first line of why each of the runs that failed did."""
    found = []
    for record in records:
        if record["status"] == "failed":
            spec, error = record["spec"], record["error"]
            why = (error["message"].strip() or error["type"].strip() or "unknown").splitlines()[0]
            found.append(f"failed: {spec['model']}, {record['label']}, {spec['bits']}, seed {spec['seed']}: {why}")
    return found


def of_data(done: Sequence[Record]) -> list[str]:
    """What the tasks say about the data, each once."""
    return list(dict.fromkeys(note for r in done for note in r["data"].get("notes", ())))


def of_inputs(done: Sequence[Record]) -> list[str]:
    """Models whose samples were not prepared in the usual way."""
    found = {r["spec"]["model"]: labels.inputs(r["spec"].get("settings", {})) for r in done}
    return [f"samples of {model} prepared with {text}" for model, text in found.items() if text]


def _scope(table: Layout, part: Comparable, done: Sequence[Record], found: Mapping[Key, Sequence[Record]]) -> list[str]:
    """Why these numbers may not be comparable with published ones."""
    notes, gaps = warnings(part), []
    for row in rows():
        own = (value(r, row["metric"]) for r in found.get((row["model"], REFERENCE, "", "32/32"), []))
        shown = any(r["spec"]["model"] == row["model"] for r in done)
        if shown and row["method"] == REFERENCE and row["task"] == part.task:
            gaps += [f"{row['model']} {row['metric']} {one - float(row['value']):+.2f}" for one in own
                     if abs(one - float(row["value"])) > 0.05]
    if gaps:
        notes.append(f"full precision differs from the paper's ({', '.join(gaps)}): other data, weights or transform, "
                     "so compare changes from full precision")
    return notes


def warnings(part: Comparable) -> list[str]:
    """For the caption too, since footers get lost: a limited evaluation, or data that is not the whole set."""
    sizes = {r["data"]["val"] for r in part.records if "val" in r.get("data", {})}
    found = [f"LIMITED to {part.limit} samples, not comparable with full runs"] if part.limit else []
    if part.task in FULL and sizes - {FULL[part.task]}:
        found.append(f"SUBSET: {listed(sizes)} of the {FULL[part.task]} samples of the full set, not comparable with "
                     "published numbers")
    return found


def scheme_differences(records: Iterable[Record]) -> list[str]:
    """Where methods quantize differently: `post_softmax: uniform per tensor (MinMax); log-sqrt2 ... (RepQ-ViT)`."""
    sites: dict[str, dict[str, set[str]]] = {}
    titles: dict[str, None] = {}
    for record in records:
        title = record["label"].partition(" [")[0]
        asked = dict(zip(("weight", "activation"), record["spec"]["bits"].split("/"), strict=True))
        for row in record["scheme"]:
            titles[title] = None
            usual = str(row["bits"]) == asked[row["kind"]] or row["quantizer"] == "float"
            text = ("" if usual else f"{row['bits']} bit ") + row["quantizer"]
            text += f" per {row['granularity']}" if row["granularity"] != "-" else ""
            text += f" ({row['note']})" if row["note"] else ""
            sites.setdefault(f"{row['role']} {row['kind']}s", {}).setdefault(title, set()).add(text)
    alike: dict[str, list[str]] = {}
    for site, by_title in sites.items():
        kinds: dict[str, list[str]] = {}
        for title in titles:
            kinds.setdefault(" or ".join(sorted(by_title.get(title, {"not there"}))), []).append(title)
        if len(kinds) > 1:
            alike.setdefault("; ".join(f"{what} ({', '.join(who)})" for what, who in kinds.items()), []).append(site)
    return [f"scheme differs at {', '.join(roles)}: {text}" for text, roles in alike.items()]


def versions(records: Iterable[Record]) -> str:
    """Packages, Python and commits of the runs."""
    found: dict[str, dict[str, None]] = {}
    for record in records:
        manifest = record["manifest"]
        git = manifest.get("git") or {}
        commit = f"{git['commit'][:9]}{' with changes' if git.get('dirty') else ''}" if git.get("commit") else ""
        named = {**manifest.get("packages", {}), "Python": manifest.get("python", ""), "commit": commit}
        for name, version in named.items():
            if version:
                found.setdefault(name, {})[version] = None
    return ", ".join(f"{name} {' / '.join(values)}" for name, values in found.items())


def _short(ids: Iterable[str]) -> str:
    """The hexadecimal ends of run ids, as short as they stay different; record files are called `*-<id>.json`."""
    ends = [run.rpartition("-")[2] for run in ids]
    length = next((n for n in range(6, 12) if len({end[:n] for end in ends}) == len(set(ends))), 12)
    return " ".join(end[:length] for end in ends)


def listed(values: Iterable[object]) -> str:
    """Each once, joined by commas."""
    return ", ".join(dict.fromkeys(map(str, values)))
