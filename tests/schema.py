#!/usr/bin/env python3
"""Validates YAML sites against a JSON Schema: tests/schema.py SCHEMA.json SITE.yaml...

Exit codes: 0 all valid, 1 some not (each mistake on a line), 3 jsonschema or yaml is not installed.
"""

import json
import re
import sys

try:
    import jsonschema
    import yaml
except ImportError as error:
    print(f"cannot validate: {error}", file=sys.stderr)
    sys.exit(3)


class Core(yaml.SafeLoader):
    """YAML 1.2: only true and false are booleans, `010`, `12:30` and dates are text."""


Core.yaml_implicit_resolvers = {}
for tag, pattern, first in [
    ("bool", r"^(true|false)$", "tf"),
    ("null", r"^(~|null|)$", ["~", "n", ""]),
    ("int", r"^-?(0|[1-9][0-9]*)$", "-0123456789"),
    ("float", r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$", "-0123456789"),
    ("merge", r"^<<$", "<"),
]:
    Core.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), first)


def main():
    schema = json.load(open(sys.argv[1], encoding="utf-8"))
    kind = getattr(jsonschema, "Draft202012Validator", None)
    if kind is None:
        print("cannot validate: jsonschema is too old for draft 2020-12", file=sys.stderr)
        return 3
    kind.check_schema(schema)
    bad = 0
    for name in sys.argv[2:]:
        with open(name, encoding="utf-8") as file:
            site = yaml.load(file, Core)
        for error in kind(schema).iter_errors(site):
            bad = 1
            print(f"{name}: {error.json_path}: {error.message[:200]}")
    return bad


sys.exit(main())
