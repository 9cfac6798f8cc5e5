"""The chart rendered by real Helm. `tests/run` puts helm3 and helm4 beside the interpreter."""

import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "paraf"
SHOP = ROOT / "deploy" / "helm" / "examples" / "shop"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
HELMS = ("helm3", "helm4")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def run(helm, *arguments, values=None):
    """`values` go in on stdin, as a file beside what `arguments` name."""
    command = [str(Path(sys.executable).parent / helm), *map(str, arguments), *(("-f", "-") if values else ())]
    said = yaml.safe_dump(values) if values else None
    return subprocess.run(command, input=said, capture_output=True, text=True, check=False, timeout=60)


def template(helm, chart, *arguments, values=None, name="web"):
    done = run(helm, "template", name, chart, "-n", "pay", *arguments, values=values)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(file=None, chart=CHART, **values):
    """Objects by kind and name, of helm4."""
    given = ("-f", file) if file else ()
    found = [each for each in yaml.load_all(template("helm4", chart, *given, values=values), _LOADER) if each]
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def one(objects, kind):
    (found,) = [each for (this, _), each in objects.items() if this == kind]
    return found


def refused(*files, **values):
    """What both say of values that they do not take."""
    given = [word for file in files for word in ("-f", file)]
    done = [run(helm, "template", "web", CHART, *given, values=values) for helm in HELMS]
    assert all(each.returncode != 0 for each in done)
    return "\n".join(each.stderr for each in done)


def shop(folder):
    """The example of a merchant's chart, with its dependency in it as `helm dependency build` would put it."""
    place = folder / "shop"
    shutil.copytree(SHOP, place)
    shutil.copytree(CHART, place / "charts" / "paraf")
    return place
