#!/usr/bin/env python3
"""Writes the boards of boards_prometheus.py and boards_influxdb.py to dashboards/<source>/<uid>.json.

    generate.py            writes them
    generate.py --check    says which files are not what it would write, and fails if there is one
"""

import pathlib
import sys

import boards_influxdb
import boards_prometheus

HERE = pathlib.Path(__file__).resolve().parent / "dashboards"


def boards():
    for source, boards in ("prometheus", boards_prometheus.BOARDS), ("influxdb", boards_influxdb.BOARDS):
        for make in boards:
            board = make()
            yield HERE / source / f"{board.uid}.json", board.json()


def main():
    written = dict(boards())
    if sys.argv[1:] == ["--check"]:
        there = set(HERE.glob("*/*.json"))
        wrong = [path for path, text in written.items() if path not in there or path.read_text() != text]
        wrong += sorted(there - written.keys())
        for path in wrong:
            print(f"{path} is not what generate.py writes", file=sys.stderr)
        return bool(wrong)
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return False


if __name__ == "__main__":
    sys.exit(main())
