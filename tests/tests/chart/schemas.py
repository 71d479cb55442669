#!/usr/bin/env python3
# Compares objects with the JSON schemas of Kubernetes, and of Weft's own kinds with their CRDs. Standard input has an
# object a line: {"kubernetes": "1.34", "from": "where it comes from", "object": {...}}; mistakes go to standard output.
# Usage: schemas.py FOLDER-OF-SCHEMAS FOLDER-OF-CRDS
import functools
import json
import os
import sys

import jsonschema
import yaml

DEFINITIONS = "_definitions.json"
# Kinds of others: the chart's own tests look at them.
FOREIGN = {"monitoring.coreos.com"}


@functools.lru_cache(maxsize=None)
def load(folder, name):
    with open(os.path.join(folder, name)) as source:
        return json.load(source)


@functools.lru_cache(maxsize=None)
def crds(folder):
    found = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        with open(os.path.join(folder, name)) as source:
            for crd in filter(None, yaml.safe_load_all(source)):
                for version in crd["spec"]["versions"]:
                    key = (crd["spec"]["group"] + "/" + version["name"], crd["spec"]["names"]["kind"])
                    found[key] = version["schema"]["openAPIV3Schema"]
    return found


@functools.lru_cache(maxsize=None)
def validator(schemas, folder, version, kind):
    group, _, api_version = version.rpartition("/")
    if group.endswith("weft.dev"):
        own = crds(folder)
        return jsonschema.Draft7Validator(own[(version, kind)]) if own else None
    name = "-".join(filter(None, [kind.lower(), group.split(".")[0], api_version])) + ".json"
    schema = load(schemas, name)
    base = "file://" + os.path.join(schemas, name)
    store = {"https://kubernetes.io/api/" + DEFINITIONS: load(schemas, DEFINITIONS)}
    resolver = jsonschema.RefResolver(base, schema, store=store)
    return jsonschema.Draft7Validator(schema, resolver=resolver)


def mistakes(line, schemas, folder):
    item = json.loads(line)
    version, kind = item["object"]["apiVersion"], item["object"]["kind"]
    if version.split("/")[0] in FOREIGN:
        return
    try:
        judge = validator(os.path.join(schemas, item["kubernetes"]), folder, version, kind)
    except (FileNotFoundError, KeyError):
        yield f"{item['from']}: Kubernetes {item['kubernetes']} has no {version} {kind}"
        return
    for error in judge.iter_errors(item["object"]) if judge else []:
        path = "/".join(map(str, error.absolute_path))
        yield f"{item['from']}: Kubernetes {item['kubernetes']}: {kind}: {path}: {error.message[:300]}"


schemas, folder = map(os.path.abspath, sys.argv[1:])
for line in sys.stdin:
    for mistake in mistakes(line, schemas, folder):
        print(mistake)
