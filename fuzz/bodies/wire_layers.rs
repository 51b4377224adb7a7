//! Any bytes through the decoder of a frame's shape.

use xswan_wire::layers;

/// What is found lies within the frame, and bytes behind the packet change nothing.
pub fn run(frame: &[u8]) {
    if let Ok(found) = layers::parse(frame, frame.len()) {
        assert!(found.l3_end() <= frame.len());
        assert!(usize::from(found.l3_offset) <= usize::from(found.l4_offset));
        assert!(usize::from(found.l4_offset) <= frame.len());
        let ports = found.ports(frame);
        let mut padded = frame.to_vec();
        padded.extend([0xa5; 7]);
        let again = layers::parse(padded.as_slice(), padded.len());
        assert_eq!(again.map(|layers| layers.ports(padded.as_slice())), Ok(ports));
    }
    if let Ok(found) = layers::parse_packet(frame, frame.len()) {
        assert!(found.l3_end() <= frame.len());
    }
}
