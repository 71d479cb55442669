//! Frames into a port of each kind: `[port][dress: 2 octets][frame]`.

use weft_stack::packet::Offload;

use crate::dress::{self, dress};
use crate::input::Input;
use crate::site::Site;

/// One frame, once for a fabric where nobody is known and once for one where everybody is.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let port = usize::from(input.byte());
    let mut what = Input(input.take(dress::OCTETS));
    let frame = dress(port, &mut what, input.rest().to_vec());
    let mut site = Site::new();
    site.feed(0, port, &frame, Offload::default());
    site.introduce();
    site.feed(1, port, &frame, Offload::default());
}
