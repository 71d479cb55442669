# Runs a program on a terminal of its own until it has printed WORD, interrupts it, and prints all that it said
# (with escapes shown) and how it ended.
import os
import pty
import sys

word, program = sys.argv[1].encode(), sys.argv[2:]
child, terminal = pty.fork()
if child == 0:
    os.execvp(program[0], program)
said = b""
while word not in said:
    said += os.read(terminal, 65536)
os.write(terminal, b"\x03")
try:
    while more := os.read(terminal, 65536):
        said += more
except OSError:
    # A terminal whose last program has ended.
    pass
print(repr(said.decode()))
print("ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
