"""Types commands into the interactive `influx` shell, as a person at a terminal would; prints each answer as an item of a JSON list."""

import json
import os
import pty
import subprocess
import sys

port, *commands = sys.argv[1:]
terminal, side = pty.openpty()
shell = subprocess.Popen(["influx", "-host", "127.0.0.1", "-port", port], stdin=side, stdout=side, stderr=side)
os.close(side)


def until(prompt):
    said = b""
    while not said.endswith(prompt):
        read = os.read(terminal, 65536)
        if not read:
            sys.exit(f"the shell ended: {said!r}")
        said += read
    return said[: -len(prompt)].decode()


until(b"> ")
answers = []
for command in commands:
    os.write(terminal, command.encode() + b"\n")
    # The terminal echoes what is typed.
    answers.append(until(b"\r\n> ").removeprefix(command).replace("\r\n", "\n").strip())
os.write(terminal, b"exit\n")
shell.wait(10)
print(json.dumps(answers))
