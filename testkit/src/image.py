# Makes a container image of busybox and the libraries that it needs: with a folder as its argument it writes
# rootfs.tar, the files alone, and image.tar, an OCI image layout with that as its only layer.
import os
import shutil
import subprocess
import sys

NAME = "weft.test/busybox:latest"
COMMANDS = ["cat", "cmp", "httpd", "ip", "ping", "sh", "sleep", "stat", "wget"]

busybox = shutil.which("busybox")
# Of a static busybox ldd says that it has none, and fails.
told = subprocess.run(["ldd", busybox], capture_output=True, text=True).stdout
libraries = [word for word in told.split() if word.startswith("/")]


def read(path):
    with open(path, "rb") as data:
        return data.read()


root = [folder(path) for path in ["bin", "dev", "etc", "proc", "sys", "tmp"]]
root += [file("bin/busybox", read(busybox), 0o755)]
root += [file(library.lstrip("/"), read(library), 0o755) for library in libraries]
root += [link("bin/" + command, "busybox") for command in COMMANDS]
layer = pack(root, 0)
image, _ = archive(NAME, [layer], config={"Entrypoint": ["/bin/sleep", "infinity"], "Env": ["PATH=/bin"]})

for path, data in [("rootfs.tar", layer), ("image.tar", image)]:
    with open(os.path.join(sys.argv[1], path), "wb") as out:
        out.write(data)
