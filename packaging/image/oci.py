# Container images by the OCI image specification 1.1, as files and without a container engine: layers, and the image
# layout that holds them, as one tar archive. The same input gives the same octets. What is in an image is its maker's
# business.
import hashlib
import io
import json
import platform
import tarfile

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
LAYOUT = "application/vnd.oci.image."


def folder(path, mode=0o755):
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    return entry, b""


def file(path, data, mode=0o644):
    entry = tarfile.TarInfo(path)
    entry.mode, entry.size = mode, len(data)
    return entry, data


def link(path, target):
    entry = tarfile.TarInfo(path)
    entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
    return entry, b""


# A tar archive of these entries in the order of their paths: all of root's, and of one moment.
def pack(entries, moment):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for entry, content in sorted(entries, key=lambda both: both[0].name):
            entry.mtime, entry.uname, entry.gname = moment, "root", "root"
            tar.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def text(value):
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def describe(kind, data, **more):
    return {"mediaType": LAYOUT + kind, "digest": digest(data), "size": len(data), **more}


# The archive of an image with this full name, and the digest of its manifest. Layers are what pack() gives: they stay
# as they are, because compressed octets differ from one release of the compressor to the next, and registries' clients
# compress what they push. `more` is what the configuration says beside the machine and the layers.
def archive(name, layers, moment=0, **more):
    config = text({
        "architecture": MACHINES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
        **more,
    })
    manifest = text({
        "schemaVersion": 2,
        "mediaType": LAYOUT + "manifest.v1+json",
        "config": describe("config.v1+json", config),
        "layers": [describe("layer.v1.tar", layer) for layer in layers],
    })
    # containerd reads the first, skopeo and its like the second.
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    index = text({
        "schemaVersion": 2,
        "mediaType": LAYOUT + "index.v1+json",
        "manifests": [describe("manifest.v1+json", manifest, annotations=names)],
    })
    entries = [folder("blobs"), folder("blobs/sha256")]
    entries += [file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), file("index.json", index)]
    entries += [file("blobs/" + digest(data).replace(":", "/"), data) for data in [config, manifest, *layers]]
    return pack(entries, moment), digest(manifest)
