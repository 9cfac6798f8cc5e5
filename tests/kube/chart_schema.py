"""What values.schema.json says of `config`, made of Paraf's own schema: a mistyped setting is an error of `helm lint`.

python tests/kube/chart_schema.py   writes it into the chart.
"""

import json
from pathlib import Path

from proxy.catalogue import Catalogue
from proxy.settings import json_schema

FILE = Path(__file__).parents[2] / "deploy" / "helm" / "paraf" / "values.schema.json"
SET_BY_THE_CHART = ("version", "listen", "admin", "control", "drain")


def without_surprises(schema):
    """Texts must be texts: Helm reads YAML 1.1, in which 00012345 is a number and NO is false. No description, which
    would make the file three times as long.
    """
    if isinstance(schema, list):
        return [without_surprises(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: without_surprises(each) for key, each in schema.items() if not is_prose(key, each)}
    if isinstance(made.get("type"), list) and "string" in made["type"]:
        made["type"] = "string"
    if "$ref" in made and isinstance(made["$ref"], str):
        made = {"$ref": made["$ref"].replace("#/$defs/", "#/definitions/")}
    return made


def is_prose(key, value):
    return key == "description" and isinstance(value, str)


def configuration():
    """Definitions by name. `routes` may be missing here: the chart's sandbox brings its own."""
    schema = without_surprises(json_schema())
    properties = {name: each for name, each in schema["properties"].items() if name not in SET_BY_THE_CHART}
    return {
        "configuration": {"type": "object", "properties": properties, "additionalProperties": False},
        **schema["$defs"],
        "exclusive": {"enum": exclusive()},
    }


def exclusive():
    catalogue = Catalogue()
    profiles = {name: catalogue.profile(name) for name in catalogue.names}
    return sorted(name for name, each in profiles.items() if each.token and each.token.exclusive)


def renewed(schema):
    return {**schema, "definitions": {**schema["definitions"], **configuration()}}


def text(schema):
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(renewed(json.loads(FILE.read_text("utf-8")))), "utf-8")
