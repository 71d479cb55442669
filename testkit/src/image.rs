//! A container image made on the spot, so that runtimes need no registry: busybox and the libraries that it needs.

use anyhow::Result;

use crate::lab::Place;

/// Makes the image; a few lines that every Debian with Python can run, after those that write Weft's own image.
const SCRIPT: &str = concat!(include_str!("../../packaging/image/oci.py"), include_str!("image.py"));

/// What the image is called.
pub const NAME: &str = "weft.test/busybox:latest";

/// Writes `rootfs.tar` and `image.tar`, an OCI image layout, into a folder of the place.
pub fn write(place: &Place<'_>, folder: &str) -> Result<()> {
    place.exec(&["python3", "-c", SCRIPT, folder])?.ok().map(drop)
}
