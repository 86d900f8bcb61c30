"""croissant.json: the description of an exported dataset that registries of datasets read.

Source: Croissant 1.0 and Croissant RAI 1.0, docs.mlcommons.org/croissant; PROV for the origin.
"""

from __future__ import annotations

from typing import Any

from palette_bench.benchset.dataset_card import (
    KIND_WORDS,
    VERSION,
    Configuration,
    DataFile,
    Dataset,
    origin,
    responsible,
)

# the context that Croissant 1.0 prescribes word for word, and the vocabulary PROV for provenance
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(dataset: Dataset) -> dict[str, Any]:
    """Return the Croissant description as a JSON value.

    Its records are the rows of the parquet files. Other containers, and sets without images, are described
    by ids and digests: the reference reader, mlcroissant 1.1, refuses records over several sets of files.
    """
    facts = responsible(dataset)
    people = "sc:Person" if dataset.by_people else "sc:Organization"
    sets = ", ".join(one.name for one in dataset.configurations)
    value: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": dataset.name,
        "description": dataset.summary,
        "license": dataset.license_url,
        "creator": [{"@type": people, "name": name} for name in dataset.authors],
        "datePublished": dataset.date,
        "version": VERSION,
        "keywords": ["benchmark", "image-to-image", dataset.protocol.id],
        "citeAs": _bibtex(dataset),
        "rai:dataLimitations": facts["Limitations"],
        "rai:dataBiases": facts["Biases"],
        "rai:personalSensitiveInformation": facts["Personal and sensitive information"],
        "rai:dataUseCases": facts["Uses"],
        "rai:dataSocialImpact": facts["Social impact"],
        "rai:hasSyntheticData": dataset.synthetic,
        "prov:wasDerivedFrom": {"@id": origin(dataset), "prov:label": dataset.source_title},
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "prov:label": f"palette-bench generate {dataset.protocol.id}: {sets}",
        },
        "distribution": [
            _file_object(file) for one in dataset.configurations for file in (one.record_file, *one.files)
        ],
        "recordSet": [_record_set(one, dataset.container) for one in dataset.configurations],
    }
    return {**value, "url": dataset.url} if dataset.url else value


def _file_object(file: DataFile) -> dict[str, Any]:
    formats = {
        "parquet": "application/x-parquet",
        "tar": "application/x-tar",
        "json": "application/json",
        "jsonl": "application/jsonlines",
    }
    return {
        "@type": "cr:FileObject",
        "@id": file.name,
        "name": file.name,
        "contentUrl": file.name,
        "contentSize": f"{file.size} B",
        "sha256": file.sha256,
        "encodingFormat": formats[file.name.rpartition(".")[2]],
    }


def _record_set(one: Configuration, container: str | None) -> dict[str, Any]:
    """Return the records of a set: its images in parquet, else their ids and pixel digests."""
    name = one.name
    fields = []
    if container == "parquet":
        (file,) = one.files
        source = {"fileObject": {"@id": file.name}}
        fields.append(_field(name, "id", "of the image", "sc:Text", {**source, "extract": {"column": "id"}}))
        for kind in one.kinds:
            taken = {**source, "extract": {"column": kind}, "transform": {"jsonPath": "bytes"}}
            fields.append(_field(name, kind, KIND_WORDS[kind], "sc:ImageObject", taken))
    else:
        source = {"fileObject": {"@id": one.record_file.name}}
        digests = {f"{kind}_px": f"SHA-256 of the pixels: {KIND_WORDS[kind]}" for kind in one.kinds}
        for column, words in {"id": "of the image", **digests}.items():
            taken = {**source, "extract": {"jsonPath": f"$.items[*].{column}"}}
            fields.append(_field(name, column, words, "sc:Text", taken))
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"{len(one.record.items):,} images of the set {one.record.set_fingerprint}.",
        "key": {"@id": f"{name}/id"},
        "field": fields,
    }


def _field(record_set: str, name: str, words: str, data_type: str, source: dict[str, Any]) -> dict[str, Any]:
    place = f"{record_set}/{name}"
    return {
        "@type": "cr:Field",
        "@id": place,
        "name": place,
        "description": words,
        "dataType": data_type,
        "source": source,
    }


def _bibtex(dataset: Dataset) -> str:
    year = dataset.date[:4]
    fields = {
        "title": dataset.name,
        "author": " and ".join(f"{{{name}}}" for name in dataset.authors),
        "year": year,
        **({"url": dataset.url} if dataset.url else {}),
    }
    said = ", ".join(f"{key}={{{value}}}" for key, value in fields.items())
    return f"@misc{{{dataset.protocol.id}-{year}, {said}}}"
