//! Netlink attributes as netfilter has them: numbers are in network byte order.

use netlink_packet_core::{NLA_F_NESTED, NlaBuffer, NlasIterator};

/// Length of `struct nlattr`.
const HEADER_LENGTH: usize = 4;

/// Attributes one after the other, each padded to a multiple of four.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    /// All of them.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// Appends octets.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Attributes {
        let start = self.begin(kind);
        self.0.extend(value);
        self.end(start)
    }

    /// Appends a text with its closing zero.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Attributes {
        let start = self.begin(kind);
        self.0.extend(value.as_bytes());
        self.0.push(0);
        self.end(start)
    }

    /// Appends a number of 32 bits.
    pub fn number(&mut self, kind: u16, value: u32) -> &mut Attributes {
        self.put(kind, &value.to_be_bytes())
    }

    /// Appends an attribute that holds attributes: those that `inside` appends.
    pub fn nested(&mut self, kind: u16, inside: impl FnOnce(&mut Attributes)) -> &mut Attributes {
        let start = self.begin(kind | NLA_F_NESTED);
        inside(self);
        self.end(start)
    }

    fn begin(&mut self, kind: u16) -> usize {
        let start = self.0.len();
        self.0.extend([0, 0]);
        self.0.extend(kind.to_ne_bytes());
        start
    }

    fn end(&mut self, start: usize) -> &mut Attributes {
        // Whoever fills an attribute bounds what is inside far below this.
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        debug_assert!(self.0.len() - start >= HEADER_LENGTH);
        self
    }
}

/// The attributes in `octets`, by kind, up to the first that is cut.
pub(crate) fn attributes(octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(octets).map_while(Result::ok).map(|attribute: NlaBuffer<&[u8]>| {
        let (kind, end) = (attribute.kind(), HEADER_LENGTH + attribute.value_length());
        (kind, attribute.into_inner().get(HEADER_LENGTH..end).unwrap_or_default())
    })
}

/// A number of 32 bits.
pub(crate) fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.get(..4)?.try_into().ok()?))
}

/// A text, without its closing zero.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|octet| *octet == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested_as_nft_sends_them() {
        // An element of a map, as nft 1.0.6 sends it: tcp . 80 : 198.18.0.1 . 90.
        let expected = [
            [0x24, 0x00, 0x01, 0x80],
            [0x10, 0x00, 0x01, 0x80],
            [0x0c, 0x00, 0x01, 0x00],
            [0x06, 0x00, 0x00, 0x00],
            [0x00, 0x50, 0x00, 0x00],
            [0x10, 0x00, 0x02, 0x80],
            [0x0c, 0x00, 0x01, 0x00],
            [0xc6, 0x12, 0x00, 0x01],
            [0x00, 0x5a, 0x00, 0x00],
        ];
        let mut made = Attributes::default();
        made.nested(1, |element| {
            element.nested(1, |key| {
                key.put(1, &[6, 0, 0, 0, 0, 80, 0, 0]);
            });
            element.nested(2, |value| {
                value.put(1, &[198, 18, 0, 1, 0, 90, 0, 0]);
            });
        });
        if cfg!(target_endian = "little") {
            assert_eq!(made.octets(), expected.concat());
        }
        let found: Vec<_> = attributes(made.octets()).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(attributes(found[0].1).map(|(kind, _)| kind).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_text_ends_with_zero_and_is_read_without_it() {
        let mut made = Attributes::default();
        made.text(1, "weft").number(2, 0x0102_0304);
        let found: Vec<_> = attributes(made.octets()).collect();
        assert_eq!(found[0], (1, b"weft\0".as_slice()));
        assert_eq!(text(found[0].1), "weft");
        assert_eq!(number(found[1].1), Some(0x0102_0304));
    }

    #[test]
    fn attributes_that_are_cut_end_the_list() {
        let mut made = Attributes::default();
        made.number(1, 7).number(2, 8);
        let octets = made.octets();
        assert_eq!(attributes(&octets[..octets.len() - 1]).count(), 1);
        assert_eq!(number(&[1, 2, 3]), None);
    }
}
