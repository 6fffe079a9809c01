"""Checks of files in deploy/ by the libraries of those who read them; a problem a line on standard output.

    check.py boards FILE...       Grafana's types know every key of every board
    check.py compose FILE...      the compose specification takes each file
    check.py manifest FILE VARS   Cloud Foundry's client takes the manifest
    check.py config FILE KEY      prints an entry of a ConfigMap
"""

import json
import os
import re
import sys
import tempfile

import yaml


def load(path):
    with open(path) as file:
        return yaml.safe_load(file)


def lost(before, after, path=""):
    """What did not come back: a key that the types do not know is dropped on the way."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key not in after:
                yield f"{path}/{key} is unknown"
            else:
                yield from lost(value, after[key], f"{path}/{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for at, (left, right) in enumerate(zip(before, after)):
            yield from lost(left, right, f"{path}/{at}")
    elif before != after:
        yield f"{path}: {before!r} becomes {after!r}"


def boards(*paths):
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    for path in paths:
        with open(path) as file:
            board = json.load(file)
        back = json.loads(json.dumps(Dashboard.from_json(board), cls=JSONEncoder))
        for problem in lost(board, back):
            print(f"{path}: {problem}")


def interpolate(text):
    """As compose does it with nothing set: `${NAME:-default}` is its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def compose(*paths):
    import compose_spec

    for path in paths:
        with open(path) as file:
            # This reader knows neither variables nor merge keys; both are gone when YAML has been read and written again.
            whole = yaml.safe_load(interpolate(file.read()))
        try:
            compose_spec.PyCompose.from_yaml(yaml.safe_dump(whole)).validate()
        except ValueError as error:
            print(f"{path}: {error}")
        for name, service in (whole.get("services") or {}).items():
            for volume in service.get("volumes", []):
                source = os.path.join(os.path.dirname(path), volume.split(":")[0])
                if volume.startswith(".") and not os.path.exists(source):
                    print(f"{path}: {name} mounts {source}, which is not there")


def manifest(path, variables):
    from cloudfoundry_client.operations.push.validation.manifest import ManifestReader

    known = {"name", "path", "buildpacks", "command", "instances", "memory", "disk_quota", "health-check-type",
             "health-check-http-endpoint", "timeout", "routes", "env"}
    with open(path) as file:
        text = file.read()
    for name, value in load(variables).items():
        text = text.replace(f"(({name}))", str(value))
    for name in re.findall(r"\(\(.*?\)\)", text):
        print(f"{path}: {name} is in no file of variables")
    with tempfile.TemporaryDirectory() as folder:
        filled = os.path.join(folder, "manifest.yml")
        with open(filled, "w") as file:
            file.write(text)
        try:
            for application in ManifestReader.load_application_manifests(filled):
                for key in application.keys() - known:
                    print(f"{path}: unknown key {key}")
        except AssertionError as error:
            print(f"{path}: {error}")


def config(path, key):
    print(load(path)["data"][key])


if __name__ == "__main__":
    {"boards": boards, "compose": compose, "manifest": manifest, "config": config}[sys.argv[1]](*sys.argv[2:])
