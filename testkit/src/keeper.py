# Runs a program and is the parent of all that it leaves behind: daemons that fork away from it stay below this
# process (PR_SET_CHILD_SUBREAPER). Ends when none is left. At SIGTERM, which also comes when the test dies
# (PR_SET_PDEATHSIG), all of them are killed first.
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

libc = ctypes.CDLL(None, use_errno=True)


def control(option, value):
    if libc.prctl(option, value, 0, 0, 0) != 0:
        sys.exit("prctl: " + os.strerror(ctypes.get_errno()))


def children():
    with open(f"/proc/self/task/{os.getpid()}/children") as listed:
        return [int(pid) for pid in listed.read().split()]


def end(number, frame):
    # The children of one that is killed become ours, so that the generations come one after the other.
    while True:
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            os._exit(143)


signal.signal(signal.SIGTERM, end)
control(PR_SET_CHILD_SUBREAPER, 1)
parent = os.getppid()
control(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() != parent:
    sys.exit("the test is gone")
first = os.spawnvp(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
code = 0
while True:
    try:
        pid, status = os.wait()
    except ChildProcessError:
        sys.exit(code)
    if pid == first:
        code = os.waitstatus_to_exitcode(status)
