# Makes a container image of busybox and the libraries that it needs: image.py FOLDER writes rootfs.tar, the files
# alone, and image.tar, an OCI image layout with that as its only layer.
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile

NAME = "weft.test/busybox:latest"
COMMANDS = ["cat", "cmp", "httpd", "ip", "ping", "sh", "sleep", "stat", "wget"]
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
LAYOUT = "application/vnd.oci.image."

busybox = shutil.which("busybox")
# Of a static busybox ldd says that it has none, and fails.
told = subprocess.run(["ldd", busybox], capture_output=True, text=True).stdout
libraries = [word for word in told.split() if word.startswith("/")]


def archive(write):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        write(tar)
    return data.getvalue()


def root(tar):
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp"]:
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(entry)
    tar.add(os.path.realpath(busybox), "bin/busybox")
    for library in libraries:
        tar.add(os.path.realpath(library), library.lstrip("/"))
    for command in COMMANDS:
        entry = tarfile.TarInfo("bin/" + command)
        entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(entry)


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def describe(kind, data, **more):
    return {"mediaType": LAYOUT + kind, "digest": digest(data), "size": len(data), **more}


layer = archive(root)
config = json.dumps({
    "architecture": MACHINES.get(platform.machine(), platform.machine()),
    "os": "linux",
    "config": {"Entrypoint": ["/bin/sleep", "infinity"], "Env": ["PATH=/bin"]},
    "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
}).encode()
manifest = json.dumps({
    "schemaVersion": 2,
    "mediaType": LAYOUT + "manifest.v1+json",
    "config": describe("config.v1+json", config),
    "layers": [describe("layer.v1.tar", layer)],
}).encode()
name = {"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": "latest"}
index = json.dumps({
    "schemaVersion": 2,
    "manifests": [describe("manifest.v1+json", manifest, annotations=name)],
}).encode()


def image(tar):
    files = [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", index)]
    files += [("blobs/" + digest(data).replace(":", "/"), data) for data in (layer, config, manifest)]
    for path, data in files:
        entry = tarfile.TarInfo(path)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))


for path, data in [("rootfs.tar", layer), ("image.tar", archive(image))]:
    with open(os.path.join(sys.argv[1], path), "wb") as out:
        out.write(data)
