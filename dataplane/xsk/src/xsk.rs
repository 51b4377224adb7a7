//! The kernel back-end over xsk-rs.
