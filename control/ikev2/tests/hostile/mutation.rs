//! Damage to octets, from a seed.

use xswan_simulation::Seeded;

/// Changes a few octets, cuts, doubles, or sets a length field.
pub fn damage(random: &mut Seeded, octets: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        let len = octets.len() as u64;
        let at = random.below(len) as usize;
        match random.below(6) {
            0 if len > 0 => octets[at] = random.next() as u8,
            1 if len > 0 => octets[at] ^= 1 << random.below(8),
            2 => octets.truncate(at),
            3 => {
                let piece: Vec<u8> = octets[at..].iter().take(16).copied().collect();
                octets.extend(piece);
            }
            4 if at + 1 < octets.len() => {
                let value = [0, 1, 4, 7, 8, 0xFF, 0x7FFF, 0xFFFF][random.below(8) as usize];
                octets[at..at + 2].copy_from_slice(&u16::to_be_bytes(value));
            }
            _ => octets.insert(at, random.next() as u8),
        }
    }
}
